"""Shards that may have ended the process that measured them: tried apart, and given up for this run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import transforms.attempts
from filters.core.errors import KillerShards, PoolError, WorkerLost
from tests.follow.following import ROWS_ONLY, make_pool
from tests.running import curate, plan_of
from transforms.apart import Apart
from transforms.attempts import Attempts, acquit, left_by
from transforms.measuring import ShardReport, measure_shards
from transforms.pool import Shard


@pytest.fixture
def shards(tmp_path: Path) -> Sequence[Shard]:
    return plan_of(ROWS_ONLY, make_pool(tmp_path / "pool", shards=4), tmp_path / "store").shards


@pytest.fixture
def attempts(tmp_path: Path, shards: Sequence[Shard]) -> Attempts:
    plan = plan_of(ROWS_ONLY, [shard.uri for shard in shards], tmp_path / "store")
    plan.store.prepare()
    return Attempts(plan.measure_config(1), "this")


def mark_of(attempts: Attempts, shard: Shard) -> Path:
    return Path(attempts.config.store.folder.root) / "attempts" / f"{shard.part}.json"


def marks(attempts: Attempts) -> list[str]:
    return attempts.config.store.folder.names("attempts")


def suspect(attempts: Attempts, shard: Shard, run: str, *, given_up: bool = False) -> None:
    mark = {"run": run, "given_up": given_up}
    attempts.config.store.folder.write_json(f"attempts/{shard.part}.json", mark)


def measured(attempts: Attempts, shards: Sequence[Shard]) -> list[str]:
    """The parts in the order of their reports, with a code where they failed."""
    return [f"{one.part} {one.failure or one.rows}" for one in attempts.measure(shards)]


def rows(*shards: Shard) -> list[str]:
    return [f"{shard.part} 8" for shard in shards]


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that are measured apart, as if that were another process."""
    found: list[str] = []

    def measure(self: Apart, shard: Shard) -> ShardReport:
        found.append(shard.part)
        (report,) = measure_shards([shard], self.config)
        return report

    monkeypatch.setattr(Apart, "measure", measure)
    return found


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The parts that end every other process."""
    found: set[str] = set()

    def measure(self: Apart, shard: Shard) -> ShardReport:
        if shard.part in found:
            msg = "ended"
            raise WorkerLost(msg)
        (report,) = measure_shards([shard], self.config)
        return report

    monkeypatch.setattr(Apart, "measure", measure)
    return found


def test_nothing_to_measure(attempts: Attempts) -> None:
    assert measured(attempts, []) == []
    assert marks(attempts) == []


def test_a_shard_that_was_measured_is_under_no_suspicion(attempts: Attempts, shards: Sequence[Shard]) -> None:
    assert measured(attempts, shards) == rows(*shards)
    assert marks(attempts) == []
    assert measured(attempts, shards) == rows(*shards)


def test_an_error_is_no_death(
    attempts: Attempts, shards: Sequence[Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(coming: Iterator[Shard], _: object) -> Iterator[ShardReport]:
        assert mark_of(attempts, next(coming)).exists()
        msg = "no image column"
        raise PoolError(msg)
        yield

    monkeypatch.setattr(transforms.attempts, "measure_shards", fail)
    with pytest.raises(PoolError, match="no image column"):
        measured(attempts, shards)
    assert marks(attempts) == []


def test_who_stops_listening_is_no_death_either(attempts: Attempts, shards: Sequence[Shard]) -> None:
    reports = attempts.measure(shards)
    assert isinstance(reports, Iterator)
    next(reports)
    assert len(marks(attempts)) >= 1  # of the next, which was begun
    reports.close()  # type: ignore[attr-defined]
    assert marks(attempts) == []


@pytest.mark.parametrize("given_up", [False, True])
def test_what_an_earlier_run_left_is_measured_apart_after_all_others(
    attempts: Attempts,
    shards: Sequence[Shard],
    apart: list[str],
    caplog: pytest.LogCaptureFixture,
    given_up: bool,  # noqa: FBT001
) -> None:
    suspect(attempts, shards[1], "before", given_up=given_up)
    assert measured(attempts, shards) == rows(shards[0], shards[2], shards[3], shards[1])
    assert apart == [shards[1].part]
    assert "1 shard was being measured when a process ended" in caplog.text
    assert marks(attempts) == []


def test_what_was_measured_after_all_is_not_measured_again(
    attempts: Attempts, shards: Sequence[Shard], apart: list[str]
) -> None:
    measured(attempts, shards)
    suspect(attempts, shards[1], "before")
    assert measured(attempts, shards) == rows(*shards)
    assert (apart, marks(attempts)) == ([], [])


def test_what_ends_every_process_is_recorded_and_not_tried_again_by_this_run(
    attempts: Attempts, shards: Sequence[Shard], deadly: set[str]
) -> None:
    suspect(attempts, shards[0], "this")
    deadly.add(shards[0].part)
    failed = f"{shards[0].part} worker_killed"
    assert measured(attempts, shards[:2]) == [*rows(shards[1]), failed]
    assert json.loads(mark_of(attempts, shards[0]).read_text()) == {"run": "this", "given_up": True}
    deadly.clear()
    assert measured(attempts, shards[:2]) == [*rows(shards[1]), failed]
    another = Attempts(attempts.config, "another")
    assert measured(another, shards[:2]) == rows(shards[1], shards[0])


def test_one_after_another_is_hardly_the_shards(
    attempts: Attempts, shards: Sequence[Shard], deadly: set[str]
) -> None:
    for shard in shards:
        suspect(attempts, shard, "before")
    deadly.update(shard.part for shard in shards)
    with pytest.raises(KillerShards, match=r"3 shards in a row ended the process .* memory, driver"):
        measured(attempts, shards)
    # What was known before tells nothing of the machine.
    codes = [line.split()[1] for line in measured(Attempts(attempts.config, "next"), shards)]
    assert codes == ["worker_killed"] * 4


def test_many_that_kill_are_the_shards_where_others_are_measured(
    attempts: Attempts, shards: Sequence[Shard], deadly: set[str]
) -> None:
    for shard in shards[:3]:
        suspect(attempts, shard, "before")
        deadly.add(shard.part)
    assert [line.split()[1] for line in measured(attempts, shards)] == ["8", *["worker_killed"] * 3]


def test_what_raises_apart_lives_and_raises_here_too(
    attempts: Attempts, shards: Sequence[Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    suspect(attempts, shards[0], "before")
    monkeypatch.setattr(Apart, "measure", lambda *_: None)
    assert measured(attempts, shards[:1]) == rows(shards[0])
    assert marks(attempts) == []


def test_a_run_forgets_what_was_measured_though_who_did_was_killed_then(
    attempts: Attempts, shards: Sequence[Shard]
) -> None:
    acquit([shard.part for shard in shards], attempts.config.store.folder)
    for shard in shards[:3]:
        suspect(attempts, shard, "before")
    acquit([shards[0].part, shards[2].part, shards[3].part], attempts.config.store.folder)
    assert marks(attempts) == [f"{shards[1].part}.json"]


def test_a_run_that_measures_nothing_leaves_no_marks_of_what_is_measured(
    attempts: Attempts, shards: Sequence[Shard]
) -> None:
    measured(attempts, shards)
    suspect(attempts, shards[1], "before")
    curate(ROWS_ONLY, [shard.uri for shard in shards], attempts.config.store.folder.url)
    assert marks(attempts) == []


def test_a_run_knows_its_own_marks(attempts: Attempts, shards: Sequence[Shard]) -> None:
    for shard, run, given_up in zip(shards, ("this", "this", "another"), (False, True, False), strict=False):
        suspect(attempts, shard, run, given_up=given_up)
    unfinished = mark_of(attempts, shards[3]).with_suffix(".json.tmp-0")  # as a worker is just writing it
    unfinished.touch()
    assert left_by("this", attempts.config.store.folder) == [f"attempts/{shards[0].part}.json"]
