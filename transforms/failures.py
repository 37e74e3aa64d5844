"""Why a row, a member or a shard could not be used: every code, with its meaning.

A row with a failure keeps its place; its verdict is "failed". Shard codes end up in `failures/`
and in the run's summary.
"""

from __future__ import annotations

import pyarrow as pa

REMOVED = "removed"
ROW_FAILURES: dict[str, str] = {
    "zero_bytes": "the image member is empty",
    "truncated_image": "the image file ends before its picture is complete",
    "not_an_image": "the bytes are no image in a format that is read (HTML, text, unknown)",
    "wrong_extension": "the bytes are an image of another format than the member's name says",
    "decompression_bomb": "the image declares more pixels than the pool's max_pixels",
    "member_too_large": "the member has more bytes than the pool's max_member_bytes",
    "timeout": "decoding took longer than the pool's decode_timeout_seconds",
    "missing_image": "the sample has no image member, or its image is null",
    "missing_caption": "the sample has no caption: no .txt member and no caption in its json",
    "invalid_utf8": "the caption or json member is not UTF-8",
    "invalid_json": "the json member is not a JSON object",
    "duplicate_key": "an earlier sample of the shard has the same key",
    REMOVED: "taken out of the store by `curate remove`; the records in removed/ say by whom and why",
}

SHARD_FAILURES: dict[str, str] = {
    "tar_truncated": "the tar ends inside a member; the samples before it are used",
    "tar_corrupt": "a tar header is damaged; the samples before it are used",
    "shard_missing": "the shard is not there",
    "shard_unreadable": "the shard could not be read after every retry, or is not in its format",
    "worker_killed": "every process that read the shard died of it, also one of its own",
}

FAILURES_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("row", pa.int32()),  # null for a shard failure
        ("key", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),  # bytes into the shard, or the row of a Parquet file
        ("code", pa.string()),
        ("detail", pa.string()),
    ]
)
