"""Measures shards into a store: what is there is not measured again.

`measure_shards` is what an engine runs for a lane of shards; it needs no engine itself.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.core.errors import SkipShard, StoreError
from filters.core.uids import parse_uids
from transforms.failures import FAILURES_SCHEMA, SHARD_FAILURES
from transforms.measure import DerivedMeasure, NamedMeasure, PoolMeasure, SampleMeasure
from transforms.pool import PoolOptions, Shard, ShardEnd
from transforms.removal.blanking import blank_rows, blank_samples, blank_vectors
from transforms.removal.marks import Marks, Veil, removed_rows
from transforms.samples import LABEL, SCHEMA, failure_counts, samples_measure, samples_table, shown
from transforms.storage import client_errors
from transforms.store import Store
from transforms.stream import MeasuredShard, ShardTask, stream_shards

logger = logging.getLogger("curate.measure")


@dataclass(frozen=True)
class MeasureConfig:
    """What to measure and where to put it; picklable, the same for every worker."""

    store: Store
    pool: PoolOptions
    measures: tuple[NamedMeasure, ...]
    decode_threads: int = 2

    @property
    def samples(self) -> NamedMeasure:
        """The table that all measures are aligned with."""
        return samples_measure(self.pool)

    def of_kind(self, kind: type[object]) -> list[NamedMeasure]:
        """The measures of one kind, in order."""
        return [measure for measure in self.measures if isinstance(measure.options, kind)]


@dataclass(frozen=True)
class ShardReport:
    """What became of one shard in this run; small enough to cross a pipeline.

    Attributes:
        failure: a shard failure code, or None; with `complete` False the shard has no rows in
            the store and is tried again by the next run.
        measured: names of what was measured now; empty where all was there.
        model_seconds: how long models took; read_ahead: summed over the rows, how many more were
            read by then, as of a queue.
    """

    part: str
    uri: str
    rows: int
    failed_rows: int
    measured: tuple[str, ...]
    failure: str | None = None
    detail: str = ""
    complete: bool = True
    model_seconds: float = 0.0
    read_ahead: int = 0


class DoneParts:
    """Which parts each group of a store holds; one listing for each group."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._groups: dict[str, frozenset[str]] = {}

    def has(self, group: str, part: str) -> bool:
        """True where the part is committed."""
        if group not in self._groups:
            names = self._store.folder.names(group)
            ends = ".done.json"
            self._groups[group] = frozenset(name.removesuffix(ends) for name in names if name.endswith(ends))
        return part in self._groups[group]


def missing_measures(shard: Shard, config: MeasureConfig, done: DoneParts) -> frozenset[str]:
    """The names of the tables that this shard still lacks."""
    wanted = (config.samples, *config.measures)
    return frozenset(item.name for item in wanted if not done.has(item.group, shard.part))


def measure_shards(shards: Iterable[Shard], config: MeasureConfig) -> Iterator[ShardReport]:
    """Brings the shards up to date, in order; yields a report as each one is committed.

    shards: the next is asked for when the one before is read, so that workers may share them out.
    """
    lane = _Lane(config)
    coming = iter(shards)
    if (first := next(coming, None)) is None:
        return
    if first.format == "datacomp":
        for shard in chain([first], coming):
            yield _take_metadata(shard, config, lane.lacking(shard), lane.marks)
        return
    asked: deque[tuple[Shard, frozenset[str]]] = deque()
    meters = config.of_kind(SampleMeasure)
    tasks = lane.tasks(chain([first], coming), asked)
    stream = stream_shards(tasks, meters, config.pool, decode_threads=config.decode_threads)
    with contextlib.closing(stream) as results:
        for found in results:
            while (entry := asked.popleft())[0] is not found.task.shard:
                yield _derived(*entry, config)
            yield replace(
                _commit(found, config, entry[1]),
                model_seconds=found.model_seconds,
                read_ahead=found.read_ahead,
            )
    for entry in asked:
        yield _derived(*entry, config)


