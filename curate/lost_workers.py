"""Measuring goes on where a shard ends the worker process that reads it: a decoder that crashes, say.

The engine can't tell which shard it was. Each worker commits its shards in the order in which it took
them, so the first that it lacks is under suspicion; it is tried alone, where another death can be nobody
else's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from filters.core.errors import WorkerLost
from transforms.measuring import DoneParts, MeasureConfig, ShardReport, missing_measures, record_killer
from transforms.pool import Shard
from transforms.shared_shards import share_out

MOST_IN_A_ROW = 3  # so many shards that end their worker, and none that does not: it is the machine
MeasureLanes = Callable[[Sequence[Iterable[Shard]]], list[ShardReport]]
MeasureApart = Callable[[Sequence[Sequence[Shard]], MeasureConfig], list[ShardReport]]


def measure_despite_losses(
    shards: Sequence[Shard], workers: int, measure: MeasureLanes, config: MeasureConfig
) -> list[ShardReport]:
    """The reports of what was measured; a shard that ends its worker every time is recorded as failed.

    The workers share the shards out among themselves. A suspect is tried alone as often as a shard that
    can't be read, after the same waits, once at least.
    Raises: WorkerLost where one shard after another ends its worker, or a worker ends without any.
    """
    reports: list[ShardReport] = []
    left, in_a_row = list(shards), 0
    while left:
        with TemporaryDirectory(prefix="curate-", ignore_cleanup_errors=True) as folder:
            lanes = share_out(left, min(workers, len(left)), Path(folder))
            try:
                return reports + measure(lanes)
            except WorkerLost as error:
                lost, taken = error, [lane.taken() for lane in lanes]
        done = DoneParts(config.store)
        lacking = {shard.part for shard in left if missing_measures(shard, config, done)}
        suspects = [next((one for one in lane if one.part in lacking), None) for lane in taken]
        if not any(suspects):
            raise lost
        for suspect in filter(None, suspects):
            found = measure_alone(suspect, lambda lanes, _: measure(lanes), config)
            in_a_row = in_a_row + 1 if found is None else 0
            if in_a_row == MOST_IN_A_ROW:
                raise WorkerLost(_message(lost)) from lost
            reports += [record_killer(suspect, config)] if found is None else found
            lacking.discard(suspect.part)
        left = [shard for shard in left if shard.part in lacking]
    return reports


def measure_alone(shard: Shard, measure: MeasureApart, config: MeasureConfig) -> list[ShardReport] | None:
    """What measuring this shard alone reports; None where it ended its worker every time."""
    for wait in config.pool.retry_seconds or (0.0,):
        time.sleep(wait)
        try:
            return measure([[shard]], config)
        except WorkerLost:
            continue
    return None


def _message(lost: WorkerLost) -> str:
    return (
        f"{MOST_IN_A_ROW} shards in a row ended the worker that read them, each alone; so it is hardly the "
        f"shards: look at this machine's memory, driver and libraries. At first: {lost}"
    )
