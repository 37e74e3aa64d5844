"""The columns of a decision in memory: loaded when first asked for, forgotten when there are too many."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.explore.wording import unknown_column
from curate.query import Decision, describe_samples, relation_columns, relation_views
from filters.core.errors import QueryError
from filters.core.uids import parse_uids
from transforms.deciding import flat

Kind = Literal["number", "category", "text", "other"]
Found = TypeVar("Found")
Values = NDArray[np.float32] | NDArray[np.float64]

MOST_BYTES = 2 << 30
MOST_MASKS = 12
MOST_LABELS = 10_000  # of a category; texts with more are for reading, not for counting
EXACT_IN_FLOAT32 = 1 << 24
_READERS = 2


@dataclass(frozen=True)
class Labels:
    """A column of few texts.

    Attributes:
        codes: (n,) integers, as small as the labels allow, -1 for null; labels: what they stand
            for, sorted.
    """

    codes: NDArray[np.integer[Any]]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where a column lies in the store.

    Attributes:
        field: of the struct `column`, where the column is one (votes).
    """

    group: str
    column: str
    kind: Kind
    type: pa.DataType
    meaning: str = ""
    unit: str = ""
    field: str | None = None


class Columns:
    """Every column of a decision by name; safe to use from several threads.

    Signals and the ledger's columns have their own names, votes are `votes.<step>`, what a step's
    comparison wrote is `<step>/<column>`.
    """

    def __init__(self, decision: Decision, most_bytes: int = MOST_BYTES) -> None:
        self.decision = decision
        self.parts = [part for part in decision.manifest["parts"] if part["rows"]]
        self.bounds = np.cumsum([0, *(part["rows"] for part in self.parts)])
        self.rows = int(self.bounds[-1])
        self._most_bytes = most_bytes
        self._held: OrderedDict[tuple[str, str], tuple[Any, int]] = OrderedDict()
        self._masks: OrderedDict[str, NDArray[np.bool_]] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[tuple[str, str], threading.Lock] = {}

    @cached_property
    def places(self) -> dict[str, Place]:
        """Name -> where it lies and what it is, in the order that people see."""
        if not self.parts:
            return {}
        described = {name: (meaning, unit) for name, meaning, unit in describe_samples(self.decision)}
        found: dict[str, Place] = {}
        for group in [*self.decision.groups(), f"ledger/{self.decision.ledger}"]:
            for item in self._schema(group):
                if item.name in found:
                    continue  # every group repeats uid; the samples' own counts
                meaning, unit = described.get(item.name, ("", ""))
                if item.name == "votes":
                    found |= {
                        f"votes.{step.name}": Place(
                            group, "votes", "category", pa.bool_(), f"vote of {step.name}", "", step.name
                        )
                        for step in item.type
                        if step.name != "none" or item.type.num_fields > 1
                    }
                    continue
                found[item.name] = Place(group, item.name, _kind(item), item.type, meaning, unit)
        for step in relation_views(self.decision):
            group = self.decision.manifest["relations"][step]
            types = {item.name: item for item in self._schema(group)}
            for column in relation_columns(self.decision, step):
                item = types[column.name]
                found[f"{step}/{column.name}"] = Place(
                    group, column.name, _kind(item), item.type, column.meaning, column.unit
                )
        return found

    def place(self, name: str) -> Place:
        """Where a column lies.

        Raises: QueryError for an unknown name.
        """
        try:
            return self.places[name]
        except KeyError:
            raise unknown_column(name, self.places) from None

    def numbers(self, name: str) -> Values:
        """(n,) float32 where that is exact, else float64; NaN where there is no value.

        Raises: QueryError for an unknown column, or one without numbers.
        """
        place = self.place(name)
        if place.kind != "number":
            msg = f"column {name!r} holds {place.type}, not numbers: tick its texts instead of a range"
            raise QueryError(msg)
        return self.held(("numbers", name), lambda: self._numbers(place))

    def categories(self, name: str) -> Labels:
        """Codes and labels.

        Raises: QueryError for an unknown column, or one with more than 10,000 different texts.
        """
        place = self.place(name)
        if place.kind not in {"category", "text"}:
            msg = f"column {name!r} holds {place.type}: give a range, it has no list of texts"
            raise QueryError(msg)
        return self.held(("labels", name), lambda: self._categories(name, place))

    def with_halves(self, halves: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The rows, ascending, whose uids begin with one of these: (m,) first halves of uids.

        Different uids may share a half: whoever asks compares the whole.
        """
        return self.held(("uids", ""), self._sorted_halves).find(halves)

    def copies_of_halves(self, halves: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The same, of the rows that the ledger calls copies of such uids."""
        return self.held(("copies", ""), self._sorted_originals).find(halves)

    def _sorted_halves(self) -> _Halves:
        return _Halves.of(self._gathered(self.place("uid"), _halves, np.dtype("u8")), np.arange(self.rows))

    def _sorted_originals(self) -> _Halves:
        place, halves, rows = self.place("duplicate_of"), [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        for number, part in enumerate(self.parts):
            column = self._read(place, part["part"])
            there = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
            halves.append(_halves(column.drop_null().cast(pa.string())))
            rows.append(there + self.bounds[number])
        return _Halves.of(np.concatenate(halves), np.concatenate(rows))

    def mask(self, condition: str, make: Callable[[], NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """The rows that meet a condition: the last few are kept, apart from columns.

        A page, a count and several histograms ask for the same ones; a dragged bound makes many that
        nobody asks for again.
        """
        with self._lock:
            if condition in self._masks:
                self._masks.move_to_end(condition)
                return self._masks[condition]
        found = make()
        with self._lock:
            self._masks[condition] = found
            while len(self._masks) > MOST_MASKS:
                self._masks.popitem(last=False)
        return found

    def held(self, key: tuple[str, str], make: Callable[[], Found]) -> Found:
        """What was made before under this key, or is made now; the least used go first."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return cast("Found", self._held[key][0])
            waiting = self._loading.setdefault(key, threading.Lock())
        with waiting:
            with self._lock:
                if key in self._held:
                    return cast("Found", self._held[key][0])
            found = make()
            with self._lock:
                self._held[key] = (found, _size(found))
                self._loading.pop(key, None)
                while len(self._held) > 1 and sum(size for _, size in self._held.values()) > self._most_bytes:
                    self._held.popitem(last=False)
        return found

    @property
    def bytes(self) -> int:
        """How much is held."""
        with self._lock:
            return sum(size for _, size in self._held.values())

    # --- reading

    def _schema(self, group: str) -> pa.Schema:
        with self.decision.store.folder.open(f"{group}/{self.parts[0]['part']}.parquet") as stream:
            return pq.read_schema(stream)

    def _read(self, place: Place, part: str) -> pa.Array:
        table = self.decision.store.read_part(place.group, part, [place.column])
        column = table[place.column].combine_chunks()
        if place.field is not None:
            whole = column if isinstance(column, pa.StructArray) else pa.concat_arrays(column.chunks)
            return pc.struct_field(whole, place.field)
        return flat(pa.chunked_array([column]) if isinstance(column, pa.Array) else column)

    def _gathered(
        self, place: Place, convert: Callable[[pa.Array], NDArray[Any]], kind: np.dtype[Any]
    ) -> NDArray[Any]:
        """One array of all parts, read two at a time."""
        whole = np.empty(self.rows, kind)

        def fill(number: int) -> None:
            start, end = self.bounds[number], self.bounds[number + 1]
            whole[start:end] = convert(self._read(place, self.parts[number]["part"]))

        with ThreadPoolExecutor(_READERS) as readers:
            list(readers.map(fill, range(len(self.parts))))
        return whole

    def _numbers(self, place: Place) -> Values:
        small = pa.types.is_float16(place.type) or pa.types.is_float32(place.type)
        if small:
            return self._gathered(place, _floats(np.float32), np.dtype(np.float32))
        wide: NDArray[np.float64] = self._gathered(place, _floats(np.float64), np.dtype(np.float64))
        if pa.types.is_integer(place.type):
            greatest = np.nanmax(np.abs(wide)) if not np.isnan(wide).all() else 0
            if greatest <= EXACT_IN_FLOAT32:
                return wide.astype(np.float32)
        return wide

    def clusters(self, name: str) -> Labels:
        """A column of whole numbers, such as `<step>/cluster_id`, as codes and labels.

        Raises: QueryError as `numbers` does.
        """

        def made() -> Labels:
            values = self.numbers(name)
            known = ~np.isnan(values)
            found, places = np.unique(values[known], return_inverse=True)
            codes = np.full(self.rows, -1, _smallest(len(found)))
            codes[known] = places
            return Labels(codes, tuple(str(int(value)) for value in found))

        return self.held(("clusters", name), made)

    def _categories(self, name: str, place: Place) -> Labels:
        with ThreadPoolExecutor(_READERS) as readers:
            parts = list(
                readers.map(lambda part: _encoded(self._read(place, part["part"]), name), self.parts)
            )
        known = sorted({label for labels, _ in parts for label in labels})
        if len(known) > MOST_LABELS:
            raise _too_many(name)
        codes = {label: code for code, label in enumerate(known)}
        kind = _smallest(len(known))
        whole = np.empty(self.rows, kind)
        for number, (labels, found) in enumerate(parts):
            table = np.array([*(codes[label] for label in labels), -1], kind)
            whole[self.bounds[number] : self.bounds[number + 1]] = table[found]
        return Labels(whole, tuple(known))


@dataclass(frozen=True)
class _Halves:
    """First halves of uids, sorted, and the row of each."""

    halves: NDArray[np.uint64]
    rows: NDArray[np.int32] | NDArray[np.int64]

    @classmethod
    def of(cls, halves: NDArray[np.uint64], rows: NDArray[np.int64]) -> _Halves:
        small = len(rows) == 0 or rows[-1] <= np.iinfo(np.int32).max
        order = np.argsort(halves)
        return cls(halves[order], rows.astype(np.int32)[order] if small else rows[order])

    def find(self, halves: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The rows with one of these, ascending."""
        starts, ends = (np.searchsorted(self.halves, halves, side) for side in ("left", "right"))
        found = [self.rows[start:end] for start, end in zip(starts, ends, strict=True)]
        return np.unique(np.concatenate([np.empty(0, np.int64), *found]))

    @property
    def nbytes(self) -> int:
        return int(self.halves.nbytes + self.rows.nbytes)


def split_rows(columns: Columns, rows: Sequence[int] | NDArray[np.intp]) -> list[tuple[int, int]]:
    """Each row of the decision as the number of its part and its place in there."""
    wanted = np.asarray(rows, np.int64)
    part = np.searchsorted(columns.bounds, wanted, side="right") - 1
    return list(zip(part.tolist(), (wanted - columns.bounds[part]).tolist(), strict=True))


def _kind(item: pa.Field) -> Kind:
    kind = item.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_boolean(kind) or pa.types.is_dictionary(kind):
        return "category"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    return "other"


def _floats(kind: type[np.floating[Any]]) -> Callable[[pa.Array], NDArray[Any]]:
    arrow = pa.from_numpy_dtype(np.dtype(kind))

    def convert(column: pa.Array) -> NDArray[Any]:
        cast = column.cast(arrow, safe=False)
        found: NDArray[Any] = cast.to_numpy(zero_copy_only=False)  # nulls become NaN
        return found

    return convert


def _halves(column: pa.Array) -> NDArray[np.uint64]:
    return parse_uids(column)[:, 0]


def _encoded(column: pa.Array, name: str) -> tuple[list[str], NDArray[np.int32]]:
    """The texts of a part and the code of each row; -1, which indexes the last place, for null."""
    texts = column.cast(pa.string()).dictionary_encode()
    if len(texts.dictionary) > MOST_LABELS:
        raise _too_many(name)
    codes: NDArray[np.int32] = pc.fill_null(texts.indices, -1).to_numpy(zero_copy_only=False)
    return texts.dictionary.to_pylist(), codes


def _smallest(labels: int) -> type[np.signedinteger[Any]]:
    """The smallest type that holds -1 and so many codes."""
    if labels <= np.iinfo(np.int8).max:
        return np.int8
    return np.int16 if labels <= np.iinfo(np.int16).max else np.int32


def _too_many(name: str) -> QueryError:
    return QueryError(
        f"column {name!r} has more than {MOST_LABELS:,} different texts to count or tick: "
        "look for some of them in SQL with LIKE"
    )


def _size(found: Any) -> int:
    if isinstance(found, Labels):
        return int(found.codes.nbytes)
    return int(getattr(found, "nbytes", 0))
