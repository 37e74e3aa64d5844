"""Tags are columns of the ledger: their types, their nulls, and what several filters say of one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from filters.alignment_levels import AlignmentLevels
from filters.core.catalogue import filter_names, find_filter
from filters.core.tags import TAGS, declared_tags, tag_columns
from filters.drop_mismatched import DropMismatched
from filters.min_side_pixels import MinSidePixels

NAN = float("nan")


def test_every_filter_declares_tags_that_are_known() -> None:
    assert {tag for name in filter_names() for tag in find_filter(name).tags} == set(TAGS)


def test_tags_are_declared_once_in_the_ledger_s_order() -> None:
    rules = [AlignmentLevels(), MinSidePixels(at_least=1), DropMismatched(), DropMismatched(model="beta")]
    assert declared_tags(rules) == ("p_clean", "alignment_level")
    assert declared_tags([]) == ()


def test_the_lowest_that_a_filter_says_counts_and_nan_says_nothing() -> None:
    one, other = np.array([0.9, NAN, 0.2, NAN]), np.array([0.4, 0.7, NAN, NAN], np.float32)
    for stated in ([one, other], [other, one]):
        column = tag_columns({"p_clean": stated})["p_clean"]
        assert column.type == pa.float32()
        assert column.to_pylist() == pytest.approx([np.float32(0.4), np.float32(0.7), np.float32(0.2), None])


def test_levels_are_small_integers() -> None:
    found = tag_columns({"alignment_level": [np.array([0.0, 126.0, NAN])], "p_clean": [np.zeros(3)]})
    assert list(found) == ["p_clean", "alignment_level"]
    assert found["alignment_level"].type == pa.int8()
    assert found["alignment_level"].to_pylist() == [0, 126, None]


def test_no_rows_have_columns_of_the_same_types() -> None:
    empty = tag_columns({name: [np.empty(0)] for name in TAGS})
    assert {name: column.type for name, column in empty.items()} == {n: t.type for n, t in TAGS.items()}
    assert tag_columns({}) == {}
