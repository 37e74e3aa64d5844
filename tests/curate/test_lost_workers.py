"""Lost workers: whose fault it is said to be; see also tests/end_to_end/test_poison_shards.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from curate.lost_workers import measure_despite_losses
from filters.core.errors import WorkerLost
from tests.running import EVERYDAY, plan_of
from transforms.measuring import ShardReport, measure_shards
from transforms.pool import Shard


def test_a_worker_that_ends_before_it_takes_a_shard_ends_the_run(small_pool: Path, tmp_path: Path) -> None:
    plan = plan_of(EVERYDAY, small_pool, tmp_path / "store")
    calls = []

    def die(lanes: Sequence[Iterable[Shard]]) -> list[ShardReport]:
        calls.append(len(lanes))
        msg = "no memory for a model"
        raise WorkerLost(msg)

    with pytest.raises(WorkerLost, match="no memory for a model"):
        measure_despite_losses(plan.shards, 8, die, plan.measure_config(1))
    assert calls == [len(plan.shards)]


def test_what_was_done_before_a_loss_is_not_done_again(small_pool: Path, tmp_path: Path) -> None:
    plan = plan_of(EVERYDAY, small_pool, tmp_path / "store")
    config = plan.measure_config(1)
    tried: list[list[int]] = []

    def die_once(lanes: Sequence[Iterable[Shard]]) -> list[ShardReport]:
        found: list[ShardReport] = []
        tried.append([])
        for lane in lanes:
            for shard in lane:
                tried[-1].append(shard.number)
                if len(tried) == 1 and shard.number == 1:
                    msg = "killed"
                    raise WorkerLost(msg)
                found += measure_shards([shard], config)
        return found

    measure_despite_losses(plan.shards, 1, die_once, config)
    everything = [shard.number for shard in plan.shards]
    assert tried == [[0, 1], [1], *([everything[2:]] if everything[2:] else [])]
