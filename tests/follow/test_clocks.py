"""A wall clock that is set ahead or back changes nothing but what is said of time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from apache_beam.testing.test_stream import TestStream as Stream
from apache_beam.transforms.window import TimestampedValue

from curate.follow import loop, stream_steps
from curate.follow.arrivals import Arrivals, Waiting
from curate.follow.metrics import Page
from curate.follow.status import read_status, with_session
from curate.follow.unbounded import FollowPool
from tests.follow.following import (
    PLAIN,
    ROWS_ONLY,
    calibrated,
    committed_files,
    curated_uids,
    follower,
    make_pool,
    manifest_of,
    replayed,
    shard,
)
from tests.follow.test_unbounded import run, stream_on
from transforms.store import Store

HOUR = 3600.0


@dataclass
class Clock:
    """The process's wall clock, so many seconds ahead of the true one."""

    ahead: float = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    wrong, true = Clock(), time.time
    monkeypatch.setattr(time, "time", lambda: true() + wrong.ahead)
    yield wrong
    monkeypatch.undo()


def test_a_clock_that_jumps_between_batches_loses_nothing_and_decides_nothing_twice(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = make_pool(tmp_path / "pool", shards=2)
    for name in ("store", "steady"):
        calibrated(PLAIN, live, tmp_path / name)
    lags: list[float] = []
    monkeypatch.setattr(Page, "show", lambda _, status, __: lags.append(status["lag_seconds"]))
    one = follower(PLAIN, live, tmp_path / "store", metrics_port=0, until_idle=False)
    # Ahead when the next shards arrive, then back before they are looked at, and the other way.
    jumps = iter([(HOUR, -HOUR), (-HOUR, HOUR), (HOUR, 0.0)])

    def next_batch(text: str) -> None:
        if not text.startswith("batch "):
            return
        arriving, looked_at = next(jumps, (0.0, 0.0))
        number = int(text.split()[1].rstrip(":"))
        if number == 4:
            one.stop.set()
            return
        clock.ahead = arriving
        for at in (2 * number, 2 * number + 1):
            path = shard(live / f"{at:05d}.tar", range(6 * at, 6 * at + 8))
            os.utime(path, (now := time.time() + at, now))
        clock.ahead = looked_at

    one.say = next_batch
    one.follow()
    clock.ahead = 0.0
    manifest = manifest_of(tmp_path / "store")
    assert [part["batch"] for part in manifest["parts"]] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert len({part["uri"] for part in manifest["parts"]}) == 8
    assert manifest["rows"] == 64
    curated = curated_uids(tmp_path / "store", manifest["ledger"])
    assert set(curated.values()) == {1}
    assert len(curated) == manifest["verdicts"]["keep"]
    assert min(lags) == 0.0
    assert max(lags) > HOUR
    assert replayed(PLAIN, manifest, tmp_path / "steady") == manifest
    assert committed_files(tmp_path / "store") == committed_files(tmp_path / "steady")


def test_a_run_whose_clock_is_set_back_goes_on_with_its_signs_of_life(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SIGN_SECONDS", 0.05)
    pool, store = make_pool(tmp_path / "pool", shards=1), Store.at(str(tmp_path / "store"))
    one = follower(ROWS_ONLY, pool, tmp_path / "store", until_idle=False)
    look, signs = one._look, []

    def looking(arrivals: Arrivals) -> list[Waiting]:
        found = look(arrivals)
        if one.process.looks == 10:  # idle
            clock.ahead = -HOUR
        if one.process.looks > 10:
            signs.append(status := read_status(store))
            if status["looked"] < time.time() + HOUR / 2:
                one.stop.set()
        assert len(signs) < 100
        return found

    monkeypatch.setattr(one, "_look", looking)
    one.follow()
    assert signs[-1]["running"]
    assert not read_status(store)["running"]


@pytest.mark.parametrize(("ago", "running"), [(1, True), (-1, True), (HOUR, False), (-HOUR, False)])
def test_a_sign_of_life_counts_near_its_time_alone(ago: float, *, running: bool) -> None:
    waiting = {"shards": 1, "oldest": time.time() + HOUR, "uri": "a.tar"}
    session = {"looked": time.time() - ago, "every": 1.0, "busy": False, "ended": False, "waiting": waiting}
    status = with_session({"shards": {}}, session)
    assert status["running"] is running
    assert status["lag_seconds"] == 0.0


def test_a_stream_looks_again_after_its_worker_s_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(tmp_path / "pool", shards=2)
    shard(pool / "unsaid.tar", [70, 71])
    (pool / "unsaid_stats.json").unlink()  # so it must be seen twice
    config = stream_on(ROWS_ONLY, pool, tmp_path / "stream")
    name, now = config.ledger.name, time.time()
    times = iter([now + HOUR, now + 1])
    wrong = SimpleNamespace(time=lambda: next(times), monotonic=time.monotonic)
    monkeypatch.setattr(stream_steps, "time", wrong)
    events = Stream().advance_watermark_to(0)
    for at in range(2):
        events = events.add_elements([TimestampedValue((name, now + at), at)])
    run(events.advance_watermark_to_infinity(), FollowPool(config))
    manifest = config.ledger.manifest()
    assert manifest is not None
    assert [part["batch"] for part in manifest["parts"]] == [1, 1, 2]
    assert next(times, None) is None
