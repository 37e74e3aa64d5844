"""Comparing rows that share a key: sorted by key, brought together, put in order, compared.

Stages: *sort* (a lot of parts -> one sorted file), *compare* (a block of consecutive keys ->
answers sorted by lot), *write* (a lot -> its parts' relation columns). A key with very many rows,
such as a cluster that holds every copy of one icon, is cut into tiles: *pairs* compares two tiles,
*combine* takes the best answer of each row. Nothing depends on how parts fall into lots or keys
into blocks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from filters.core.declaration import Columns
from transforms.deciding import DecidePart
from transforms.exchange import (
    ExchangePlan,
    Records,
    gathered,
    plan_exchange,
    read_records,
    record_count,
    sorted_file,
    write_sorted,
)
from transforms.relating import Relation, Task

# Every record begins with these; `order` says who comes first among the rows of a key, ties go
# by uid, then part and row. `own` is False for a guest: a row of a neighbouring cluster.
IDENTITY = [
    ("uid", "<u8", (2,)),
    ("part", "<i4"),
    ("row", "<i4"),
    ("order", "<u8"),
    ("own", "?"),
    ("cosine", "<f4"),
]
ANSWER = np.dtype(
    [
        ("part", "<i4"),
        ("row", "<i4"),
        ("key", "<i4"),
        ("cosine", "<f4"),
        ("own", "?"),
        ("value", "<f8"),
        ("kind", "u1"),
        ("found", "?"),
        ("original", "<u8", (2,)),
    ]
)
HOT_ROWS = 65_536
HOT_TILES = 64  # at most, for one key


@dataclass(frozen=True)
class Found:
    """What comparing the rows of one key found, in their order.

    Attributes:
        value: (n,) float64, such as the greatest cosine to an earlier row.
        original: (n,) int64, which earlier row that is; -1 for none.
        kind: (n,) uint8, a code whose meaning is the relation's; None for all 0.
        uids: (n, 2) uint64 of the originals, where they need not be among the compared rows.
    """

    value: NDArray[np.float64]
    original: NDArray[np.int64]
    kind: NDArray[np.uint8] | None = None
    uids: NDArray[np.uint64] | None = None


def split_lots(parts: Sequence[DecidePart], lots: int) -> list[Task]:
    """Runs of neighbouring parts with about as many rows each; numbered, none empty."""
    total = max(1, sum(part.rows for part in parts))
    groups: dict[int, list[DecidePart]] = {}
    before = 0
    for part in parts:
        groups.setdefault(min(lots - 1, before * lots // total), []).append(part)
        before += part.rows
    return [Task(number, tuple(group)) for number, group in enumerate(groups.values())]


class Comparison(Relation):
    """Brings rows together by key and compares them in a stated order."""

    stages: ClassVar[tuple[str, ...]] = ("sort", "compare", "pairs", "combine", "write")
    # A key with more rows is cut into tiles; None for comparisons that need all rows at once.
    hot_rows: ClassVar[int | None] = HOT_ROWS
    # Whether the greater or the smaller of two answers for one row is taken.
    greatest: ClassVar[bool] = True

    # --- what a comparison declares

    @classmethod
    @abstractmethod
    def fields(cls, rule: Any, width: int) -> list[tuple[Any, ...]]:
        """The fields that are compared, in numpy's words; width: of the embeddings, if any."""

    @classmethod
    @abstractmethod
    def expected_keys(cls, rule: Any, rows: int) -> int:
        """About how many keys a pool of so many rows has."""

    @classmethod
    def records_per_row(cls, rule: Any) -> int:  # noqa: ARG003
        """How many records a row brings."""
        return 1

    @abstractmethod
    def keys(self) -> int:
        """How many keys there are; asked after any training."""

    def remembered_keys(self) -> int:
        return self.keys()

    @abstractmethod
    def entries(self, part: DecidePart) -> tuple[Records, NDArray[np.int64]]:
        """What a part brings: records of `dtype`, and the key of each."""

    @abstractmethod
    def compare(self, members: Records, key: int) -> Found:
        """Compares the rows of one key, which come in order."""

    @abstractmethod
    def columns(self, rows: int, answers: Records) -> Columns:
        """The relation columns of a part with so many rows; one answer for each compared row."""

    def compare_tiles(self, earlier: Records, members: Records) -> Found:
        """Compares rows with all rows of an earlier tile of the same key; `original` counts in that."""
        raise NotImplementedError

    # --- stages

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a record."""
        return np.dtype([*IDENTITY, *self.fields(self.rule, self.width)])

    @property
    def width(self) -> int:
        """Of the embeddings that are compared; asked after any training."""
        return 0

    @classmethod
    def forecast(cls, rule: Any, rows: int, parts: int, workers: int, width: int) -> ExchangePlan:
        """How a pool of so many rows would be brought together, before anything is known of it."""
        record = np.dtype([*IDENTITY, *cls.fields(rule, width)]).itemsize
        keys = cls.expected_keys(rule, rows)
        return plan_exchange(rows * cls.records_per_row(rule), record, parts, keys, workers)

    def plan(self, parts: Sequence[DecidePart]) -> ExchangePlan:
        """How the rows are brought together."""
        rows = self.scope.rows * self.records_per_row(self.rule)
        return plan_exchange(rows, self.dtype.itemsize, len(parts), self.keys(), self.scope.workers)

    def lots(self, parts: Sequence[DecidePart]) -> list[Task]:
        """The lots of parts that are sorted, and written, together."""
        return split_lots(parts, self.plan(parts).lots)

    def borders(self, blocks: int) -> NDArray[np.int64]:
        """Where blocks of keys begin, and the end: (blocks + 1,) int64."""
        return np.linspace(0, self.keys(), blocks + 1).astype(np.int64)

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        lots = self.lots(parts)
        if stage in ("sort", "write"):
            return lots
        if stage == "compare":
            borders = self.borders(self.plan(parts).blocks)
            spans = enumerate(zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True))
            firsts = tuple(lot.parts[0].number for lot in lots)
            return [Task(number, (), (*span, *firsts)) for number, span in spans if span[0] < span[1]]
        return self._hot_tasks(stage, lots)

    def run(self, stage: str, task: Task) -> None:
        doing = {
            "sort": self._sort,
            "compare": self._compare,
            "pairs": self._pairs,
            "combine": self._combine,
            "write": self._write,
        }
        doing[stage](task)

    def _sort(self, task: Task) -> None:
        found = [self.entries(part) for part in task.parts]
        keys = np.concatenate([keys for _, keys in found])
        name = self.scope.work(f"sorted/{task.number}")
        with sorted_file(self.scope.folder, name, keys, self.keys(), self.dtype) as put:
            start = 0
            for records, _ in found:
                put(start, records)
                start += len(records)
        self.sorted_lot(task, found)

    def sorted_lot(self, task: Task, entries: list[tuple[Records, NDArray[np.int64]]]) -> None:
        """What else a comparison wants of a lot while its records are in memory."""

    def _compare(self, task: Task) -> None:
        first, last, *firsts = task.keys
        folder = self.scope.folder
        names = [self.scope.work(f"sorted/{number}") for number in range(len(firsts))]
        with gathered(folder, names, self.dtype, first, last) as (records, keys):
            order = in_order(records, keys)
            answers = np.zeros(len(records), ANSWER)
            kept = np.ones(len(records), np.bool_)
            for key, start, end in runs(keys[order]):
                if self.hot_rows is not None and end - start > self.hot_rows:
                    self._set_aside(key, records, order[start:end])
                    kept[start:end] = False
                    continue
                members = records[order[start:end]]
                answers[start:end] = answered(members, members, self.compare(members, key), key)
        answers = answers[kept]
        lots = np.searchsorted(firsts, answers["part"], side="right") - 1
        write_sorted(folder, self.scope.work(f"answers/block-{task.number}"), answers, lots, len(firsts))

    def _write(self, task: Task) -> None:
        folder = self.scope.folder
        names = [self.scope.work(f"answers/{name}") for name in self._committed("answers")]
        with gathered(folder, names, ANSWER, task.number, task.number + 1) as (answers, _):
            best = self.best(answers)
        for part in task.parts:
            low, high = np.searchsorted(best["part"], [part.number, part.number + 1])
            self.write_columns(part, self.columns(part.rows, best[low:high]))

    def best(self, answers: Records) -> Records:
        """One answer for each row, by part and row: the best value, ties to the smaller original."""
        value = -answers["value"] if self.greatest else answers["value"]
        unfound = ~answers["found"]
        original = answers["original"]
        order = np.lexsort((original[:, 1], original[:, 0], value, unfound, answers["row"], answers["part"]))
        ordered = answers[order]
        first = np.ones(len(ordered), np.bool_)
        first[1:] = (np.diff(ordered["part"]) != 0) | (np.diff(ordered["row"]) != 0)
        best = ordered[first]
        own = ordered[ordered["own"]]
        for field in ("key", "cosine", "own"):
            best[field] = own[field]
        return best

    # --- keys with very many rows

    def _committed(self, kind: str) -> list[str]:
        """The sorted files of one kind, without their endings."""
        ending = ".offsets.npy"
        stored = self.scope.folder.names(self.scope.work(kind))
        return [name.removesuffix(ending) for name in stored if name.endswith(ending)]

    def _set_aside(self, key: int, records: Records, order: NDArray[np.intp]) -> None:
        """Commits the rows of a hot key in order, to be compared tile by tile."""
        one_key = np.zeros(len(order), np.int64)
        name = self.scope.work(f"hot/{key}")
        with sorted_file(self.scope.folder, name, one_key, 1, self.dtype) as put:
            for start in range(0, len(order), HOT_ROWS):
                put(start, records[order[start : start + HOT_ROWS]])

    def _hot_tasks(self, stage: str, lots: Sequence[Task]) -> list[Task]:
        hot = sorted(int(name) for name in self._committed("hot"))
        if stage == "combine":
            firsts = tuple(lot.parts[0].number for lot in lots)
            return [Task(number, (), (key, *firsts)) for number, key in enumerate(hot)]
        pairs = [
            (key, earlier, later)
            for key in hot
            for later in range(len(self._tiles(key)))
            for earlier in range(later + 1)
        ]
        return [Task(number, (), pair) for number, pair in enumerate(pairs)]

    def _tiles(self, key: int) -> list[tuple[int, int]]:
        """The tiles of a hot key, as ranges of its rows."""
        rows = record_count(self.scope.folder, self.scope.work(f"hot/{key}"), 1)
        at_least = max(1, (self.hot_rows or HOT_ROWS) // 4)
        size = max(at_least, -(-rows // HOT_TILES // at_least) * at_least)
        return [(start, min(start + size, rows)) for start in range(0, rows, size)]

    def _tile(self, key: int, number: int) -> Records:
        start, end = self._tiles(key)[number]
        return read_records(self.scope.folder, self.scope.work(f"hot/{key}"), self.dtype, start, end)

    def _pairs(self, task: Task) -> None:
        key, earlier, later = task.keys
        members = self._tile(key, later)
        others = members if earlier == later else self._tile(key, earlier)
        found = self.compare(members, key) if earlier == later else self.compare_tiles(others, members)
        answers = answered(others, members, found, key)
        name = self.scope.work(f"pairs/{key}/{later}-{earlier}")
        write_sorted(self.scope.folder, name, answers, np.zeros(len(answers), np.int64), 1)

    def _combine(self, task: Task) -> None:
        key, *firsts = task.keys
        folder = self.scope.folder
        pieces = []
        for later in range(len(self._tiles(key))):
            best: Records | None = None
            for earlier in range(later + 1):
                name = self.scope.work(f"pairs/{key}/{later}-{earlier}")
                with gathered(folder, [name], ANSWER, 0, 1) as (found, _):
                    best = found if best is None else self._better(best, found)
            if best is not None:
                pieces.append(best)
        answers = np.concatenate(pieces)
        lots = np.searchsorted(firsts, answers["part"], side="right") - 1
        write_sorted(folder, self.scope.work(f"answers/hot-{key}"), answers, lots, len(firsts))

    def _better(self, earlier: Records, later: Records) -> Records:
        """The better of two answers for the same rows; ties go to the earlier tile."""
        gain = later["value"] - earlier["value"]
        better = later["found"] & (~earlier["found"] | ((gain > 0) if self.greatest else (gain < 0)))
        return np.where(better, later, earlier)


def in_order(records: Records, keys: NDArray[np.integer]) -> NDArray[np.intp]:
    """The records' order: key, `order`, uid, part, row."""
    uid = records["uid"]
    order: NDArray[np.intp] = np.lexsort(
        (records["row"], records["part"], uid[:, 1], uid[:, 0], records["order"], keys)
    )
    return order


def runs(keys: NDArray[np.integer]) -> Iterator[tuple[int, int, int]]:
    """(key, start, end) of each run of equal keys."""
    if len(keys) == 0:
        return
    borders = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1], [True]])).tolist()
    for start, end in pairwise(borders):
        yield int(keys[start]), start, end


def answered(others: Records, members: Records, found: Found, key: int) -> Records:
    """What was found, as answers that find their way back to the rows."""
    answers = np.zeros(len(members), ANSWER)
    for field in ("part", "row", "cosine", "own"):
        answers[field] = members[field]
    answers["key"] = key
    answers["value"] = found.value
    answers["found"] = found.original >= 0
    if found.kind is not None:
        answers["kind"] = found.kind
    if found.uids is not None:
        answers["original"] = found.uids
    elif len(others):
        answers["original"] = others["uid"][np.maximum(found.original, 0)]
    answers["original"][~answers["found"]] = 0
    return answers