class _Lane:
    """What measuring shard after shard needs to know of the store."""

    def __init__(self, config: MeasureConfig) -> None:
        self.marks = Marks.load(config.store)
        self._config = config
        self._done = DoneParts(config.store)
        self._streamed = {"samples", *(measure.name for measure in config.of_kind(SampleMeasure))}

    def lacking(self, shard: Shard) -> frozenset[str]:
        """What the shard still lacks."""
        return missing_measures(shard, self._config, self._done)

    def tasks(
        self, shards: Iterable[Shard], asked: deque[tuple[Shard, frozenset[str]]]
    ) -> Iterator[ShardTask]:
        """The shards that must be read; `asked` takes all of them, with what they lack."""
        for shard in shards:
            lacking = self.lacking(shard)
            asked.append((shard, lacking))
            if lacking & self._streamed:
                measured = "samples" not in lacking
                group = self._config.samples.group
                veil = Veil.over(self._config.store, group, shard.part, self.marks, measured=measured)
                yield ShardTask(shard, lacking & self._streamed, veil)


def _derived(shard: Shard, lacking: frozenset[str], config: MeasureConfig) -> ShardReport:
    """The report on a shard that need not be read."""
    _derive(shard, config, lacking)
    return _report(shard, config, lacking, ShardEnd())


def record_killer(shard: Shard, config: MeasureConfig) -> ShardReport:
    """Records a shard that ended every worker that read it; a later run tries it again."""
    return _record_unread(shard, config, ShardEnd("worker_killed", 0, SHARD_FAILURES["worker_killed"]))


def _record_unread(shard: Shard, config: MeasureConfig, end: ShardEnd) -> ShardReport:
    _write_failures(config, shard, end, None)
    logger.warning("%s: %s (%s)", shard.uri, end.code, end.detail, extra={"shard": shard.uri})
    return ShardReport(shard.part, shard.uri, 0, 0, (), end.code, end.detail, complete=False)


# --- tars and Parquet with images


def _commit(found: MeasuredShard, config: MeasureConfig, lacking: frozenset[str]) -> ShardReport:
    shard = found.task.shard
    end = found.end
    if end.code in ("shard_missing", "shard_unreadable"):
        return _record_unread(shard, config, end)
    table = samples_table(shard, found.samples)
    if "samples" in lacking:
        members = [sample.raw.image_name for sample in found.samples]
        _write_samples(config, shard, end, table, members)
    else:
        _check_same_rows(config, shard, table)
    for measure in config.of_kind(SampleMeasure):
        if measure.name in lacking:
            _write_measure(config.store, shard, measure, found)
    _derive(shard, config, lacking)
    return _report(shard, config, lacking, end)


def _write_samples(
    config: MeasureConfig, shard: Shard, end: ShardEnd, table: pa.Table, members: Sequence[str] = ()
) -> None:
    """Commits the samples table of a shard, after the failures that it holds."""
    _write_failures(config, shard, end, table, members)
    marker = {
        "shard": shard.uri,
        "end": end.code,
        "ignored_members": end.ignored_members,
        **failure_counts(table),
    }
    config.store.write_part(config.samples.group, shard.part, table, marker=marker)


def _write_measure(store: Store, shard: Shard, measure: NamedMeasure, found: MeasuredShard) -> None:
    count = len(found.samples)
    pieces = found.pieces[measure.name]
    rows = [row for piece_rows, _ in pieces for row in piece_rows]
    columns = {}
    for column in measure.columns():
        values = [value for _, piece in pieces for value in piece.columns[column.name]]
        columns[column.name] = _scatter(values, rows, count, column.type)
    extra = {}
    if isinstance(measure.options, SampleMeasure):
        for kind in measure.options.encodes:
            extra[measure.embeddings(kind, shard.part)] = _scatter_embeddings(pieces, kind, count)
    store.write_part(measure.group, shard.part, pa.table(columns), marker={"shard": shard.uri}, extra=extra)


def _scatter(values: Sequence[Any], rows: Sequence[int], count: int, kind: pa.DataType) -> pa.Array:
    """The values at their rows, null elsewhere."""
    whole: list[Any] = [None] * count
    for row, value in zip(rows, values, strict=True):
        whole[row] = value
    return pa.array(whole, kind, from_pandas=True)


