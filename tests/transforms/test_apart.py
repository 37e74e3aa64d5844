"""A process of its own for a shard: its reports, its death, its errors, and that it does not stay behind."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from filters.core.errors import WorkerLost
from tests.follow.following import ROWS_ONLY, make_pool
from tests.processes import children_of
from tests.running import files_of, plan_of
from transforms.apart import Apart
from transforms.measuring import MeasureConfig, measure_shards
from transforms.pool import Shard


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    (only,) = plan_of(ROWS_ONLY, make_pool(tmp_path / "pool", shards=1), tmp_path / "store").shards
    return only


def config_of(shard: Shard, store: Path) -> MeasureConfig:
    plan = plan_of(ROWS_ONLY, shard.uri, store)
    plan.store.prepare()
    return plan.measure_config(1)


def processes() -> list[int]:
    return children_of(os.getpid(), "transforms.apart")


@pytest.mark.slow
def test_a_shard_is_measured_in_another_process_as_in_this_one(shard: Shard, tmp_path: Path) -> None:
    with Apart(config_of(shard, tmp_path / "store")) as apart:
        found = apart.measure(shard)
        (one,) = processes()
        again = apart.measure(shard)
        assert processes() == [one]
    assert processes() == []
    (here,) = measure_shards([shard], config_of(shard, tmp_path / "here"))
    assert found is not None
    assert again is not None
    assert replace(found, model_seconds=0.0) == replace(here, model_seconds=0.0)
    assert again.measured == ()
    assert files_of(tmp_path / "store") == files_of(tmp_path / "here")


@pytest.mark.slow
def test_a_process_that_ends_is_said_and_replaced(shard: Shard, tmp_path: Path) -> None:
    with Apart(config_of(shard, tmp_path / "store")) as apart:
        apart.measure(shard)
        os.kill(processes()[0], signal.SIGKILL)
        with pytest.raises(WorkerLost, match=r"00000.tar by itself ended"):
            apart.measure(shard)
        assert apart.measure(shard) is not None


@pytest.mark.slow
def test_a_process_that_can_t_start_counts_as_ended(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Apart(config_of(shard, tmp_path / "store")) as apart, pytest.raises(WorkerLost):
        apart.measure(shard)


@pytest.mark.slow
def test_what_raises_there_is_no_death(shard: Shard, tmp_path: Path) -> None:
    config = config_of(shard, tmp_path / "store")
    (tmp_path / "store" / "signals").touch()  # where a folder must be
    with Apart(config) as apart:
        assert apart.measure(shard) is None
        (tmp_path / "store" / "signals").unlink()
        assert apart.measure(shard) is not None
