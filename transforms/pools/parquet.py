"""Parquet shards with image bytes, read a few rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from filters.core.errors import PoolError
from transforms.pool import PoolOptions, RawSample, ShardEnd

ROWS_AT_ONCE = 32
BUFFER_BYTES = 1 << 20


def read_parquet(stream: IO[bytes], stem: str, options: PoolOptions) -> Iterator[RawSample | ShardEnd]:
    """The rows in order, then one ShardEnd.

    stem: the shard's name, from which the key of a row is made where no column holds one.
    Raises: PoolError where the columns named by the options are not there; OSError or ValueError
    where the file is damaged or can't be read.
    """
    rows = _Rows(stream, stem, options)
    seen: set[str] = set()
    row = 0
    try:
        for batch in rows.batches():
            for values in batch.to_pylist():
                sample = rows.sample(row, values)
                if sample.key in seen:
                    sample.failure, sample.detail = "duplicate_key", f"key {sample.key!r} was there before"
                seen.add(sample.key)
                yield sample
                row += 1
    except (pa.ArrowInvalid, OSError) as cause:
        msg = f"after row {row}: {cause}"
        raise OSError(msg) from cause
    yield ShardEnd()


def read_rows(stream: IO[bytes], options: PoolOptions, wanted: Sequence[int]) -> Iterator[RawSample]:
    """The rows with these numbers, which ascend; only the row groups that hold some are read."""
    rows = _Rows(stream, "", options)
    numbers = np.asarray(wanted, dtype=np.int64)
    first = 0
    for group in range(rows.file.num_row_groups):
        end = first + rows.file.metadata.row_group(group).num_rows
        here = numbers[(numbers >= first) & (numbers < end)]
        at = first
        for batch in rows.batches([group]) if len(here) else ():
            chosen = here[(here >= at) & (here < at + len(batch))]
            values = batch.take(pa.array(chosen - at)).to_pylist() if len(chosen) else []
            for row, found in zip(chosen, values, strict=True):
                yield rows.sample(int(row), found)
            at += len(batch)
            if at > here[-1]:
                break
        first = end


class _Rows:
    """A Parquet file whose columns are known for what they hold."""

    def __init__(self, stream: IO[bytes], stem: str, options: PoolOptions) -> None:
        # Without a buffer size a column of a whole row group is read at once, images and all.
        self.file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=BUFFER_BYTES)
        self._stem = stem
        self._max_bytes = options.max_member_bytes
        schema, columns = self.file.schema_arrow, options.columns
        image = _first(schema.names, columns.image)
        if image is None:
            looked, there = ", ".join(columns.image), ", ".join(schema.names)
            msg = f"no image column: looked for {looked} among {there}; set pool.columns.image"
            raise PoolError(msg)
        if not _holds_bytes(schema.field(image).type):
            kind = schema.field(image).type
            msg = f"column {image!r} has type {kind}, not image bytes; set pool.columns.image"
            raise PoolError(msg)
        self._image = image
        self._caption = _first(schema.names, columns.caption)
        self._key = _first(schema.names, columns.key)
        renamed = {"uid": _first(schema.names, columns.uid), "url": _first(schema.names, columns.url)}
        self._renamed = {name: found for name, found in renamed.items() if found is not None}

    def batches(self, groups: list[int] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of these row groups (all, if None), a few at a time."""
        yield from self.file.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=groups, use_threads=False)

    def sample(self, row: int, values: dict[str, Any]) -> RawSample:
        """One row's values as a sample; columns with other bytes are left out of its metadata."""
        content: Any = values.pop(self._image)
        path = None
        if isinstance(content, dict):
            content, path = content.get("bytes"), content.get("path")
        key = values.get(self._key) if self._key else None
        sample = RawSample(row, str(key) if key not in (None, "") else f"{self._stem}_{row:08d}", row, 1)
        sample.image_name = str(path or "")
        if content is not None:
            sample.image_bytes = len(content)
            if len(content) > self._max_bytes:
                sample.failure, sample.detail = "member_too_large", f"{len(content)} bytes"
            else:
                sample.image = content
        caption = values.get(self._caption) if self._caption else None
        if caption is not None:
            sample.caption = caption if isinstance(caption, bytes) else str(caption).encode()
        rest = {name: value for name, value in values.items() if not isinstance(value, bytes)}
        rest |= {name: values[theirs] for name, theirs in self._renamed.items()}
        sample.metadata = json.dumps(rest, default=_plain, sort_keys=True, ensure_ascii=False).encode()
        return sample


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _plain(value: object) -> str | None:
    """What JSON has no type for: dates as text, bytes not at all."""
    return None if isinstance(value, bytes) else str(value)
