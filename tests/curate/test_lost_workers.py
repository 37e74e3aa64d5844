"""Lost workers: whose fault it is said to be; see also tests/end_to_end/test_poison_shards.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from curate.lost_workers import measure_despite_losses
from curate.plan import Plan
from filters.core.errors import KillerShards, WorkerLost
from tests.running import EVERYDAY, plan_of
from tests.transforms.test_attempts import suspect
from transforms.attempts import Attempts
from transforms.measuring import ShardReport, measure_shards
from transforms.pool import Shard


def test_a_worker_that_ends_before_it_takes_a_shard_ends_the_run(small_pool: Path, tmp_path: Path) -> None:
    plan = plan_of(EVERYDAY, small_pool, tmp_path / "store")
    calls = []

    def die(lanes: Sequence[Iterable[Shard]]) -> list[ShardReport]:
        calls.append(len(lanes))
        msg = "no memory for a model"
        raise WorkerLost(msg)

    plan.store.prepare()
    with pytest.raises(WorkerLost, match="no memory for a model"):
        measure_despite_losses(plan.shards, 8, die, Attempts(plan.measure_config(1), "this"))
    assert calls == [len(plan.shards)]


def test_what_was_done_before_a_loss_is_not_done_again(small_pool: Path, tmp_path: Path) -> None:
    plan = plan_of(EVERYDAY, small_pool, tmp_path / "store")
    attempts = Attempts(plan.measure_config(1), "this")
    tried: list[list[int]] = []

    def die_once(lanes: Sequence[Iterable[Shard]]) -> list[ShardReport]:
        found: list[ShardReport] = []
        tried.append([])
        for lane in lanes:
            for shard in lane:
                tried[-1].append(shard.number)
                if len(tried) == 1 and shard.number == 1:
                    suspect(attempts, shard, "this")  # as who dies leaves it
                    (tmp_path / "store" / "signals" / "half.parquet.tmp-0").touch()
                    msg = "killed"
                    raise WorkerLost(msg)
                found += attempts.measure([shard])
        return found

    measure_despite_losses(plan.shards, 1, die_once, attempts)
    assert tried == [[0, 1], [shard.number for shard in plan.shards][1:]]
    assert plan.store.folder.names("attempts") == []
    assert not list((tmp_path / "store").rglob("*.tmp-*"))


def lose_at_each_shard(plan: Plan, attempts: Attempts, lost: list[int], *, useful: bool) -> list[ShardReport]:
    """Measuring with a worker that ends at every shard; useful: not before it has measured it."""

    def die(lanes: Sequence[Iterable[Shard]]) -> list[ShardReport]:
        (lane,) = lanes
        shard = next(iter(lane))
        suspect(attempts, shard, "this")
        lost.append(shard.number)
        if useful:
            list(measure_shards([shard], attempts.config))
        msg = "killed"
        raise WorkerLost(msg)

    return measure_despite_losses(plan.shards, 1, die, attempts)


def test_losses_end_the_run_where_nothing_is_measured_in_between(small_pool: Path, tmp_path: Path) -> None:
    plan = plan_of(EVERYDAY, small_pool, tmp_path / "store")
    attempts = Attempts(plan.measure_config(1), "this")
    lost: list[int] = []
    assert len(plan.shards) > 1
    assert lose_at_each_shard(plan, attempts, lost, useful=True) == []
    assert lost == [shard.number for shard in plan.shards]
    plan = plan_of(EVERYDAY, small_pool, tmp_path / "another")
    attempts = Attempts(plan.measure_config(1), "this")
    lost = []
    with pytest.raises(KillerShards, match=r"3 shards in a row .* At last: killed"):
        lose_at_each_shard(plan, attempts, lost, useful=False)
    assert lost == [0, 0, 0]
