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
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
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
from transforms.storage import client_errors

BATCH = 256  # of measures that have no batch size of their own
MODEL_AHEAD = 2  # batches that wait for the model
TELL_EVERY = 50  # samples between two signs of progress
READ_BLOCK_BYTES = 8 * 2**20
STOP_SECONDS = 5.0
HANDED_OVER = 16  # samples that are handed from thread to thread in one go


@dataclass(frozen=True)
class ShardTask:
    """One shard to read, and the names of the measures that it still lacks.

    Attributes:
        veil: hides samples that were removed from the store; None where there can be none.
    """

    shard: Shard
    measures: frozenset[str]
    veil: Callable[[RawSample], RawSample] | None = None


@dataclass
class MeasuredShard:
    """Everything learnt from one pass over a shard.

    Attributes:
        samples: one for each row, in order, without pixels.
        pieces: measure name -> (rows, what was measured of them), in row order.
        end: how the reading ended.
        model_seconds: how long its batches took.
        read_ahead: summed over its rows, how many more were read by then.
    """

    task: ShardTask
    samples: list[DecodedSample] = field(default_factory=list)
    pieces: dict[str, list[tuple[list[int], Measured]]] = field(default_factory=dict)
    end: ShardEnd = field(default_factory=ShardEnd)
    model_seconds: float = 0.0
    read_ahead: int = 0


@dataclass(frozen=True)
class _Restart:
    """The shard is read once more from its beginning: forget what came of it."""


_Read = RawSample | ShardEnd | _Restart
_Item = Sequence[DecodeJob] | ShardEnd | _Restart | BaseException


def stream_shards(
    tasks: Iterable[ShardTask],
    measures: Sequence[NamedMeasure],
    options: PoolOptions,
    *,
    decode_threads: int,
) -> Generator[MeasuredShard]:
    """Measures the shards, in order; yields each one as soon as it is complete.

    tasks: the next is asked for, in the reading thread, when the one before is read.
    measures: sample measures only; a task picks those it lacks by name.
    Raises: what a meter raises, which is a fault of ours and not of the data.
    """
    quiet_pillow()
    meters = _Meters(measures)
    sizes = {measure.name: int(getattr(measure.options, "batch_size", BATCH)) for measure in measures}
    ahead = 2 * max([*sizes.values(), 32]) + decode_threads
    pool = DecodePool(decode_threads, ahead=ahead, timeout_seconds=options.decode_timeout_seconds)
    reader = _Reader(tasks, meters, options, pool)
    thread = threading.Thread(target=reader.run, name="read", daemon=True)
    thread.start()
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="model") as model:
            assembly = _Assembly(meters, sizes, pool, model)
            while (item := reader.items.get()) is not None:
                assembly.take(*item)
                yield from assembly.complete(MODEL_AHEAD)
            yield from assembly.complete(0)
    finally:
        reader.stopped.set()
        pool.close()
        thread.join(STOP_SECONDS)  # a read that hangs does not hold up the end of the run


class _Meters:
    """The meters by name, each made when it is first needed: some load a model."""

    def __init__(self, measures: Sequence[NamedMeasure]) -> None:
        self._measures = {measure.name: measure for measure in measures}
        self._made: dict[str, Meter] = {}

    def needed(self, names: frozenset[str]) -> list[Meter]:
        """Those of a task, in the order of their names; asked by one thread alone."""
        return [self[name] for name in sorted(names & self._measures.keys())]

    def __getitem__(self, name: str) -> Meter:
        if name not in self._made:
            options = self._measures[name].options
            if not isinstance(options, SampleMeasure):
                msg = f"{name} does not look at pictures"
                raise TypeError(msg)
            self._made[name] = options.meter(name)
        return self._made[name]


# --- the reading thread


@dataclass
class _Reader:
    """Reads the shards in order and hands their samples to the decode threads."""

    tasks: Iterable[ShardTask]
    meters: _Meters
    options: PoolOptions
    pool: DecodePool
    items: queue.SimpleQueue[tuple[ShardTask | None, _Item] | None] = field(default_factory=queue.SimpleQueue)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Fills `items`, until all is read (None) or `stopped` is set."""
        try:
            for task in self.tasks:
                self._read(task)
                if self.stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  (handed to the thread that assembles)
            self.items.put((None, error))
        else:
            self.items.put(None)

    def _read(self, task: ShardTask) -> None:
        chosen = self.meters.needed(task.measures)

        def work(raw: RawSample) -> DecodedSample:
            return _decode_and_prepare(raw, self.options, chosen)

        jobs: list[DecodeJob] = []
        for item in read_with_retries(task.shard, self.options, self.stopped.wait):
            if isinstance(item, RawSample):
                job = self.pool.submit(task.veil(item) if task.veil else item, work)
                jobs += [job] if job is not None else []
            if jobs and (len(jobs) == HANDED_OVER or not isinstance(item, RawSample)):
                self.items.put((task, jobs))
                jobs = []
            if not isinstance(item, RawSample):
                self.items.put((task, item))
            if self.stopped.is_set():
                return


def read_with_retries(
    shard: Shard, options: PoolOptions, pause: Callable[[float], object] = time.sleep
) -> Iterator[_Read]:
    """The shard's samples and its end; a missing or failing shard is tried again, then recorded."""
    for wait in (*options.retry_seconds, None):
        try:
            with client_errors():
                yield from read_shard(shard, options)
        except CurateError:
            raise
        except Exception as cause:  # noqa: BLE001  (_failure raises again what is a fault of ours)
            failure = _failure(cause)
        else:
            return
        yield _Restart()
        if wait is not None:
            pause(wait)
    yield failure


