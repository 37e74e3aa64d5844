"""Levels between frozen percentiles: exact edges, and never a level for what has no score."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from filters.alignment_levels import AlignmentLevels
from filters.core.decide import Step, decide, survivors
from filters.core.declaration import Columns
from filters.core.levels import CC3M, equal_width
from tests.filters.examples import fit, take, uids

NAN, INFINITE = float("nan"), float("inf")


def column(values: Any) -> Columns:
    return {"clip_cosine": pa.array(values, pa.float32(), from_pandas=True)}


def levels(values: Any, pool: Any = None, **options: Any) -> list[int | None]:
    """The level of each of these scores, with edges placed by a pool (by themselves, if None)."""
    rule = AlignmentLevels(**options)
    artefact = fit(rule, [column(values if pool is None else pool)])
    found = rule.judge(column(values), artefact).tags["alignment_level"]
    return [None if value != value else int(value) for value in found.tolist()]  # noqa: PLR0124  (NaN)


def normal(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.25, 0.05, rows).astype(np.float32)


# --- the edges


@pytest.mark.parametrize("partitions", [1, 7])
def test_the_ends_are_exact_percentiles_in_any_partition(partitions: int) -> None:
    """Half-precision scores, so that many are equal, cut anywhere."""
    scores = normal(5000).astype(np.float16).astype(np.float32)
    whole = np.sort(scores)
    batches = [
        take(column(scores), part)
        for part in np.array_split(np.random.default_rng(1).permutation(5000), partitions)
    ]
    for outside, beyond in ((0.001, 5), (0.01, 50), (0, 0), (0.29, 1450)):
        artefact = fit(AlignmentLevels(outside=outside), batches)
        assert (artefact["low"], artefact["high"]) == (whole[beyond], whole[4999 - beyond])
        assert artefact["edges"] == list(equal_width(float(whole[beyond]), float(whole[4999 - beyond])).edges)


def test_one_outlier_shifts_no_level() -> None:
    scores = normal(4000)
    plain = levels(scores)
    with_outlier = levels(scores, np.append(scores, 1.0))
    assert np.mean(np.array(plain) == np.array(with_outlier)) > 0.97
    extremes = levels(scores, np.append(scores, 1.0), outside=0)
    assert np.mean(np.array(plain) == np.array(extremes)) < 0.6


def test_infinite_scores_place_no_edge() -> None:
    scores = np.append(normal(100), [INFINITE, -INFINITE])
    artefact = fit(AlignmentLevels(outside=0), [column(scores)])
    assert (artefact["low"], artefact["high"]) == (scores[:100].min(), scores[:100].max())
    assert (artefact["rows"], artefact["scored"]) == (102, 102)


def test_the_artefact_is_small() -> None:
    artefact = fit(AlignmentLevels(levels=127), [column(normal(1000))])
    assert len(artefact["edges"]) == 128
    assert len(json.dumps(artefact)) < 4000


# --- the levels


def test_an_edge_belongs_to_the_upper_level_and_what_lies_beyond_to_the_outer_ones() -> None:
    assert levels([0, 1, 2, 3, 4], levels=4, outside=0) == [0, 1, 2, 3, 3]
    asked = [-INFINITE, -9, 0, 0.999, 1, 2.5, 4, 99, INFINITE]
    assert levels(asked, [0, 4, 1], levels=4, outside=0) == [0, 0, 0, 0, 1, 2, 3, 3, 3]


def test_the_published_edges_follow_from_the_published_extremes() -> None:
    artefact = fit(AlignmentLevels(outside=0), [column(np.array([CC3M[0], CC3M[-1], 0.1], np.float32))])
    assert np.allclose(artefact["edges"], CC3M, atol=3e-8)


def test_levels_rise_with_the_score_and_all_are_used() -> None:
    scores = np.sort(normal(3000))
    found = levels(scores)
    assert all(low <= high for low, high in pairwise(found))  # type: ignore[operator]
    assert set(found) == set(range(8))


def test_a_missing_score_has_no_level_never_the_highest() -> None:
    assert levels([0.1, NAN, 0.4, None], outside=0) == [0, None, 7, None]


def test_any_number_has_levels() -> None:
    rule = AlignmentLevels(by="width", levels=2, outside=0)
    widths: Columns = {"width": pa.array([100, None, 300, 199, 200], pa.int32())}
    judgement = rule.judge(widths, fit(rule, [widths]))
    assert np.array_equal(judgement.tags["alignment_level"], [0, NAN, 1, 0, 1], equal_nan=True)
    with pytest.raises(ValueError, match="needs numbers"):
        rule.check({"width": pa.string()})


# --- no levels


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "no sample has a finite score"),
        ([NAN, None], "no sample has a finite score"),
        ([INFINITE, -INFINITE], "no sample has a finite score"),
        ([0.3], "the scores are all equal, or nearly"),
        ([0.3] * 50 + [NAN], "the scores are all equal, or nearly"),
        ([0.3] * 4000 + [0.1, 0.9], "the scores are all equal, or nearly"),
    ],
)
def test_where_there_are_no_edges_there_is_no_level_but_a_reason(values: Any, reason: str) -> None:
    rule = AlignmentLevels()
    artefact = fit(rule, [column(values)])
    judgement = rule.judge(column([0.1, 0.3, NAN]), artefact)
    assert np.isnan(judgement.tags["alignment_level"]).all()
    assert judgement.null.all()
    assert judgement.bound == f"no levels of clip_cosine: {reason}"


def test_two_scores_are_the_ends() -> None:
    assert levels([0.1, 0.3]) == [0, 7]


# --- in a ledger


@pytest.mark.parametrize("on_null", ["quarantine", "drop", "keep"])
def test_it_drops_nothing_and_the_ledger_has_the_level_of_every_row(on_null: Any) -> None:
    scores = [0.1, NAN, 0.3, 0.5, 0.4]
    columns = {**column(scores), "uid": uids(5), "failure": pa.array([None] * 4 + ["timeout"], pa.string())}
    rule = AlignmentLevels(levels=4, outside=0, on_null=on_null)
    step = Step("alignment_levels", rule, fit(rule, [columns]))
    table = decide(columns, [step])
    assert table["verdict"].to_pylist() == ["keep"] * 4 + ["failed"]
    assert table["alignment_level"].to_pylist() == [0, None, 2, 3, 3]
    assert table.schema.field("alignment_level").type == pa.int8()
    assert survivors(columns, [step]).tolist() == [True] * 4 + [False]


def test_it_says_where_the_levels_lie() -> None:
    rule = AlignmentLevels(levels=4, outside=0)
    artefact = fit(rule, [column([0.1, 0.5])])
    assert rule.judge(column([]), artefact).bound == "4 levels of clip_cosine from 0.1 to 0.5"
    assert (rule.population(), AlignmentLevels(of="survivors").population()) == ("pool", "survivors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 1}, "greater than or equal to 2"),
        ({"levels": 128}, "less than or equal to 127"),
        ({"outside": 0.5}, "less than 0.5"),
        ({"outside": -0.1}, "greater than or equal to 0"),
        ({"only_tag": False}, "should be True"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AlignmentLevels(**options)
