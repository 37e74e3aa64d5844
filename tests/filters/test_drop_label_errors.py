"""Which stored answers are label errors; finding them is tested with the relation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.core.catalogue import filter_kind
from filters.core.declaration import Judgement
from filters.drop_label_errors import DropLabelErrors
from tests.filters.judging import answers

ISSUES, WRONG = [True, False, True, None, None], [0.9, 0.8, 0.2, None, 0.5]


def judged(**options: Any) -> Judgement:
    rule = DropLabelErrors(labels="concepts.yaml", **options)
    return rule.judge({"issue": pa.array(ISSUES, pa.bool_()), "p_mislabelled": pa.array(WRONG, pa.float32())})


def test_the_rule_s_issues_are_dropped() -> None:
    found = judged()
    assert answers(found) == [False, True, False, None, None]
    assert found.bound == "no label error by prune_by_noise_rate"


def test_a_bound_judges_by_itself() -> None:
    found = judged(method="p_mislabelled", p_above=0.8)
    assert answers(found) == [False, True, True, None, True]  # 0.8 is not above 0.8
    assert found.bound == "p_mislabelled at most 0.8"


def test_p_clean_is_stated_of_a_single_label() -> None:
    assert np.allclose(judged().tags["p_clean"], [0.1, 0.2, 0.8, np.nan, 0.5], equal_nan=True)
    several = judged(multi_label=True, method="confident_learning")
    assert np.isnan(several.tags["p_clean"]).all()


def test_what_can_t_be_judged_stays_unless_the_recipe_says_otherwise() -> None:
    assert DropLabelErrors(labels="a.yaml").on_null == "keep"
    assert DropLabelErrors(labels="a.yaml", on_null="quarantine").on_null == "quarantine"


def test_what_is_read_and_compared_depends_on_the_options() -> None:
    one, several = (
        DropLabelErrors(labels="a"),
        DropLabelErrors(labels="a", multi_label=True, method="p_mislabelled"),
    )
    assert (one.relation, several.relation) == ("label_errors", "label_errors_multi")
    assert filter_kind(DropLabelErrors) == filter_kind(several) == "relational"
    assert DropLabelErrors(labels="a", encoder="dfn").embeddings() == ("dfn_image",)
    assert DropLabelErrors(probabilities="p.parquet").embeddings() == ()
    assert several.relation_reads == ("p_mislabelled",)


def test_files_lie_beside_the_recipe(tmp_path: Path) -> None:
    for name in ("concepts.yaml", "a.parquet"):
        (tmp_path / name).touch()
    rule = DropLabelErrors(labels="concepts.yaml", probabilities=("*.parquet", "s3://b/c.parquet"))
    found = rule.located(tmp_path)
    assert found.labels == str(tmp_path / "concepts.yaml")
    assert found.probabilities == (str(tmp_path / "*.parquet"), "s3://b/c.parquet")
    assert DropLabelErrors(labels="none.yaml").located(tmp_path).labels == "none.yaml"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"give labels \(a vocabulary\), probabilities \(Parquet files\), or both"),
        ({"labels": "a", "method": "guess"}, "method"),
        ({"labels": "a", "temperature": -1}, "temperature -1 must be above 0, or calibrated, or model"),
        ({"probabilities": "p", "temperature": 0.1}, "temperature is for zero-shot probabilities"),
        (
            {"labels": "a", "probabilities": "p", "multi_label": True, "method": "both"},
            "leave out probabilities",
        ),
        ({"labels": "a", "multi_label": True}, "with multi_label the method is one of confident_learning"),
        ({"labels": "a", "p_above": 1}, "p_above"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DropLabelErrors(**options)