def _scatter_embeddings(
    pieces: Sequence[tuple[list[int], Any]], kind: str, count: int
) -> NDArray[np.float16]:
    """The embeddings at their rows, NaN elsewhere; (n, d) float16, d is 0 where nothing was measured."""
    width = pieces[0][1].embeddings[kind].shape[1] if pieces else 0
    whole = np.full((count, width), np.nan, dtype=np.float16)
    for rows, piece in pieces:
        whole[rows] = piece.embeddings[kind]
    return whole


def _check_same_rows(config: MeasureConfig, shard: Shard, table: pa.Table) -> None:
    stored = config.store.read_part(config.samples.group, shard.part, ["uid"])
    if not stored["uid"].equals(table["uid"]):
        msg = f"{shard.uri} has other rows than when it was measured first, under the same size and time"
        raise StoreError(msg)


def _write_failures(
    config: MeasureConfig, shard: Shard, end: ShardEnd, table: pa.Table | None, members: Sequence[str] = ()
) -> None:
    """Writes what could not be read, where there is any.

    table: the samples; None where the shard gave no rows. members: each row's image member.
    """
    rows: list[dict[str, object]] = []
    if table is not None:
        broken = table.filter(pc.is_valid(table["failure"]))
        names = {"code": "failure", "detail": "failure_detail", "offset": "sample_offset"}
        for found in broken.to_pylist():
            renamed = {ours: found[theirs] for ours, theirs in names.items()}
            member = shown(members[found["row"]]) or None if members else None
            place = {name: found[name] for name in ("shard", "row", "key")}
            rows.append({**renamed, **place, "member": member})
    if end.code is not None:
        rows.append({"shard": shard.uri, "offset": end.offset, "code": end.code, "detail": end.detail})
    name = f"failures/{config.samples.folder}/{shard.part}.parquet"
    if rows:
        with config.store.folder.commit(name) as path:
            pq.write_table(pa.Table.from_pylist(rows, FAILURES_SCHEMA), path)
    else:
        config.store.folder.remove(name)


# --- measures that need no picture


def _derive(shard: Shard, config: MeasureConfig, lacking: frozenset[str]) -> None:
    writers = {
        column.name: measure for measure in (config.samples, *config.measures) for column in measure.columns()
    }
    for measure in config.of_kind(DerivedMeasure):
        if measure.name not in lacking or not isinstance(measure.options, DerivedMeasure):
            continue
        columns = {
            name: config.store.read_part(writers[name].group, shard.part, [name])[name].combine_chunks()
            for name in measure.options.reads()
        }
        derived = measure.options.derive(measure.name, columns, _embeddings(shard, config, measure.options))
        config.store.write_part(
            measure.group, shard.part, pa.table(dict(derived)), marker={"shard": shard.uri}
        )


def _embeddings(shard: Shard, config: MeasureConfig, options: DerivedMeasure) -> NDArray[np.float16] | None:
    wanted = options.encoder()
    encoder = next((measure for measure in config.measures if measure.name == wanted), None)
    if encoder is None:
        return None
    return config.store.read_array(encoder.embeddings("img", shard.part))


def _report(shard: Shard, config: MeasureConfig, lacking: frozenset[str], end: ShardEnd) -> ShardReport:
    marker = config.store.done(config.samples.group, shard.part)
    if marker is None:
        msg = f"the part {shard.part} of {shard.uri} vanished from the store while it was in use"
        raise StoreError(msg)
    code = end.code or marker["end"]
    logger.info("%s: %d rows, %d failed", shard.uri, marker["rows"], marker["failed_rows"])
    return ShardReport(
        shard.part, shard.uri, marker["rows"], marker["failed_rows"], tuple(sorted(lacking)), code, end.detail
    )


# --- DataComp metadata


