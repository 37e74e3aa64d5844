"""Measuring in a stream, where a shard may end the worker that reads it and no engine says which it was.

    follow/<ledger>/attempts/<part>.json    measuring has begun and was not ended

A shard with such a file is under suspicion: it is measured in a process of its own, whose death costs
nothing else. One that ends that process every time is recorded as failed, and left alone until the
next stream. So an engine that tries again what it lost, or a stream that begins anew, gets past it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

from curate.follow.ledger import Ledger
from curate.lost_workers import measure_alone
from filters.core.errors import WorkerLost
from transforms.measuring import MeasureConfig, ShardReport, measure_shards, record_killer
from transforms.pool import Shard


@dataclass(frozen=True)
class Attempts:
    """Measures shards for a stream, one at a time."""

    ledger: Ledger
    stream: str
    config: MeasureConfig

    def measure(self, shard: Shard) -> ShardReport:
        """The report on a shard that was measured here, in a process of its own, or given up.

        Raises: what measuring raises.
        """
        folder, name = self.ledger.folder, self.ledger.file(f"attempts/{shard.part}.json")
        before = folder.read_json(name) if folder.exists(name) else None
        if before == {"stream": self.stream, "given_up": True}:
            return record_killer(shard, self.config)
        folder.write_json(name, {"stream": self.stream, "given_up": False})
        try:
            found = self._here(shard) if before is None else measure_alone(shard, _in_a_process, self.config)
        except Exception:
            folder.remove(name)  # whoever can raise lives
            raise
        if found is None:
            folder.write_json(name, {"stream": self.stream, "given_up": True})
            return record_killer(shard, self.config)
        folder.remove(name)
        return found[0]

    def _here(self, shard: Shard) -> list[ShardReport]:
        return list(measure_shards([shard], self.config))


def _in_a_process(lanes: Sequence[Sequence[Shard]], config: MeasureConfig) -> list[ShardReport]:
    """What measuring in a new process reports. Raises: WorkerLost where that process ends."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        try:
            return processes.submit(_measured, lanes, config).result()
        except BrokenProcessPool as cause:
            msg = "the process that measured a shard by itself ended"
            raise WorkerLost(msg) from cause


def _measured(lanes: Sequence[Sequence[Shard]], config: MeasureConfig) -> list[ShardReport]:
    return [report for lane in lanes for report in measure_shards(lane, config)]
