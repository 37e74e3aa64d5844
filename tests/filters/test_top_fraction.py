from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from filters.core.declaration import Artefact, Columns, Judgement
from filters.top_fraction import Budget, TopFraction
from tests.filters.examples import columns_for, cut, fit, take, uids
from tests.filters.judging import answers

Scores = list[float | None] | NDArray[Any]


def ranked(scores: Scores, *, uid: pa.Array | None = None, seed: int = 0) -> Columns:
    """The columns that `by: score` reads, for rows of one shard."""
    column = (
        pa.array(scores, from_pandas=False)
        if isinstance(scores, np.ndarray)
        else pa.array(scores, pa.float32())
    )
    count = len(column)
    return {
        "score": column,
        "uid": uids(count, seed) if uid is None else uid,
        "shard_number": pa.array(np.zeros(count, np.int32)),
        "row": pa.array(np.arange(count, dtype=np.int32)),
    }


def judged(columns: Columns, **options: Any) -> Judgement:
    rule = TopFraction(by="score", **options)
    return rule.judge(columns, fit(rule, [columns]))


def kept(columns: Columns, **options: Any) -> list[int]:
    """The rows that stay."""
    return [row for row, answer in enumerate(answers(judged(columns, **options))) if answer]


def best(columns: Columns, wanted: int) -> list[int]:
    """The same by a plain sort: score descending, uid ascending, then shard and row."""
    scores = columns["score"].to_pylist()
    order = sorted(
        (row for row, score in enumerate(scores) if score is not None and score == score),  # noqa: PLR0124
        key=lambda row: (
            -scores[row],
            columns["uid"][row].as_py().lower(),
            columns["shard_number"][row].as_py(),
            columns["row"][row].as_py(),
        ),
    )
    return sorted(order[:wanted])


@pytest.mark.parametrize("partitions", [1, 7, 64])
def test_massive_ties_and_nan_equal_a_full_sort(partitions: int) -> None:
    """Half-precision scores with thousands of ties, cut at every kind of place."""
    generator = np.random.default_rng(11)
    scores = generator.normal(0.25, 0.01, 4000).astype(np.float16).astype(np.float32)
    scores[generator.random(4000) < 0.05] = np.nan
    columns = ranked(scores)
    scored = int(np.count_nonzero(~np.isnan(scores)))
    shuffled = take(columns, generator.permutation(4000))
    borders = np.linspace(0, 4000, partitions + 1).astype(int)
    batches = [cut(shuffled, a, b - a) for a, b in pairwise(borders)]
    for wanted in (1, 2, 999, 2000, scored - 1, scored, scored + 1):
        rule = TopFraction(by="score", samples=wanted)
        answer = rule.judge(columns, fit(rule, batches))
        passes = np.flatnonzero(answer.passes & ~answer.null).tolist()
        assert len(passes) == min(wanted, scored)
        assert passes == best(columns, wanted), wanted


def test_the_bound_is_the_lowest_score_kept() -> None:
    judgement = judged(ranked([0.3, 0.1, 0.2, 0.4]), samples=2)
    assert answers(judgement) == [True, False, False, True]
    assert judgement.bound == "at least 0.300000012, the best 2 of the survivors"


def test_ties_go_to_the_smaller_uid_in_either_case() -> None:
    uid = pa.array(["c" * 32, "B" * 32, "a" * 32, "0" * 31 + "F"])
    assert kept(ranked([1.0, 1.0, 1.0, 1.0], uid=uid), samples=2) == [2, 3]


def test_ties_of_equal_uids_go_to_the_earlier_shard_and_row() -> None:
    columns = ranked([1.0] * 5, uid=pa.array(["a" * 32] * 5))
    columns["shard_number"] = pa.array([2, 1, 1, 0, 70_000], pa.int32())
    columns["row"] = pa.array([0, 70_000, 4, 9, 0], pa.int32())
    assert [kept(columns, samples=count) for count in range(6)] == [
        [], [3], [2, 3], [1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4],
    ]  # fmt: skip


