"""The table that every other one is aligned with: who each row is, where it lies, what failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from transforms.decode import DecodedSample
from transforms.failures import REMOVED
from transforms.measure import Column, Measure, NamedMeasure
from transforms.pool import PoolOptions, Shard

LABEL = pa.dictionary(pa.int32(), pa.string())

COLUMNS = (
    Column("shard", LABEL, "the shard's path or URL"),
    Column("row", pa.int32(), "place among all samples of the shard, also broken ones", "0.."),
    Column("key", pa.string(), "WebDataset key, or one made from shard and row"),
    Column("uid", pa.string(), "the source's uid, else xxh3-128 of image and caption", "32 hex digits"),
    Column("caption", pa.string(), "caption; null where it is missing or not UTF-8"),
    Column("url", pa.string(), "where the image was crawled, if the source says so"),
    Column("failure", LABEL, "why the row can't be used; null for a good one"),
    Column("failure_detail", pa.string(), "more about the failure"),
    Column("sample_offset", pa.int64(), "first byte of the sample in its tar; row in Parquet"),
    Column("sample_bytes", pa.int64(), "bytes of the sample in its tar, headers included"),
    Column("image_offset", pa.int64(), "first byte of the image in its tar", "bytes"),
    Column("image_bytes", pa.int64(), "size of the encoded image", "bytes"),
)
SCHEMA = pa.schema([(column.name, column.type) for column in COLUMNS])


class Samples(Measure):
    """Identity of every row; its options are those that decide which rows fail."""

    version: ClassVar[int] = 1

    pool: PoolOptions

    def columns(self, name: str) -> tuple[Column, ...]:  # noqa: ARG002
        return COLUMNS

    def identity(self) -> dict[str, object]:
        return self.pool.model_dump(mode="json", exclude={"retry_seconds", "decode_timeout_seconds"})


def samples_measure(options: PoolOptions) -> NamedMeasure:
    """The samples table of a pool that is read with these options."""
    return NamedMeasure("samples", "samples", Samples(pool=options))


def samples_table(shard: Shard, samples: Sequence[DecodedSample]) -> pa.Table:
    """The rows of one shard, in order."""
    raws = [sample.raw for sample in samples]
    return pa.table(
        {
            "shard": labels([shard.uri] * len(samples)),
            "row": pa.array([raw.row for raw in raws], pa.int32()),
            "key": pa.array([shown(raw.key) for raw in raws], pa.string()),
            "uid": pa.array([sample.uid for sample in samples], pa.string()),
            "caption": pa.array([sample.caption for sample in samples], pa.string()),
            "url": pa.array([sample.url and shown(sample.url) for sample in samples], pa.string()),
            "failure": labels([sample.failure for sample in samples]),
            "failure_detail": pa.array(
                [shown(sample.detail) if sample.failure else None for sample in samples], pa.string()
            ),
            "sample_offset": pa.array([_known(raw.offset) for raw in raws], pa.int64()),
            "sample_bytes": pa.array([_known(raw.size) for raw in raws], pa.int64()),
            "image_offset": pa.array([_known(raw.image_offset) for raw in raws], pa.int64()),
            "image_bytes": pa.array([_known(raw.image_bytes) for raw in raws], pa.int64()),
        },
        schema=SCHEMA,
    )


def failure_counts(table: pa.Table) -> dict[str, int]:
    """How many rows of a samples table failed, and of them were removed from the store, if any."""
    failed = table["failure"].drop_null().cast(pa.string())
    removed = pc.sum(pc.equal(failed, REMOVED)).as_py() or 0
    return {"failed_rows": len(failed), **({"removed_rows": removed} if removed else {})}


def labels(values: Sequence[str | None]) -> pa.Array:
    """The values dictionary-encoded, whatever they are; also where none is there."""
    return pa.array(values, pa.string()).dictionary_encode().cast(LABEL)


def _known(offset: int) -> int | None:
    return offset if offset >= 0 else None


def shown(text: str) -> str:
    """Names in a tar may be any bytes; what is no UTF-8 is shown escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
