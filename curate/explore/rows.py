"""Samples read from the store by their place: only the row groups that hold them."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.explore.columns import Columns, split_rows
from filters.core.uids import parse_uids

# What a list of samples shows; everything of one sample is read when it is opened.
SHOWN = ("uid", "key", "caption", "shard", "row", "width", "height", "failure")
DECIDED = ("verdict", "dropped_by", "value", "value_text", "bound")
UID_DIGITS = 32
Asked = TypeVar("Asked")
Read = TypeVar("Read")
_METADATA = 1024  # files whose footers are kept
_READERS = 2
_FEW = 8  # row groups that threads are not worth starting for, where the store is local


@dataclass(frozen=True)
class _Piece:
    """A row group of a part, by the first of its rows."""

    group: str
    part: int
    number: int
    first: int


class RowReader:
    """Reads rows of a decision; safe to use from several threads."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._footers: OrderedDict[str, pq.FileMetaData] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, name: str) -> list[int]:
        """The rows with this uid, or where none has it, with this key."""
        text = name.strip().lower()
        if len(text) == UID_DIGITS and all(digit in "0123456789abcdef" for digit in text):
            found = self.of_uids([text])
            if found:
                return found[text]
        return self._with_key(name)

    def of_uids(self, uids: Sequence[str]) -> dict[str, list[int]]:
        """Uid -> its rows in the pool's order; those that are not there are left out.

        Raises: ValueError for what is no uid.
        """
        halves = _first_halves(uids)
        if not len(halves) or not self._columns.rows:
            return {}
        rows = self._columns.with_halves(halves).tolist()
        found: dict[str, list[int]] = defaultdict(list)
        for row, sample in zip(rows, self.read(rows, ("uid",), ()), strict=True):
            found[sample["uid"]].append(row)
        return {uid: found[uid] for uid in uids if uid in found}

    def copies_of(self, uid: str, most: int) -> list[int]:
        """The first rows, in the pool's order, that the ledger calls copies of this uid."""
        if "duplicate_of" not in self._columns.places:
            return []
        rows = self._columns.copies_of_halves(_first_halves([uid]))[:most]
        said = self.read(rows, (), ("duplicate_of",))
        return [one["number"] for one in said if one["duplicate_of"] == uid]

    def read(
        self,
        rows: Sequence[int] | NDArray[np.int64],
        shown: Sequence[str] = SHOWN,
        decided: Sequence[str] = DECIDED,
    ) -> list[dict[str, Any]]:
        """The samples of these rows, in this order: their columns of the samples table and the ledger.

        Each also has its `number` in the decision.
        """
        decision = self._columns.decision
        wanted = {decision.manifest["samples"]: list(shown), f"ledger/{decision.ledger}": list(decided)}
        return self.read_groups(rows, wanted)

    def read_groups(
        self, rows: Sequence[int] | NDArray[np.int64], wanted: Mapping[str, list[str]]
    ) -> list[dict[str, Any]]:
        """The columns of several groups for these rows; columns that a group lacks are left out."""
        places = split_rows(self._columns, rows)
        found: list[dict[str, Any]] = [{"number": int(row)} for row in rows]
        pieces: dict[_Piece, list[int]] = defaultdict(list)
        for at, (part, row) in enumerate(places):
            for group, names in wanted.items():
                if names:
                    pieces[self._piece(group, part, row)].append(at)

        def read(piece: _Piece) -> list[dict[str, Any]]:
            inside = [places[at][1] - piece.first for at in pieces[piece]]
            samples: list[dict[str, Any]] = self._table(piece, wanted[piece.group]).take(inside).to_pylist()
            return samples

        for piece, samples in zip(pieces, self.each(read, list(pieces)), strict=True):
            for at, sample in zip(pieces[piece], samples, strict=True):
                found[at] |= sample
        return found

    def each(self, read: Callable[[Asked], Read], asked: Sequence[Asked]) -> list[Read]:
        """What `read` finds for each, side by side where that is worth it."""
        if self._columns.decision.store.folder.local and len(asked) <= _FEW:
            return [read(one) for one in asked]
        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(read, asked))

    def row(self, number: int, group: str) -> pa.Table:
        """Every column of a group for one row: a table of one row."""
        ((part, place),) = split_rows(self._columns, [number])
        piece = self._piece(group, part, place)
        return self._table(piece, None).slice(place - piece.first, 1)

    def _with_key(self, key: str) -> list[int]:
        """Keys are not held in memory: the column is scanned."""
        place = self._columns.places.get("key")
        found: list[int] = []
        for number, part in enumerate(self._columns.parts if place is not None else ()):
            table = self._columns.decision.store.read_part(
                self._columns.decision.manifest["samples"], part["part"], ["key"]
            )
            here = np.flatnonzero(pc.equal(table["key"], key).to_numpy())
            found += (here + self._columns.bounds[number]).tolist()
        return found

    def _piece(self, group: str, part: int, row: int) -> _Piece:
        footer = self._footer(self._name(group, part))
        first = 0
        for number in range(footer.num_row_groups):
            rows = footer.row_group(number).num_rows
            if row < first + rows:
                return _Piece(group, part, number, first)
            first += rows
        msg = f"{self._name(group, part)} has {first} rows, but row {row} was asked for"
        raise IndexError(msg)

    def _table(self, piece: _Piece, names: Sequence[str] | None) -> pa.Table:
        name = self._name(piece.group, piece.part)
        with self._columns.decision.store.folder.open(name) as stream:
            file = pq.ParquetFile(stream, metadata=self._footer(name))
            there = None
            if names is not None:
                there = [column for column in names if column in file.schema_arrow.names]
            return file.read_row_group(piece.number, columns=there, use_threads=False)

    def _footer(self, name: str) -> pq.FileMetaData:
        with self._lock:
            if name in self._footers:
                self._footers.move_to_end(name)
                return self._footers[name]
        with self._columns.decision.store.folder.open(name) as stream:
            footer = pq.read_metadata(stream)
        with self._lock:
            self._footers[name] = footer
            while len(self._footers) > _METADATA:
                self._footers.popitem(last=False)
        return footer

    def _name(self, group: str, part: int) -> str:
        return f"{group}/{self._columns.parts[part]['part']}.parquet"


def _first_halves(uids: Sequence[str]) -> NDArray[np.uint64]:
    """The first halves of these uids, by which columns find rows."""
    return parse_uids(pa.array(sorted(set(uids)), pa.string()))[:, 0]