def test_zero_and_minus_zero_tie() -> None:
    uid = pa.array([f"{number:032x}" for number in (3, 2, 1)])
    assert kept(ranked([0.0, -0.0, 0.0], uid=uid), samples=2) == [1, 2]


def test_infinities_are_scores_and_nan_is_none() -> None:
    columns = ranked([float("-inf"), None, float("nan"), float("inf"), 0.0])
    assert answers(judged(columns, keep=1)) == [True, None, None, True, True]
    assert kept(columns, samples=1) == [3]
    assert kept(columns, samples=2) == [3, 4]
    assert judged(columns, keep=1).bound == "at least -inf, the best 3 of the survivors"


@pytest.mark.parametrize(
    ("share", "rows", "wanted"),
    [
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.3, 10, 3),
        (0.1, 9, 0),
        (0.7, 10, 7),
        (1e-05, 100_000, 1),
        (0.999, 1, 0),
    ],
)
def test_the_share_is_the_decimal_that_was_written(share: float, rows: int, wanted: int) -> None:
    """0.29 x 100 is 28.999999999999996 in floating point, and 29 to the person who wrote it."""
    assert len(kept(ranked(np.linspace(0, 1, rows, dtype=np.float32)), keep=share)) == wanted


def test_only_rows_with_a_score_count_for_the_share() -> None:
    columns = ranked([0.1, None, 0.2, None, 0.3, 0.4])
    assert kept(columns, keep=0.5) == [4, 5]


def test_nothing_and_everything() -> None:
    columns = ranked([0.1, None, 0.2])
    assert answers(judged(columns, keep=0)) == [False, None, False]
    assert judged(columns, keep=0).bound == judged(columns, samples=0).bound == "none is kept"
    assert answers(judged(columns, keep=1)) == answers(judged(columns, samples=99)) == [True, None, True]
    assert answers(judged(ranked([None, None]), keep=1)) == [None, None]


def test_the_population_is_what_the_recipe_says() -> None:
    assert TopFraction(by="score", keep=0.1).population() == "survivors"
    assert TopFraction(by="score", keep=0.1, of="pool").population() == "pool"
    assert judged(ranked([1.0, 2.0]), samples=1, of="pool").bound == "at least 2, the best 1 of the pool"


def test_rows_outside_the_population_are_judged_by_the_same_bound() -> None:
    """A fit on survivors judges every row of the pool, also those that were dropped before."""
    rule = TopFraction(by="score", keep=0.5)
    artefact = fit(rule, [ranked([0.1, 0.2, 0.3, 0.4])])
    assert answers(rule.judge(ranked([0.9, 0.05, None, 0.3]), artefact)) == [True, False, None, True]


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8, np.float64, np.float16])
def test_any_number_can_be_ranked(kind: type) -> None:
    assert kept(ranked(np.array([3, 200, 0, 7], kind)), samples=2) == [1, 3]


def test_numbers_beyond_float32_are_ranked_as_infinite() -> None:
    assert kept(ranked(np.array([1e300, 1.0, -1e300])), samples=1) == [0]


