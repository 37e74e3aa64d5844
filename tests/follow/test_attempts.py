"""Shards that may have ended the worker that measured them: tried apart, and given up for this stream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import curate.follow.attempts
from curate.follow.attempts import Attempts
from curate.follow.ledger import Ledger
from filters.core.errors import PoolError
from tests.follow.following import ROWS_ONLY, make_pool
from tests.running import plan_of
from transforms.pool import Shard


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    (only,) = plan_of(ROWS_ONLY, make_pool(tmp_path / "pool", shards=1), tmp_path / "store").shards
    return only


@pytest.fixture
def attempts(tmp_path: Path, shard: Shard) -> Attempts:
    plan = plan_of(ROWS_ONLY, shard.uri, tmp_path / "store")
    plan.store.prepare()
    return Attempts(Ledger(plan.store.folder, "stream-1"), "this", plan.measure_config(1))


def suspicion(attempts: Attempts, shard: Shard) -> Path:
    return Path(attempts.ledger.folder.root) / attempts.ledger.file(f"attempts/{shard.part}.json")


def suspect(attempts: Attempts, shard: Shard, stream: str, *, given_up: bool) -> None:
    name = attempts.ledger.file(f"attempts/{shard.part}.json")
    attempts.ledger.folder.write_json(name, {"stream": stream, "given_up": given_up})


def test_a_shard_that_was_measured_is_under_no_suspicion(attempts: Attempts, shard: Shard) -> None:
    assert attempts.measure(shard).rows == 8
    assert not suspicion(attempts, shard).exists()
    assert attempts.measure(shard).rows == 8


def test_an_error_is_no_death(attempts: Attempts, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        assert suspicion(attempts, shard).exists()
        msg = "no image column"
        raise PoolError(msg)

    monkeypatch.setattr(curate.follow.attempts, "measure_shards", fail)
    with pytest.raises(PoolError, match="no image column"):
        attempts.measure(shard)
    assert not suspicion(attempts, shard).exists()


@pytest.mark.parametrize("given_up", [False, True])
def test_what_was_suspect_in_an_earlier_stream_is_measured_in_a_process_of_its_own(
    attempts: Attempts,
    shard: Shard,
    monkeypatch: pytest.MonkeyPatch,
    given_up: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(curate.follow.attempts, "measure_shards", None)  # in this process
    suspect(attempts, shard, "before", given_up=given_up)
    assert attempts.measure(shard).rows == 8
    assert not suspicion(attempts, shard).exists()


def test_what_was_given_up_is_not_tried_again_by_this_stream(
    attempts: Attempts, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curate.follow.attempts, "measure_alone", lambda *_: None)
    suspect(attempts, shard, "this", given_up=False)
    assert attempts.measure(shard).failure == "worker_killed"
    assert json.loads(suspicion(attempts, shard).read_text()) == {"stream": "this", "given_up": True}
    monkeypatch.setattr(curate.follow.attempts, "measure_alone", None)
    report = attempts.measure(shard)
    assert (report.failure, report.complete) == ("worker_killed", False)
