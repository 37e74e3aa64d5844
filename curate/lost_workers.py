"""Measuring goes on where a worker process ends: a decoder that crashes, say.

What it was at is under suspicion then, and measured apart (`transforms.attempts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from filters.core.errors import KillerShards, WorkerLost
from transforms.attempts import MOST_IN_A_ROW, Attempts, killers, left_by
from transforms.measuring import DoneParts, ShardReport, missing_measures
from transforms.pool import Shard
from transforms.shared_shards import share_out

MeasureLanes = Callable[[Sequence[Iterable[Shard]]], list[ShardReport]]


def measure_despite_losses(
    shards: Sequence[Shard], workers: int, measure: MeasureLanes, attempts: Attempts
) -> list[ShardReport]:
    """The reports of what was measured; a shard that ends its worker every time is recorded as failed.

    The workers share the shards out among themselves. attempts: as whose they measure.
    Raises: WorkerLost where a worker ends before it takes a shard; KillerShards where three end in a
        row, and no shard was measured in between.
    """
    store = attempts.config.store
    found: list[ShardReport] = []
    left, in_a_row = list(shards), 0
    while left:
        with TemporaryDirectory(prefix="curate-", ignore_cleanup_errors=True) as folder:
            try:
                found = measure(share_out(left, min(workers, len(left)), Path(folder)))
                break
            except KillerShards:
                raise
            except WorkerLost as lost:
                if not left_by(attempts.run, store.folder):
                    raise
                done = DoneParts(store)
                lacking = [shard for shard in left if missing_measures(shard, attempts.config, done)]
                in_a_row = in_a_row + 1 if len(lacking) == len(left) else 1
                if in_a_row == MOST_IN_A_ROW:
                    raise killers(lost) from lost
                left = lacking
    if in_a_row:  # what a worker was writing when it ended; none is at work now
        store.folder.remove_leftovers()
    return found