def test_a_column_that_is_no_number_is_refused_before_any_work() -> None:
    rule = TopFraction(by="caption", keep=0.5)
    with pytest.raises(ValueError, match="column 'caption' holds string, but this filter needs numbers"):
        rule.check({"caption": pa.string()})
    rule.check({"caption": pa.float16()})
    rule.check({"caption": pa.uint8()})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "give one of keep"),
        ({"keep": 0.5, "samples": 3}, "give one of keep"),
        ({"keep": 0.5, "of_pool": 0.5}, "give one of keep"),
        ({"samples": 5, "of_pool": 0.5}, "give one of keep"),
        ({"of_pool": 0.5, "datacomp_compat": True}, "datacomp_compat needs keep"),
        ({"of_pool": 1.1}, "less than or equal to 1"),
        ({"keep": 0.5, "target": "t.npy"}, "rank by norm_sim or norm_sim_NAME, not score"),
        ({"samples": 3, "datacomp_compat": True}, "datacomp_compat needs keep"),
        ({"keep": 1.1}, "less than or equal to 1"),
        ({"samples": -1}, "greater than or equal to 0"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TopFraction(by="score", **options)


# --- a share of all that was read


@pytest.mark.parametrize(
    ("share", "pool_rows", "wanted"),
    [(0.2, 10, 2), (0.29, 100, 4), (0.57, 7, 3), (0, 50, 0), (1, 50, 4), (0.2, 4, 0)],
)
def test_a_share_of_the_pool_counts_every_row_read(share: float, pool_rows: int, wanted: int) -> None:
    """Five survivors, one of them without a score."""
    columns = ranked([0.1, 0.4, None, 0.3, 0.2])
    rule = TopFraction(by="score", of_pool=share)
    artefact = finished(rule, rule.start_on(pool_rows), columns)
    judgement = rule.judge(columns, artefact)
    assert np.flatnonzero(judgement.passes & ~judgement.null).tolist() == best(columns, wanted)
    assert len(best(columns, wanted)) == wanted
    if wanted:
        assert judgement.bound.endswith(
            f"the best {wanted} of the survivors, {share:g} of all {pool_rows} read"
        )


def test_a_share_of_a_pool_without_survivors_or_rows_keeps_none() -> None:
    rule = TopFraction(by="score", of_pool=0.5)
    for pool_rows in (0, 9):
        artefact = rule.advance(rule.start_on(pool_rows), None)
        assert artefact["complete"]
        assert answers(rule.judge(ranked([0.5, None]), artefact)) == [False, None]


def test_only_a_share_of_the_pool_needs_to_know_its_size() -> None:
    assert TopFraction(by="score", keep=0.5).start_on(9) == TopFraction(by="score", keep=0.5).start()


def finished(rule: TopFraction, artefact: Artefact, columns: Columns) -> Artefact:
    while not rule.complete(artefact):
        artefact = rule.advance(artefact, rule.accumulate(artefact, columns))
    return artefact


# --- a target of NormSim


def test_a_target_brings_its_measure() -> None:
    rule = TopFraction.model_validate({"by": "norm_sim_coco", "keep": 0.5, "target": ["a.npy", "b.npz"]})
    assert rule.measures() == {"norm_sim_coco": {"measure": "norm_sim", "target": ("a.npy", "b.npz")}}
    assert TopFraction(by="norm_sim", keep=0.5).measures() == {}


def test_a_target_lies_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "target.npy").write_bytes(b"")
    rule = TopFraction(by="norm_sim", keep=0.5, target="target.npy")
    assert rule.located(tmp_path).target == str(tmp_path / "target.npy")
    assert rule.located(tmp_path / "elsewhere").target == "target.npy"
    assert TopFraction(by="norm_sim", keep=0.5).located(tmp_path).target is None


@pytest.mark.parametrize("by", ["clip_cosine", "norm_simx", "my_norm_sim", "s_clip_loss"])
def test_a_target_goes_with_norm_sim_only(by: str) -> None:
    with pytest.raises(ValidationError, match=f"rank by norm_sim or norm_sim_NAME, not {by}"):
        TopFraction(by=by, keep=0.5, target="target.npy")


# --- DataComp's own rule


def datacomp(scores: NDArray[np.float32], share: float) -> list[int]:
    """DataComp's own rule: the element at int(N x share) of the descending scores, inclusive."""
    descending = np.sort(scores)[::-1]
    return np.flatnonzero(scores >= descending[int(len(scores) * share)]).tolist()


def test_datacomp_keeps_one_more() -> None:
    distinct = np.random.default_rng(1).permutation(2000).astype(np.float32)
    assert len(kept(ranked(distinct), keep=0.3, datacomp_compat=True)) == 601
    assert len(kept(ranked(distinct), keep=0.3)) == 600


