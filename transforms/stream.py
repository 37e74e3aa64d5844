"""Shards in, measured parts out: read ahead, decode in threads, run models in batches.

The model never waits while there is something to decode: one thread reads shards ahead, a pool
of threads decodes and prepares, one thread runs the models, and all of them go on across shard
borders. A batch never does: it holds samples of one shard in row order, so its result (matrix
shapes round differently) depends on the shard alone and not on what was read before it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from filters.core.errors import CurateError
from transforms.decode import DecodedSample, decode, quiet_pillow
from transforms.decode_pool import DecodeJob, DecodePool
from transforms.failures import SHARD_FAILURES
from transforms.measure import Measured, Meter, NamedMeasure, SampleMeasure
from transforms.pool import PoolOptions, RawSample, Shard, ShardEnd
from transforms.pools.parquet import read_parquet
from transforms.pools.webdataset import read_tar
from transforms.progress import advance

BATCH = 256  # of measures that have no batch size of their own
MODEL_AHEAD = 2  # batches that wait for the model
TELL_EVERY = 50  # samples between two signs of progress
READ_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class ShardTask:
    """One shard to read, and the names of the measures that it still lacks."""

    shard: Shard
    measures: frozenset[str]


@dataclass
class MeasuredShard:
    """Everything learnt from one pass over a shard.

    Attributes:
        samples: one for each row, in order, without pixels.
        pieces: measure name -> (rows, what was measured of them), in row order.
        end: how the reading ended.
    """

    task: ShardTask
    samples: list[DecodedSample] = field(default_factory=list)
    pieces: dict[str, list[tuple[list[int], Measured]]] = field(default_factory=dict)
    end: ShardEnd = ShardEnd()


@dataclass(frozen=True)
class _Restart:
    """The shard is read once more from its beginning: forget what came of it."""

    shard: Shard


@dataclass
class _Batch:
    """Prepared samples of one shard that wait for one measure."""

    rows: list[int] = field(default_factory=list)
    prepared: list[Any] = field(default_factory=list)


_Item = tuple[Shard, "DecodeJob | ShardEnd | _Restart | BaseException"]


def stream_shards(
    tasks: Sequence[ShardTask],
    measures: Sequence[NamedMeasure],
    options: PoolOptions,
    *,
    decode_threads: int,
) -> Iterator[MeasuredShard]:
    """Measures the shards, in order; yields each one as soon as it is complete.

    measures: sample measures only; a task picks those it lacks by name.
    """
    quiet_pillow()
    meters = {measure.name: _meter(measure) for measure in measures}
    sizes = {measure.name: int(getattr(measure.options, "batch_size", BATCH)) for measure in measures}
    ahead = 2 * max([*sizes.values(), 32]) + decode_threads
    pool = DecodePool(decode_threads, ahead=ahead, timeout_seconds=options.decode_timeout_seconds)
    items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
    reader = threading.Thread(
        target=_read_all, args=(tasks, meters, options, pool, items), name="read", daemon=True
    )
    reader.start()
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="model") as model:
            yield from _assemble(tasks, meters, sizes, pool, items, model)
    finally:
        pool.close()
        reader.join()


def _meter(measure: NamedMeasure) -> Meter:
    if not isinstance(measure.options, SampleMeasure):
        msg = f"{measure.name} does not look at pictures"
        raise TypeError(msg)
    return measure.options.meter(measure.name)


# --- the reading thread


def _read_all(
    tasks: Sequence[ShardTask],
    meters: dict[str, Meter],
    options: PoolOptions,
    pool: DecodePool,
    items: queue.SimpleQueue[_Item | None],
) -> None:
    for task in tasks:
        chosen = [(name, meters[name]) for name in sorted(task.measures & meters.keys())]

        def work(raw: RawSample, chosen: list[tuple[str, Meter]] = chosen) -> DecodedSample:
            return _decode_and_prepare(raw, options, chosen)

        try:
            for item in read_with_retries(task.shard, options):
                if isinstance(item, RawSample):
                    job = pool.submit(item, work)
                    if job is None:
                        return
                    items.put((task.shard, job))
                else:
                    items.put((task.shard, item))
        except BaseException as error:  # noqa: BLE001  (handed to the thread that assembles)
            items.put((task.shard, error))
            return


def read_with_retries(
    shard: Shard, options: PoolOptions
) -> Iterator[RawSample | ShardEnd | _Restart]:
    """The shard's samples and its end; a missing or failing shard is tried again, then recorded."""
    waits = [*options.retry_seconds, None]
    for wait in waits:
        try:
            yield from read_shard(shard, options)
        except FileNotFoundError:
            failure = ShardEnd("shard_missing", 0, SHARD_FAILURES["shard_missing"])
        except CurateError:
            raise
        except (OSError, ValueError) as cause:  # network, permissions, not Parquet
            failure = ShardEnd("shard_unreadable", 0, f"{type(cause).__name__}: {cause}"[:300])
        else:
            return
        yield _Restart(shard)
        if wait is not None:
            time.sleep(wait)
    yield failure


