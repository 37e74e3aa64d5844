"""Answers: read and checked against the draw, and what follows from them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from curate.audit import score_audit, write_audit
from curate.audit.answers import (
    SampleRow,
    answers_of,
    count_answers,
    find_draw,
    read_sample,
    sample_csv,
    sample_row,
)
from curate.audit.draw import draw
from curate.audit.result import AuditResult, audit_result, audited_csv
from curate.query import Decision
from filters.core.answers import read_answers
from filters.core.errors import QueryError, StoreError
from filters.core.uids import format_uids
from tests.audit.conftest import World, make_world
from tests.pools import photo, sample
from tests.report.conftest import taken

ONE, TWO, OTHER = (digit * 32 for digit in "12f")
ROWS = [
    SampleRow(ONE, "a", "keep", 0.5, "keep", ""),
    SampleRow(TWO, "b", "drop by small", 1.0, "drop", "small"),
]


def said(path: Path, content: str | bytes) -> dict[str, bool]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return answers_of(path, ROWS, "audit/tiny-2-0")


@pytest.mark.parametrize(
    ("word", "ok"),
    [("1", True), ("0", False), ("true", True), ("False", False), (" YES ", True), ("no", False)],
)
def test_answers_are_numbers_or_words(answers_file: Path, word: str, ok: bool) -> None:  # noqa: FBT001
    assert said(answers_file, f"uid,ok\n{ONE},{word}\n") == {ONE: ok}


def test_other_columns_order_repeats_and_a_mark_at_the_start_do_no_harm(answers_file: Path) -> None:
    text = f"\ufeffok,note,uid\r\n1,good,{ONE.upper()}\r\n1,again,{ONE}\r\n"
    assert said(answers_file, text) == {ONE: True}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            f"uid,ok\n{ONE},1\n{OTHER},0\n",
            rf"answers.csv, line 3: uid {OTHER} is not in the draw audit/tiny-2-0: give",
        ),
        (
            f"uid,ok\n{ONE},1\n{TWO},0\n{ONE},0\n",
            rf"lines 2 and 4: uid {ONE} is both ok and not ok: keep one answer",
        ),
        (f"uid,good\n{ONE},1\n", "line 1: .*columns uid and ok.* not uid, good"),
        (f"uid;ok\n{ONE};1\n", "line 1: .*columns uid and ok.* not uid;ok"),
        (f"uid,ok\n{ONE},maybe\n", "line 2: ok is .* not 'maybe'"),
        ("uid,ok\nxyz,1\n", "line 2: a uid is 32 hex digits, not 'xyz'"),
        ("uid,ok\n", "holds no answers: open audit/tiny-2-0/index.html"),
        ("", "columns uid and ok.* not none"),
        (b"PK\x03\x04\xff\xfe\x00", "is no CSV file in UTF-8"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(answers_file: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        said(answers_file, content)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"can't read the answers .*nowhere.csv: No such file"):
        answers_of(tmp_path / "nowhere.csv", ROWS, "audit/tiny-2-0")


def test_an_answer_counts_for_every_copy_and_missing_ones_are_unanswered() -> None:
    rows = [SampleRow(uid, "k", "keep", 0.25, "keep", "") for uid in (ONE, ONE, TWO)]
    (found,) = count_answers(rows, {ONE: False})
    assert (found.rows, found.drawn, found.answered, found.bad) == (12, 3, 2, 2)


# --- what follows, on a pool whose truth is known

FILTERS = ("small", "wrong")
SIZES = {
    (0, False): (2400, 0.03),
    (0, True): (90, 0.3),
    (1, False): (120, 0.05),
    (1, True): (30, 0.1),
    (2, False): (40, 0.4),
    (3, False): (240, 0.95),
    (3, True): (60, 0.6),
}


def sampled(world: World, seed: int, budget: int = 150) -> tuple[list[SampleRow], dict[str, bool]]:
    """The rows of a draw as sample.csv has them, and the true answers."""
    drawn = draw(world.candidates(budget, seed))
    rows = [sample_row(one, world.uid(one), "k") for one in drawn]
    return rows, {world.uid(one): not world.bad[one.row] for one in drawn}


def scored(rows: Iterable[SampleRow], answers: dict[str, bool]) -> AuditResult:
    return audit_result(count_answers(rows, answers), FILTERS)


def truths(world: World) -> dict[str, float]:
    group, bad = world.codes // 4, world.bad
    stopped = group > 0
    return {
        "kept_bad": bad[~stopped].mean(),
        "stopped_bad": bad[stopped].mean(),
        "pool_bad": bad.mean(),
        "bad_stopped": stopped[bad].mean(),
        "good_lost": stopped[~bad].mean(),
        "small drop": bad[group == 1].mean(),
        "small quarantine": bad[group == 2].mean(),
        "wrong drop": bad[group == 3].mean(),
        "passed small": bad[(group == 0) | (group == 3)].mean(),
        "passed wrong": bad[~stopped].mean(),
    }


def estimates(result: AuditResult) -> dict[str, tuple[float, float, float]]:
    found = {
        name: getattr(result, name)
        for name in ("kept_bad", "stopped_bad", "pool_bad", "bad_stopped", "good_lost")
    }
    for one in result.groups:
        found[f"{one.dropped_by} {one.verdict}"] = one.precision
        found[f"passed {one.dropped_by}"] = one.missed
    return {name: (one.share, one.low, one.high) for name, one in found.items()}


@pytest.mark.parametrize("silent", [False, True])
def test_estimates_over_seeds_meet_the_truth_and_intervals_cover_it(silent: bool) -> None:  # noqa: FBT001
    """Whoever leaves half of the borderline samples open distorts nothing, within a stratum at random."""
    world = make_world(SIZES)
    truth = truths(world)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in truth}
    for seed in range(80):
        rows, answers = sampled(world, seed)
        if silent:
            left_open = {row.uid for at, row in enumerate(rows) if "borderline" in row.stratum and at % 2}
            answers = {uid: ok for uid, ok in answers.items() if uid not in left_open}
        for name, one in estimates(scored(rows, answers)).items():
            found[name].append(one)
    for name, true in truth.items():
        shares = np.array([share for share, _, _ in found[name]])
        assert abs(shares.mean() - true) <= 0.4 * shares.std() + 1e-12, name
        assert np.mean([low - 1e-9 <= true <= high + 1e-9 for _, low, high in found[name]]) >= 0.9, name


def test_the_plain_share_of_the_answers_would_be_wrong() -> None:
    world = make_world(SIZES)
    plain = np.mean([np.mean([not ok for ok in sampled(world, seed)[1].values()]) for seed in range(20)])
    assert plain > 1.5 * truths(world)["pool_bad"]


def test_groups_come_in_the_order_of_the_recipe() -> None:
    result = scored(*sampled(make_world(SIZES), 0))
    assert [(one.dropped_by, one.verdict) for one in result.groups] == [
        ("small", "drop"),
        ("small", "quarantine"),
        ("wrong", "drop"),
    ]
    assert sum(one.rows for one in result.strata) == sum(rows for rows, _ in SIZES.values())
    assert result.drawn == result.answered == 150


def test_too_few_answers_give_no_estimate() -> None:
    world = make_world({(0, False): (100, 0.1), (1, False): (50, 0.5), (3, False): (3, 1.0)})
    rows, answers = sampled(world, 0, 60)
    few = [row.uid for row in rows if row.dropped_by == "small"][:4]
    none_of = {row.uid for row in rows if row.dropped_by == "small"} - set(few)
    result = scored(rows, {uid: ok for uid, ok in answers.items() if uid not in none_of})
    small, wrong = result.groups
    assert (small.answered, small.precision) == (4, None)
    assert wrong.precision is not None, "all three of three are enough"
    assert (wrong.precision.low, wrong.precision.high) == (1.0, 1.0)
    assert result.pool_bad is not None


def test_a_kind_without_answers_is_left_out_and_counted() -> None:
    world = make_world(SIZES)
    rows, answers = sampled(world, 0)
    silent = {row.uid for row in rows if row.verdict == "quarantine"}
    result = scored(rows, {uid: ok for uid, ok in answers.items() if uid not in silent})
    assert result.left_out == 40
    assert result.groups[1].precision is None
    assert result.stopped_bad is not None


def test_without_answers_on_kept_samples_nothing_is_said_of_the_whole() -> None:
    rows, answers = sampled(make_world(SIZES), 0)
    kept = {row.uid for row in rows if row.verdict == "keep"}
    result = scored(rows, {uid: ok for uid, ok in answers.items() if uid not in kept})
    assert result.kept_bad is result.pool_bad is result.bad_stopped is result.good_lost is None
    assert [one.missed for one in result.groups] == [None, None, None]
    assert result.groups[0].precision is not None


def test_a_stratum_without_answers_is_like_the_others_of_its_filter() -> None:
    world = make_world({(0, False): (100, 0.0), (3, False): (300, 1.0), (3, True): (100, 0.0)})
    rows, answers = sampled(world, 0, 60)
    silent = {row.uid for row in rows if "borderline" in row.stratum}
    result = scored(rows, {uid: ok for uid, ok in answers.items() if uid not in silent})
    assert result.left_out == 0
    assert result.groups[0].precision is not None
    assert result.groups[0].precision.share == 1
    assert result.pool_bad is not None
    assert result.pool_bad.share == pytest.approx(400 / 500)


def test_answers_for_fuse_are_evened_out_to_a_simple_random_sample(answers_file: Path) -> None:
    world = make_world(SIZES)
    shares, stopped, sizes = [], [], []
    for seed in range(100):
        rows, answers = sampled(world, seed)
        silent = {row.uid for at, row in enumerate(rows) if row.dropped_by == "wrong" and at % 2}
        answers = {uid: ok for uid, ok in answers.items() if uid not in silent}
        answers_file.write_text(audited_csv(rows, answers, count_answers(rows, answers)))
        fair = read_answers(str(answers_file)).evened()
        by = {row.uid: row.dropped_by for row in rows}
        shares.append(np.mean(~fair.ok))
        stopped.append(np.mean([bool(by[uid]) for uid in format_uids(fair.uids)]))
        sizes.append(len(fair.ok))
    assert min(sizes) > 40
    assert abs(np.mean(shares) - truths(world)["pool_bad"]) <= 0.4 * np.std(shares)
    assert abs(np.mean(stopped) - (world.codes >= 4).mean()) <= 0.4 * np.std(stopped)


# --- in a store


def test_answers_become_a_result_in_the_store(mixed: Decision, answers_file: Path) -> None:
    audit = write_audit(mixed, budget=12, seed=4)
    rows = read_sample(mixed, f"audit/{mixed.ledger}-12-4")
    lines = [f"{row.uid},{int(row.verdict == 'keep')}" for row in rows[:9]]
    answers_file.write_text("uid,ok\n" + "\n".join(lines) + "\n")
    score = score_audit(mixed, answers_file, budget=12, seed=None)
    assert score.where == audit.where
    found = json.loads((Path(score.where) / "result.json").read_text())
    assert found["drawn"] == 12
    assert found["answered"] >= 9
    assert score.result.pool_bad is not None
    assert found["pool_bad"] == asdict(score.result.pool_bad)
    audited = read_answers(str(Path(score.where) / "audited.csv"))
    assert len(audited.ok) == 9
    assert (audited.probability < 1).any()
    score_audit(mixed, answers_file, budget=12, seed=4)
    assert json.loads((Path(score.where) / "result.json").read_text()) == found


def test_which_draw_is_meant_is_asked_where_there_are_several(mixed: Decision) -> None:
    for seed in (10, 11):
        write_audit(mixed, budget=11, seed=seed)
    assert find_draw(mixed, 11, 10) == f"audit/{mixed.ledger}-11-10"
    with pytest.raises(
        QueryError, match="no single such draw; it has --budget 11 --seed 10, --budget 11 --seed 11"
    ):
        find_draw(mixed, 11, None)
    with pytest.raises(QueryError, match=r"no single such draw; it has .*--seed 11"):
        find_draw(mixed, 11, 12)


def test_a_decision_without_a_draw_is_told_how_to_get_one(tmp_path: Path) -> None:
    undrawn = taken(tmp_path, [sample("1", photo(1), "a cat")], "name: n\nfilters: []")
    with pytest.raises(
        QueryError, match="it has none: draw one first, with the same command without --answers"
    ):
        find_draw(undrawn, None, None)


def test_sample_csv_reads_as_it_was_written(mixed: Decision) -> None:
    rows = [SampleRow(ONE, 'a "b", c\n<i>', "keep", 1 / 3, "keep", ""), ROWS[1]]
    folder = mixed.store.folder
    with folder.commit("audit/there/sample.csv") as path:
        path.write_text(sample_csv(rows), newline="")
    assert read_sample(mixed, "audit/there") == rows


@pytest.mark.parametrize(
    "content", ["", "uid,key\n1,2\n", sample_csv(ROWS).replace("0.5", "5"), "uid,\x00\n"]
)
def test_a_damaged_sample_csv_is_told(mixed: Decision, content: str) -> None:
    with mixed.store.folder.commit("audit/damaged/sample.csv") as path:
        path.write_text(content)
    with pytest.raises(StoreError, match=r"damaged/sample.csv can't be read .* draw again"):
        read_sample(mixed, "audit/damaged")