def _take_metadata(
    shard: Shard, config: MeasureConfig, lacking: frozenset[str], marks: Marks | None
) -> ShardReport:
    if not lacking:
        return _report(shard, config, lacking, ShardEnd())
    try:
        table = _read_metadata(shard, config.pool)
        gone: list[int] = []
        if "samples" in lacking:
            samples = _metadata_samples(shard, table)
            gone = [] if marks is None else marks.rows(samples)
            _write_samples(config, shard, ShardEnd(), blank_samples(samples, shard.part, gone))
        elif marks is not None:
            gone = removed_rows(config.store, config.samples.group, shard.part)
        for measure in config.of_kind(PoolMeasure):
            if measure.name in lacking and isinstance(measure.options, PoolMeasure):
                with _npz_beside(shard) as arrays:
                    columns, embeddings = measure.options.take(measure.name, table, arrays)
                extra = {
                    measure.embeddings(kind, shard.part): blank_vectors(array, gone)
                    for kind, array in embeddings.items()
                }
                config.store.write_part(
                    measure.group,
                    shard.part,
                    blank_rows(pa.table(dict(columns)), gone),
                    marker={"shard": shard.uri},
                    extra=extra,
                )
    except (FileNotFoundError, pa.ArrowInvalid, OSError, SkipShard, KeyError, ValueError) as cause:
        return _record_unread(shard, config, _ending(cause))
    _derive(shard, config, lacking)
    return _report(shard, config, lacking, ShardEnd())


def _read_metadata(shard: Shard, options: PoolOptions) -> pa.Table:
    """The Parquet file; a missing or failing one is tried again."""
    waits = iter(options.retry_seconds)
    while True:
        try:
            with client_errors(), shard.open() as stream:
                return pq.read_table(stream, use_threads=False)
        except OSError:
            wait = next(waits, None)
            if wait is None:
                raise
            time.sleep(wait)


def _ending(cause: BaseException) -> ShardEnd:
    if isinstance(cause, FileNotFoundError):
        return ShardEnd("shard_missing", 0, str(cause))
    code = cause.code if isinstance(cause, SkipShard) else "shard_unreadable"
    return ShardEnd(code, 0, f"{type(cause).__name__}: {cause}"[:300])


@contextlib.contextmanager
def _npz_beside(shard: Shard) -> Iterator[IO[bytes] | None]:
    """The npz of a DataComp shard, opened, or None where there is none."""
    npz = replace(shard, uri=shard.uri.removesuffix(".parquet") + ".npz")
    try:
        stream = npz.open()
    except FileNotFoundError:
        yield None
        return
    with stream:
        yield stream


def _metadata_samples(shard: Shard, table: pa.Table) -> pa.Table:
    """The samples table of a metadata shard: no bytes, so only a missing caption can fail.

    Raises: SkipShard where `uid` or `text` is not there; ValueError for a uid that is none.
    """
    absent = sorted({"uid", "text"} - set(table.column_names))
    if absent:
        msg = f"DataComp metadata without {' and '.join(absent)}"
        raise SkipShard("shard_unreadable", msg)
    count = table.num_rows
    text = table["text"].cast(pa.string()).combine_chunks()
    uid = pc.utf8_lower(table["uid"].cast(pa.string()).combine_chunks())
    parse_uids(uid)  # raises ValueError where one is none
    url = table["url"].cast(pa.string()) if "url" in table.column_names else pa.nulls(count, pa.string())
    failure = pc.if_else(pc.is_null(text), pa.scalar("missing_caption"), pa.scalar(None, pa.string()))
    nowhere = pa.nulls(count, pa.int64())
    columns: Mapping[str, object] = {
        "shard": pa.array([shard.uri] * count, pa.string()).dictionary_encode().cast(LABEL),
        "row": pa.array(np.arange(count, dtype=np.int32)),
        "key": uid,
        "uid": uid,
        "caption": text,
        "url": url,
        "failure": failure.dictionary_encode().cast(LABEL),
        "failure_detail": pa.nulls(count, pa.string()),
        "sample_offset": pa.array(np.arange(count, dtype=np.int64)),
        "sample_bytes": nowhere,
        "image_offset": nowhere,
        "image_bytes": nowhere,
    }
    return pa.table(columns, schema=SCHEMA)


def total_rows(reports: Iterable[ShardReport]) -> int:
    """Rows read, over all shards."""
    return sum(report.rows for report in reports)