def read_shard(shard: Shard, options: PoolOptions) -> Iterator[RawSample | ShardEnd]:
    """The shard's samples in order, then its end; a stream, never the whole shard."""
    with shard.open(block_size=READ_BLOCK_BYTES) as stream:
        if shard.format == "webdataset":
            yield from read_tar(stream, options)
        else:
            stem = shard.part.rsplit("-", 1)[0]
            yield from read_parquet(stream, stem, options)


def _decode_and_prepare(
    raw: RawSample, options: PoolOptions, meters: list[tuple[str, Meter]]
) -> DecodedSample:
    """Runs in a decode thread; pixels and bytes are let go here, so few are alive at once."""
    sample = decode(raw, options)
    if sample.picture is not None and sample.caption is not None:
        sample.prepared = [meter.prepare(sample.picture, sample.caption) for _, meter in meters]
    sample.picture = None
    raw.image = raw.caption = raw.metadata = None
    return sample


# --- the assembling thread


def _assemble(
    tasks: Sequence[ShardTask],
    meters: dict[str, Meter],
    sizes: dict[str, int],
    pool: DecodePool,
    items: queue.SimpleQueue[_Item | None],
    model: ThreadPoolExecutor,
) -> Iterator[MeasuredShard]:
    running: deque[tuple[_Growing, Future[Measured] | None, str, list[int]]] = deque()
    growing = {task.shard.part: _Growing(task, meters, sizes) for task in tasks}
    left = len(tasks)
    while left or running:
        while running and (len(running) > MODEL_AHEAD or running[0][1] is None or not left):
            shard, future, name, rows = running.popleft()
            if future is None:
                yield shard.result
            else:
                shard.result.pieces[name].append((rows, future.result()))
        if not left:
            continue
        where, item = _next(items)
        shard = growing[where.part]
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, _Restart):
            running = deque(entry for entry in running if entry[0] is not shard)
            growing[where.part] = _Growing(shard.result.task, meters, sizes)
            continue
        if isinstance(item, ShardEnd):
            shard.result.end = item
            advance("measure", 0, samples=len(shard.result.samples) % TELL_EVERY)
            full = shard.flush()
            left -= 1
            del growing[where.part]
        else:
            full = shard.add(pool.result(item))
            if len(shard.result.samples) % TELL_EVERY == 0:
                advance("measure", 0, samples=TELL_EVERY)
        for name, batch in full:
            running.append((shard, model.submit(meters[name].measure, batch.prepared), name, batch.rows))
        if isinstance(item, ShardEnd):
            running.append((shard, None, "", []))


def _next(items: queue.SimpleQueue[_Item | None]) -> _Item:
    item = items.get()
    if item is None:
        msg = "the reading thread ended early"
        raise RuntimeError(msg)
    return item


class _Growing:
    """A shard whose rows are still coming in."""

    def __init__(self, task: ShardTask, meters: dict[str, Meter], sizes: dict[str, int]) -> None:
        self.names = sorted(task.measures & meters.keys())
        self.result = MeasuredShard(task, pieces={name: [] for name in self.names})
        self._sizes = sizes
        self._batches = {name: _Batch() for name in self.names}

    def add(self, sample: DecodedSample) -> list[tuple[str, _Batch]]:
        """Takes the next row; returns the batches that it fills."""
        full = []
        for name, prepared in zip(self.names, sample.prepared, strict=False):
            batch = self._batches[name]
            batch.rows.append(len(self.result.samples))
            batch.prepared.append(prepared)
            if len(batch.rows) == self._sizes[name]:
                full.append((name, batch))
                self._batches[name] = _Batch()
        sample.prepared = []
        self.result.samples.append(sample)
        return full

    def flush(self) -> list[tuple[str, _Batch]]:
        """The batches that are not full, at the shard's end."""
        return [(name, batch) for name, batch in self._batches.items() if batch.rows]
