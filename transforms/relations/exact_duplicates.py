"""Which earlier survivor has the same hash: `duplicate_of` and `compared` for every row.

Rows are brought together by the first byte of their hash, so that one bucket is small and any
engine can hold it; within a bucket a sort does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from filters.core.declaration import Columns
from filters.core.uids import parse_uids
from filters.drop_exact_duplicates import DropExactDuplicates

BUCKETS = 256
ENTRY = pa.schema(
    [("hash", pa.string()), ("uid", pa.string()), ("shard_number", pa.int32()), ("row", pa.int32())]
)
ANSWER = pa.schema([("row", pa.int32()), ("duplicate_of", pa.string())])


def entries(
    options: DropExactDuplicates, columns: Columns, alive: NDArray[np.bool_], shard_number: int
) -> Iterator[tuple[int, pa.Table]]:
    """The survivors of one part by bucket: what is exchanged.

    Yields: (bucket, table of ENTRY); about 80 bytes for each row.
    """
    content = columns[f"{options.by}_hash"]
    chosen = np.flatnonzero(alive & pc.is_valid(content).to_numpy(zero_copy_only=False))
    hashes = content.take(pa.array(chosen))
    if options.same_caption:
        hashes = _with_caption(hashes, columns["caption"].take(pa.array(chosen)))
    table = pa.table(
        {
            "hash": hashes,
            "uid": columns["uid"].take(pa.array(chosen)),
            "shard_number": pa.array(np.full(len(chosen), shard_number, np.int32)),
            "row": pa.array(chosen.astype(np.int32)),
        },
        schema=ENTRY,
    )
    buckets = _buckets(hashes)
    for bucket in np.unique(buckets):
        yield int(bucket), table.filter(pa.array(buckets == bucket))


def duplicates(table: pa.Table) -> dict[int, pa.Table]:
    """The copies in one bucket; every row of a hash lies in the same bucket.

    table: ENTRY. Returns: shard number -> table of ANSWER. The original is the row with the
    smallest uid, then shard, then row.
    """
    uids = parse_uids(table["uid"])
    shards = table["shard_number"].to_numpy()
    rows = table["row"].to_numpy()
    codes = table["hash"].combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((rows, shards, uids[:, 1], uids[:, 0], codes))
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = codes[order][1:] != codes[order][:-1]
    heads = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    copies = ~first
    found = pa.table(
        {
            "row": pa.array(rows[order][copies].astype(np.int32)),
            "duplicate_of": table["uid"].combine_chunks().take(pa.array(order[heads[copies]])),
        },
        schema=ANSWER,
    )
    where = shards[order][copies]
    return {int(shard): found.filter(pa.array(where == shard)) for shard in np.unique(where)}


def relation_columns(answers: list[pa.Table], compared: NDArray[np.bool_]) -> dict[str, pa.Array]:
    """The columns of one part: `duplicate_of` (uid or null) and `compared`."""
    originals = np.full(len(compared), None, dtype=object)
    for answer in answers:
        originals[answer["row"].to_numpy()] = answer["duplicate_of"].to_pylist()
    return {
        "duplicate_of": pa.array(originals, pa.string()),
        "compared": pa.array(compared),
    }


def compared_rows(
    options: DropExactDuplicates, columns: Columns, alive: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """True for the rows that `entries` brings into the comparison."""
    result: NDArray[np.bool_] = alive & pc.is_valid(columns[f"{options.by}_hash"]).to_numpy(
        zero_copy_only=False
    )
    return result


def _buckets(hashes: pa.Array) -> NDArray[np.int64]:
    leading = pc.utf8_slice_codeunits(hashes, 0, 2)
    return np.array([int(pair, 16) for pair in leading.to_pylist()], dtype=np.int64) % BUCKETS


def _with_caption(hashes: pa.Array, captions: pa.Array) -> pa.Array:
    pairs = zip(hashes.to_pylist(), captions.to_pylist(), strict=True)
    return pa.array(
        [xxhash.xxh3_128_hexdigest(f"{content} {caption}".encode()) for content, caption in pairs],
        pa.string(),
    )
