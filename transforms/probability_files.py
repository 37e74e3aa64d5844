"""Predicted probabilities that a user brings: Parquet files with `uid`, `p` and perhaps `label`.

`p` is a list of numbers that sums to 1, one for each class; `label` the class that was given, as
its number or its name. Rows may stand in any order and any file; a uid stands once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.core.catalogue import nearest
from filters.core.confident import usable
from filters.core.errors import RecipeError
from filters.core.uids import parse_uids
from transforms.references import find_files
from transforms.storage import redact

WHAT = "probabilities"
BLOCK_ROWS = 32_768
# uid: 16 bytes in the order of its text.
INDEX = np.dtype([("uid", "S16"), ("block", "<i4"), ("row", "<i4")])

Records: TypeAlias = NDArray[np.void]
Index: TypeAlias = NDArray[np.void]


@dataclass(frozen=True)
class ProbabilityFile:
    """One file; picklable.

    Attributes:
        groups: rows of each row group; classes: numbers in each `p`, 0 where no row tells.
        labelled: whether it has labels.
    """

    uri: str
    groups: tuple[int, ...]
    classes: int
    labelled: bool

    @property
    def name(self) -> str:
        """How messages call it."""
        return redact(self.uri)


def find_probabilities(patterns: Sequence[str]) -> list[ProbabilityFile]:
    """The files that match, sorted; reads their schemas, and one row of each.

    Raises: RecipeError where one is absent or of another form, or they differ in classes or labels.
    """
    files = [_described(uri) for uri in find_files(patterns, WHAT)]
    told = [file for file in files if file.classes]
    if not told:
        msg = f"{WHAT}: no row in {', '.join(file.name for file in files)}"
        raise RecipeError(msg)
    for file in told:
        if file.classes != told[0].classes:
            msg = (
                f"{WHAT}: `p` has {told[0].classes} numbers in {told[0].name} and {file.classes} in "
                f"{file.name}: give one for each class everywhere"
            )
            raise RecipeError(msg)
    if len({file.labelled for file in files}) > 1:
        bare = next(file.name for file in files if not file.labelled)
        msg = f"{WHAT}: {bare} has no column `label`, but others have: give it to all or to none"
        raise RecipeError(msg)
    return files


def read_blocks(
    file: ProbabilityFile, group: int, classes: int, names: Mapping[str, int]
) -> Iterator[Records]:
    """The rows of a row group, some at a time: uid S16, label int32 (-1 for none) and p (classes,) float32.

    names: name of a class in lower case -> its number, for labels that are text.
    Raises: RecipeError where a row is none, naming file, row and fix.
    """
    first = sum(file.groups[:group])
    wanted = ["uid", "p", *(["label"] if file.labelled else [])]
    try:
        with fsspec.open(file.uri, "rb") as stream:
            opened = pq.ParquetFile(stream)
            for batch in opened.iter_batches(BLOCK_ROWS, row_groups=[group], columns=wanted):
                yield _records(file, first, pa.table(batch), classes, names)
                first += batch.num_rows
    except (OSError, pa.ArrowException) as cause:
        raise _unreadable(file.uri, cause) from cause


def uid_keys(uids: NDArray[np.uint64]) -> NDArray[np.bytes_]:
    """The uids, (n, 2) uint64, as 16 bytes each, which sort like their text: (n,) S16."""
    wide = np.ascontiguousarray(uids.astype(">u8"))
    keys: NDArray[np.bytes_] = wide.view("S16").reshape(len(uids))
    return keys


def build_index(blocks: Sequence[NDArray[np.bytes_]]) -> Index:
    """Where each uid stands, sorted; blocks: the uids of each block of rows.

    Raises: RecipeError where one stands twice.
    """
    index = np.zeros(sum(map(len, blocks)), INDEX)
    done = 0
    for number, uids in enumerate(blocks):
        some = index[done : done + len(uids)]
        some["uid"], some["block"], some["row"] = uids, number, np.arange(len(uids))
        done += len(uids)
    index = index[np.argsort(index["uid"], kind="stable")]
    twice = np.flatnonzero(index["uid"][1:] == index["uid"][:-1])
    if len(twice):
        uid = bytes(index["uid"][twice[0]]).ljust(16, b"\0").hex()
        msg = f"{WHAT}: the uid {uid} stands there twice: keep one row of it"
        raise RecipeError(msg)
    return index


def places_of(keys: NDArray[np.bytes_], index: Index) -> NDArray[np.int64]:
    """Where in the index each uid stands: (n,) int64, -1 for nowhere."""
    if len(index) == 0:
        return np.full(len(keys), -1, np.int64)
    known = index["uid"]
    places = np.minimum(np.searchsorted(known, keys), len(index) - 1)
    return np.where(known[places] == keys, places, -1).astype(np.int64)


def _described(uri: str) -> ProbabilityFile:
    name = redact(uri)
    try:
        with fsspec.open(uri, "rb") as stream:
            opened = pq.ParquetFile(stream)
            schema = opened.schema_arrow
            lists = "p" in schema.names and _is_list(schema.field("p").type)
            if not lists or "uid" not in schema.names:
                msg = (
                    f"{WHAT}: {name} has {', '.join(map(str, schema.names))}; "
                    "write uid (32 hex digits), p (a list of numbers) and perhaps label"
                )
                raise RecipeError(msg)
            groups = tuple(opened.metadata.row_group(at).num_rows for at in range(opened.num_row_groups))
            classes = 0
            for batch in opened.iter_batches(1, columns=["p"]):
                classes = len(batch["p"][0].as_py() or ())
                if classes:
                    break
    except (OSError, pa.ArrowException) as cause:
        raise _unreadable(uri, cause) from cause
    return ProbabilityFile(uri, groups, classes, "label" in schema.names)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _records(
    file: ProbabilityFile, first: int, table: pa.Table, classes: int, names: Mapping[str, int]
) -> Records:
    """The rows of a table, checked; first: the number of its first row in the file."""
    found = np.zeros(len(table), [("uid", "S16"), ("label", "<i4"), ("p", "<f4", (classes,))])
    try:
        found["uid"] = uid_keys(parse_uids(table["uid"].cast(pa.string())))
    except ValueError as cause:
        msg = f"{WHAT}: {file.name}, from row {first}: {cause}"
        raise RecipeError(msg) from cause
    lists = table["p"].combine_chunks().cast(pa.large_list(pa.float32()))
    lengths = pc.list_value_length(lists)
    wrong = pc.fill_null(pc.not_equal(lengths, classes), fill_value=False).to_numpy(zero_copy_only=False)
    if wrong.any():
        row = int(np.argmax(wrong))
        msg = f"{WHAT}: {file.name}, row {first + row}: `p` has {lengths[row]} numbers, not {classes}"
        raise RecipeError(msg)
    valid = pc.is_valid(lists).to_numpy(zero_copy_only=False)
    found["p"] = np.nan
    found["p"][valid] = lists.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, classes)
    found["label"] = _labels(file, first, table["label"], names) if file.labelled else -1
    try:
        usable(found["label"], found["p"])
    except ValueError as cause:
        msg = f"{WHAT}: {file.name}, from row {first}: {cause}"
        raise RecipeError(msg) from cause
    return found


def _labels(
    file: ProbabilityFile, first: int, column: pa.ChunkedArray, names: Mapping[str, int]
) -> NDArray[np.int32]:
    kind = column.type
    if pa.types.is_integer(kind):
        return pc.fill_null(column, -1).cast(pa.int32()).to_numpy()  # type: ignore[no-any-return]
    given: list[Any] = column.to_pylist()
    found = np.full(len(given), -1, np.int32)
    for row, label in enumerate(given):
        if label is None:
            continue
        number = names.get(label.casefold()) if isinstance(label, str) else None
        if number is None:
            said = (
                nearest(str(label), names)
                if names
                else "name them with `labels`, a vocabulary, or give numbers"
            )
            msg = f"{WHAT}: {file.name}, row {first + row}: no class {label!r}; {said}"
            raise RecipeError(msg)
        found[row] = number
    return found


def _unreadable(uri: str, cause: Exception) -> RecipeError:
    reason = next(iter(str(cause).splitlines()), type(cause).__name__)
    return RecipeError(f"{WHAT}: can't read {redact(uri)} as Parquet: {reason}")
