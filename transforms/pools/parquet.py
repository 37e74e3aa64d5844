"""Parquet shards with image bytes, read a few rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from filters.core.errors import PoolError
from transforms.pool import PoolOptions, RawSample, ShardEnd

ROWS_AT_ONCE = 32


def read_parquet(stream: IO[bytes], stem: str, options: PoolOptions) -> Iterator[RawSample | ShardEnd]:
    """The rows in order, then one ShardEnd.

    stem: the shard's name, from which the key of a row is made where no column holds one.
    Raises: PoolError where the columns named by the options are not there.
    """
    file = pq.ParquetFile(stream, pre_buffer=False)
    names = file.schema_arrow.names
    image = _first(names, options.columns.image)
    if image is None:
        msg = f"no image column: looked for {', '.join(options.columns.image)} among {', '.join(names)}"
        raise PoolError(msg)
    key = _first(names, options.columns.key)
    seen: set[str] = set()
    row = 0
    try:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False):
            for values in batch.to_pylist():
                sample = _sample(row, values, image, values.get(key) if key else None, stem, options)
                if sample.key in seen:
                    sample.failure, sample.detail = "duplicate_key", f"key {sample.key!r} was there before"
                seen.add(sample.key)
                yield sample
                row += 1
    except (pa.ArrowInvalid, OSError) as cause:
        yield ShardEnd("shard_unreadable", row, f"after row {row}: {cause}")
        return
    yield ShardEnd()


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _sample(
    row: int, values: dict[str, Any], image: str, key: object, stem: str, options: PoolOptions
) -> RawSample:
    content = values.pop(image)
    path = ""
    if isinstance(content, dict):
        content, path = content.get("bytes"), content.get("path") or ""
    sample = RawSample(row, str(key) if key else f"{stem}_{row:08d}", row, 1)
    sample.image_name = str(path)
    if content is not None:
        sample.image_bytes = len(content)
        sample.image = content
        if len(content) > options.max_member_bytes:
            sample.image = None
            sample.failure, sample.detail = "member_too_large", f"{len(content)} bytes"
    caption = values.get(_first(list(values), options.columns.caption) or "")
    if caption is not None:
        sample.caption = caption if isinstance(caption, bytes) else str(caption).encode()
    known = {"uid": options.columns.uid, "url": options.columns.url}
    renamed = {name: values.get(_first(list(values), where) or "") for name, where in known.items()}
    rest = {**{name: value for name, value in values.items() if not isinstance(value, bytes)}, **renamed}
    sample.metadata = json.dumps(rest, default=str, sort_keys=True, ensure_ascii=False).encode()
    return sample
