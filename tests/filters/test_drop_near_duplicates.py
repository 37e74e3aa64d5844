"""A threshold on stored cosines, named or found; comparing is tested with the relation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.core.decide import Step
from filters.drop_near_duplicates import DropNearDuplicates
from tests.filters.examples import fit
from tests.filters.judging import answers

JUST_BELOW = float(np.nextafter(np.float32(1), np.float32(0)))


def judged(rule: DropNearDuplicates, cosines: list[float | None]) -> list[bool | None]:
    columns = {
        "step/nearest_cosine": pa.array(cosines, pa.float32()),
        "step/duplicate_of": pa.nulls(len(cosines), pa.string()),
    }
    return answers(Step("step", rule, fit(rule, [columns])).judge(columns))


def test_above_the_bound_goes_and_at_it_stays() -> None:
    rule = DropNearDuplicates(cosine_above=0.5)
    assert judged(rule, [0, 0.5, 0.5000001, 1, None, float("nan")]) == [True, True, False, False, None, None]


def test_the_bound_is_compared_in_float64() -> None:
    # 0.95 as float32 is 0.94999998807: below the bound that the recipe names.
    assert judged(DropNearDuplicates(cosine_above=0.95), [0.95]) == [True]
    assert judged(DropNearDuplicates(cosine_above=0.9499999880790710), [0.95]) == [True]
    assert judged(DropNearDuplicates(cosine_above=0.9499999880790709), [0.95]) == [False]


def test_a_bound_of_one_drops_identical_embeddings_only() -> None:
    assert judged(DropNearDuplicates(cosine_above=1), [1, JUST_BELOW, 0.999]) == [False, True, True]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, [False] * 5),
        (0.19, [False] * 5),  # of five rows not one
        (0.2, [True, False, False, False, False]),
        (0.6, [True, True, True, False, False]),
        (1.0, [True] * 5),
    ],
)
def test_the_threshold_that_keeps_a_share(share: float, expected: list[bool]) -> None:
    rule = DropNearDuplicates(target_keep=share)
    assert judged(rule, [0, 0.3, 0.5, 0.9, 0.95]) == expected
    assert judged(rule, [0, 0.3, 0.5, 0.9, 0.95, None]) == [*expected, None]


def test_samples_at_the_found_threshold_all_stay() -> None:
    rule = DropNearDuplicates(target_keep=0.5)
    assert judged(rule, [0.9, 0.9, 0.9, 0.1]) == [True] * 4
    artefact = fit(
        rule, [{"step/nearest_cosine": pa.array([0.9, 0.1, 0.2]), "step/duplicate_of": pa.nulls(3)}]
    )
    assert artefact["threshold"] == pytest.approx(0.1)
    assert (artefact["compared"], artefact["wanted"]) == (3, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either cosine_above"),
        ({"cosine_above": 0.9, "target_keep": 0.5}, "either cosine_above"),
        ({"cosine_above": 0.9, "keep": "best"}, "keep: best needs by"),
        ({"cosine_above": 0.9, "by": "clip_cosine"}, "by needs keep: best"),
        ({"cosine_above": 1.5}, "less than or equal to 1"),
        ({"cosine_above": 0.9, "clusters": 0}, "greater than or equal to 1"),
        ({"cosine_above": 0.9, "keep": "first"}, "'farthest', 'nearest', 'random' or 'best'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DropNearDuplicates(**options)


def test_thresholds_are_no_part_of_what_is_compared() -> None:
    names = DropNearDuplicates.relation_options
    assert set(DropNearDuplicates.model_fields) - set(names) == {
        "cosine_above",
        "target_keep",
        "on_null",
        "only_tag",
    }
    assert DropNearDuplicates(cosine_above=0.9, embedding="dino_image").embeddings() == ("dino_image",)