def _failure(cause: Exception) -> ShardEnd:
    """What is recorded of a shard that can't be read; what is a fault of our own is raised again."""
    if isinstance(cause, FileNotFoundError):
        return ShardEnd("shard_missing", 0, SHARD_FAILURES["shard_missing"])
    # Network, permissions, not Parquet.
    if isinstance(cause, (OSError, ValueError)):
        return ShardEnd("shard_unreadable", 0, f"{type(cause).__name__}: {cause}"[:300])
    raise cause


def read_shard(shard: Shard, options: PoolOptions) -> Iterator[RawSample | ShardEnd]:
    """The shard's samples in order, then its end; a stream, never the whole shard."""
    # Blocks from front to back, said aloud: gcsfs left alone makes a request of nearly every tar header.
    with shard.open(block_size=READ_BLOCK_BYTES, cache_type="readahead") as stream:
        if shard.format == "webdataset":
            yield from read_tar(stream, options)
        else:
            stem = shard.part.rsplit("-", 1)[0]
            yield from read_parquet(stream, stem, options)


def _decode_and_prepare(raw: RawSample, options: PoolOptions, meters: Sequence[Meter]) -> DecodedSample:
    """Runs in a decode thread; pixels are let go here, so few pictures are alive at once."""
    sample = decode(raw, options)
    if sample.picture is not None and sample.caption is not None:
        sample.prepared = [meter.prepare(sample.picture, sample.caption) for meter in meters]
    sample.picture = None
    return sample


# --- the assembling thread


@dataclass(frozen=True)
class _Running:
    """A batch at the model, or with no batch the end of its shard."""

    shard: _Growing
    name: str = ""
    rows: list[int] = field(default_factory=list)
    measured: Future[tuple[Measured, float]] | None = None


class _Assembly:
    """Puts decoded rows into batches, batches through the model, and results into shards."""

    def __init__(
        self,
        meters: _Meters,
        sizes: Mapping[str, int],
        pool: DecodePool,
        model: ThreadPoolExecutor,
    ) -> None:
        self._growing: _Growing | None = None
        self._meters = meters
        self._sizes = sizes
        self._pool = pool
        self._model = model
        self._running: deque[_Running] = deque()

    def take(self, task: ShardTask | None, item: _Item) -> None:
        """The next that was read of a shard, which are read one after the other; task: None for an error."""
        if isinstance(item, BaseException):
            raise item
        if task is None:
            raise TypeError(item)
        shard = self._growing or _Growing(task, self._sizes)
        self._growing = shard
        if isinstance(item, _Restart):
            self._running = deque(entry for entry in self._running if entry.shard is not shard)
            self._growing = None
        elif isinstance(item, ShardEnd):
            shard.result.end = item
            advance("measure", 0, samples=len(shard.result.samples) % TELL_EVERY)
            self._run(shard, shard.flush())
            self._running.append(_Running(shard))
            self._growing = None
        else:
            for sample in self._pool.results(item):
                shard.result.read_ahead += self._pool.on_their_way
                self._run(shard, shard.add(sample))
                if len(shard.result.samples) % TELL_EVERY == 0:
                    advance("measure", 0, samples=TELL_EVERY)

    def complete(self, ahead: int) -> Iterator[MeasuredShard]:
        """The shards that are complete; waits for the model until only `ahead` batches are left."""
        while self._running and (len(self._running) > ahead or self._running[0].measured is None):
            entry = self._running.popleft()
            if entry.measured is None:
                yield entry.shard.result
            else:
                found, seconds = entry.measured.result()
                entry.shard.result.pieces[entry.name].append((entry.rows, found))
                entry.shard.result.model_seconds += seconds

    def _run(self, shard: _Growing, full: list[tuple[str, _Batch]]) -> None:
        for name, batch in full:
            measured = self._model.submit(_timed, self._meters[name], batch.prepared)
            self._running.append(_Running(shard, name, batch.rows, measured))


def _timed(meter: Meter, prepared: Sequence[Any]) -> tuple[Measured, float]:
    """What a batch comes to, and how many seconds that took."""
    started = time.perf_counter()
    return meter.measure(prepared), time.perf_counter() - started


@dataclass
class _Batch:
    """Prepared samples of one shard that wait for one measure."""

    rows: list[int] = field(default_factory=list)
    prepared: list[Any] = field(default_factory=list)


class _Growing:
    """A shard whose rows are still coming in; sizes: measure name -> samples in a batch."""

    def __init__(self, task: ShardTask, sizes: Mapping[str, int]) -> None:
        names = sorted(task.measures & sizes.keys())
        self.result = MeasuredShard(task, pieces={name: [] for name in names})
        self._sizes = sizes
        self._batches = {name: _Batch() for name in names}

    def add(self, sample: DecodedSample) -> list[tuple[str, _Batch]]:
        """Takes the next row; returns the batches that it fills."""
        full = []
        # A failed row has nothing prepared, and so joins no batch.
        for name, prepared in zip(list(self._batches), sample.prepared, strict=False):
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
