"""Tables, arrays and tars without the samples that were removed: pure functions, rows keep their places."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.core.uids import parse_uids
from transforms.failures import FAILURES_SCHEMA, REMOVED
from transforms.pools.webdataset import OWN_EXTENSION, split_name
from transforms.removal.marks import stand_in, true_rows
from transforms.samples import labels
from transforms.tar import Member, TarStream, end_tar

Uids = NDArray[np.uint64]
_COPY_BYTES = 1 << 22
# What the samples table says of where the bytes lie: the pool still has them.
_PLACES = ("sample_offset", "sample_bytes", "image_offset", "image_bytes")


def blank_rows(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    """The table with nulls in all columns of these rows."""
    if not rows:
        return table
    places = np.arange(table.num_rows)
    gone = np.zeros(table.num_rows, np.bool_)
    gone[list(rows)] = True
    return table.take(pa.array(places, mask=gone))


def blank_samples(table: pa.Table, part: str, rows: Sequence[int]) -> pa.Table:
    """A samples table whose rows have stand-ins for uid and key, and `removed` for all else."""
    if not rows:
        return table
    blank = blank_rows(table, rows)
    names = [stand_in(part, row) for row in rows]
    failure = _replaced(table["failure"].cast(pa.string()), rows, [REMOVED] * len(rows))
    columns = {
        **{name: table[name] for name in table.column_names},
        **{name: blank[name] for name in ("caption", "url", *_PLACES)},
        **{name: _replaced(table[name], rows, names) for name in ("uid", "key")},
        "failure": labels(failure.to_pylist()),
        "failure_detail": _replaced(table["failure_detail"], rows, [""] * len(rows)),
    }
    return pa.table(columns, schema=table.schema)


def blank_ledger(table: pa.Table, part: str, rows: Sequence[int]) -> pa.Table:
    """A ledger whose rows have failed: a stand-in as uid, weight 0, no vote, null elsewhere."""
    if not rows:
        return table
    blank = blank_rows(table, rows)
    columns: dict[str, Any] = {name: blank[name] for name in table.column_names}
    columns["uid"] = _replaced(table["uid"], rows, [stand_in(part, row) for row in rows])
    columns["weight"] = _replaced(table["weight"], rows, [0] * len(rows))
    columns["verdict"] = _relabelled(table["verdict"], rows, "failed")
    votes = table.schema.field("votes").type
    # As `decide` writes it: a struct of nulls, not a null.
    fields = pc.struct_field
    blanked = [fields(blank["votes"].combine_chunks(), item.name) for item in votes]
    columns["votes"] = pa.StructArray.from_arrays(blanked, fields=list(votes))
    return pa.table(columns, schema=table.schema)


def blank_vectors(array: NDArray[Any], rows: Sequence[int]) -> NDArray[Any]:
    """Embeddings (n, d) with NaN in these rows: a copy, where there are any."""
    if not rows:
        return array
    blank = np.array(array)
    blank[list(rows)] = np.nan
    return blank


def renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """The table with other uids in the text columns that hold some of these; itself where none does."""
    wanted = pa.array(list(names), pa.string())
    for at, field in enumerate(table.schema):
        if not pa.types.is_string(field.type):
            continue
        column = table[field.name]
        rows = true_rows(pc.is_in(column, value_set=wanted))
        if rows:
            others = [names[name] for name in column.take(pa.array(rows)).to_pylist()]
            table = table.set_column(at, field, _replaced(column, rows, others))
    return table


def failures_without(table: pa.Table | None, shard: str, part: str, rows: Sequence[int]) -> pa.Table:
    """The failures of a part: what was there of other rows, and these rows as removed.

    table: what was there, None for nothing. Rows come in order, what failed as a whole last.
    """
    gone = set(rows)
    kept = [row for row in (table.to_pylist() if table is not None else []) if row["row"] not in gone]
    nothing = dict.fromkeys(FAILURES_SCHEMA.names)
    told = {"shard": shard, "code": REMOVED, "detail": ""}
    kept += [{**nothing, **told, "row": row, "key": stand_in(part, row)} for row in rows]
    kept.sort(key=lambda row: (row["row"] is None, row["row"] or 0))
    return pa.Table.from_pylist(kept, FAILURES_SCHEMA)


def uid_pairs(uids: Collection[str]) -> Uids:
    """The uids as numbers, (n, 2) uint64."""
    return parse_uids(pa.array(sorted(uids), pa.string()))


# --- tars


@dataclass(frozen=True)
class _Packed:
    """A sample of a curated tar: where its members begin and end, and its uid."""

    start: int
    end: int
    uid: str | None


def packed_uids(source: IO[bytes]) -> list[str | None]:
    """The uid of each sample of a curated tar, in order; None where its member does not say.

    Raises: TarEnded where the tar is damaged.
    """
    return [one.uid for one in _packed(source)]


def copy_tar_without(source: IO[bytes], target: IO[bytes], uids: Collection[str]) -> int:
    """Copies a curated tar, byte for byte, without the samples of these uids; returns how many stay.

    Raises: TarEnded where the tar is damaged.
    """
    stays = [one for one in _packed(source) if one.uid not in uids]
    for one in stays:
        source.seek(one.start)
        _copy(source.read, target, one.end - one.start)
    end_tar(target)
    return len(stays)


def _packed(source: IO[bytes]) -> Iterator[_Packed]:
    """The samples in order; neighbours with one key are one sample, as keys are unique in a tar."""
    key: str | None = None
    start = end = 0
    uid: str | None = None
    tar = TarStream(source)
    for member in tar:
        named = split_name(member.name)
        if named is None or named[0] != key:
            if end > start:
                yield _Packed(start, end, uid)
            key, uid, start = (named or (None, ""))[0], None, member.header_offset
        if named is not None and named[1] == OWN_EXTENSION:
            uid = _uid(tar, member)
        end = member.end
    if end > start:
        yield _Packed(start, end, uid)


def _uid(tar: TarStream, member: Member) -> str | None:
    try:
        found = json.loads(tar.read())
    except ValueError:
        return None
    return str(found["uid"]) if member.size and isinstance(found, dict) and "uid" in found else None


def _copy(read: Callable[[int], bytes], target: IO[bytes], count: int) -> None:
    while count > 0 and (piece := read(min(count, _COPY_BYTES))):
        target.write(piece)
        count -= len(piece)


# --- columns


def _replaced(column: pa.ChunkedArray, rows: Sequence[int], values: Sequence[Any]) -> pa.Array:
    """The column with other values in these rows, which ascend."""
    whole = column.combine_chunks()
    whole = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    mask = np.zeros(len(whole), np.bool_)
    mask[list(rows)] = True
    return pc.replace_with_mask(whole, pa.array(mask), pa.array(list(values), whole.type))


def _relabelled(column: pa.ChunkedArray, rows: Sequence[int], label: str) -> pa.Array:
    """A dictionary column with one label in these rows; its labels stay in their order."""
    kind = column.type
    values = _replaced(column.cast(kind.value_type), rows, [label] * len(rows))
    first = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    known = list(dict.fromkeys([*first, *values.drop_null().to_pylist(), label]))
    codes = pc.index_in(values, value_set=pa.array(known, kind.value_type)).cast(kind.index_type)
    return pa.DictionaryArray.from_arrays(codes, pa.array(known, kind.value_type))
