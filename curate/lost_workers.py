"""Measuring goes on where a shard ends the worker process that reads it: a decoder that crashes, say.

The engine can't tell which shard it was. Each lane commits its shards in order, so the first that a
lane lacks is under suspicion; it is tried alone, where another death can be nobody else's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from filters.core.errors import WorkerLost
from transforms.measuring import DoneParts, MeasureConfig, ShardReport, missing_measures, record_killer
from transforms.pool import Shard

MOST_IN_A_ROW = 3  # so many shards that end their worker, and none that does not: it is the machine
Lanes = list[list[Shard]]
MeasureLanes = Callable[[Lanes], list[ShardReport]]
MeasureApart = Callable[[Lanes, MeasureConfig], list[ShardReport]]
Split = Callable[[Sequence[Shard]], Lanes]


def measure_despite_losses(
    shards: Sequence[Shard], split: Split, measure: MeasureLanes, config: MeasureConfig
) -> list[ShardReport]:
    """The reports of what was measured; a shard that ends its worker every time is recorded as failed.

    It is tried alone as often as a shard that can't be read, after the same waits, once at least.
    Raises: WorkerLost where one shard after another ends its worker.
    """
    reports: list[ShardReport] = []
    left, in_a_row = list(shards), 0
    while left:
        lanes = split(left)
        try:
            return reports + measure(lanes)
        except WorkerLost as lost:
            done = DoneParts(config.store)
            lacking = {shard.part for shard in left if missing_measures(shard, config, done)}
            suspects = [next((one for one in lane if one.part in lacking), None) for lane in lanes]
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