@pytest.mark.parametrize("share", [0.0, 0.1, 0.29, 0.3, 0.75, 0.9995])
def test_datacomp_keeps_every_tie(share: float) -> None:
    generator = np.random.default_rng(2)
    scores = generator.normal(0.25, 0.05, 2000).astype(np.float16).astype(np.float32)
    rows = kept(ranked(scores), keep=share, datacomp_compat=True)
    assert rows == datacomp(scores, share)
    assert len(rows) >= int(2000 * share) + 1


def test_datacomp_counts_rows_without_a_score() -> None:
    """N is every row; the scores of those without one sort last."""
    columns = ranked([0.4, 0.3, 0.2, None, None, None, None, None, None, None])
    assert kept(columns, keep=0.2, datacomp_compat=True) == [0, 1, 2]
    assert kept(columns, keep=0.9, datacomp_compat=True) == [0, 1, 2]


def test_datacomp_with_the_whole_pool_does_not_fail() -> None:
    """The original raises IndexError at a fraction of 1."""
    assert kept(ranked([0.1, 0.3, 0.2]), keep=1, datacomp_compat=True) == [0, 1, 2]
    assert kept(ranked([]), keep=1, datacomp_compat=True) == []


def test_datacomp_never_needs_more_than_the_score() -> None:
    rule = TopFraction(by="score", keep=0.5, datacomp_compat=True)
    artefact = fit(rule, [ranked([1.0] * 9)])
    assert len(artefact["prefix"]) <= 2
    assert json.loads(json.dumps(artefact))["bound"] == 1.0


# --- a training's length instead of a share


@pytest.mark.parametrize(
    ("written", "seen"),
    [(128_000_000, 128_000_000), ("128M", 128_000_000), ("1.5 B", 1_500_000_000), ("64k", 64_000)],
)
def test_a_budget_may_be_written_short(written: object, seen: int) -> None:
    rule = TopFraction.model_validate({"by": "clip_cosine", "keep": {"for_samples_seen": written}})
    assert isinstance(rule.keep, Budget)
    assert rule.keep.for_samples_seen == seen


def test_the_published_choices_follow_from_the_budget() -> None:
    pool = 128_000_000
    shares = {
        seen: Budget.model_validate({"for_samples_seen": seen}).choose(pool).keep
        for seen in ("32M", "128M", "640M")
    }
    assert shares == {"32M": 0.1, "128M": 0.2, "640M": 0.3}
    utility = Budget.model_validate({"for_samples_seen": "640M", "fits": "medium_utility"})
    assert utility.choose(pool).keep == 0.2


def test_a_budget_keeps_exactly_what_it_chose_and_says_how_often_that_is_seen() -> None:
    rule = TopFraction.model_validate({"by": "clip_cosine", "keep": {"for_samples_seen": 2000}})
    columns = columns_for(rule, 1000)
    artefact = fit(rule, [columns])
    kept = int(rule.judge(columns, artefact).passes.sum())
    assert kept == artefact["wanted"] > 0
    assert artefact["repetitions"] == pytest.approx(2000 / kept)
    errors = artefact["predicted_errors"]
    best = min(errors, key=lambda share: errors[share])
    assert kept == int(float(best) * artefact["scored"])
    guard = TopFraction.model_validate(
        {"by": "clip_cosine", "keep": {"for_samples_seen": 2000, "fits": "none"}}
    )
    found = fit(guard, [columns])
    assert (found["wanted"], found["predicted_errors"]) == (500, {})


def test_a_budget_that_makes_no_sense_is_refused() -> None:
    for keep in ({"for_samples_seen": 0}, {"for_samples_seen": "many"}, {"samples_seen": 3}, 1.5):
        with pytest.raises(ValidationError):
            TopFraction.model_validate({"by": "clip_cosine", "keep": keep})
    with pytest.raises(ValidationError, match="datacomp_compat needs keep"):
        TopFraction.model_validate({"by": "x", "keep": {"for_samples_seen": 5}, "datacomp_compat": True})
