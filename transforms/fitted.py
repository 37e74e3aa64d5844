"""Scores of every row by what was fitted to a sample of the pool, drawn by the hash of the uids.

Stages: survey and sample draw the rows, and note of each what their columns say; *fit* makes an
artefact of them, `artefacts/<fp>-<name>`; *write* scores every row with it: a pure map.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.declaration import Columns
from filters.core.uids import parse_uids, uid_places
from transforms.comparing import split_lots
from transforms.deciding import DecidePart
from transforms.exchange import Records
from transforms.relating import Task
from transforms.sampling import SampledRelation

LOTS = 64  # at least, where there are so many parts


@dataclass(frozen=True)
class DrawnSample:
    """The rows that something is fitted to, in the order of their uids.

    Attributes:
        uids: (n, 2) uint64; vectors: (n, d) float16 of each of the relation's embeddings.
        notes: (n,) of the relation's `note_fields`.
    """

    uids: NDArray[np.uint64]
    vectors: tuple[NDArray[np.float16], ...]
    notes: Records


class FittedRelation(SampledRelation):
    """Fits an artefact to a sample and scores every row with it; `rule` says how many are drawn."""

    stages: ClassVar[tuple[str, ...]] = (*SampledRelation.sampling, "fit", "write")
    # What is noted of a drawn row: fields of a numpy record.
    note_fields: ClassVar[tuple[tuple[str, str], ...]]

    @abstractmethod
    def notes(self, columns: Columns) -> Records:
        """What is noted of some rows, from the columns that the rule reads: (n,) of `note_fields`."""

    @abstractmethod
    def fit(self, sample: DrawnSample) -> None:
        """Saves the artefact; the sample may be empty."""

    @abstractmethod
    def describe(self, part: DecidePart) -> tuple[Columns, dict[str, int]]:
        """The part's columns, one value for each row, and counts for the summary."""

    @property
    def sample_embeddings(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.rule.embeddings()
        return names

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        if stage in self.sampling:
            return self.sampling_tasks(stage, parts)
        if stage == "fit":
            return [Task(0, (), (len(self.sample_lots(parts)),))]
        return split_lots(parts, min(len(parts), max(LOTS, self.scope.workers)))

    def run(self, stage: str, task: Task) -> None:
        if stage in self.sampling:
            self.run_sampling(stage, task)
        elif stage == "fit":
            self.fit(self._gathered(task.keys[0]))
        else:
            counts: Counter[str] = Counter()
            for part in task.parts:
                columns, counted = self.describe(part)
                self.write_columns(part, columns)
                counts.update(counted)
            self.scope.folder.write_json(self._counts_file(task.number), dict(counts))

    def run_sampling(self, stage: str, task: Task) -> None:
        super().run_sampling(stage, task)
        if stage == "sample":
            self.save(f"notes/{task.number}", self._noted(task))

    def counts(self, parts: Sequence[DecidePart]) -> dict[str, int]:
        """The sums of what `describe` counted, once all is written."""
        total: Counter[str] = Counter()
        for lot in self.tasks("write", parts):
            total.update(self.scope.folder.read_json(self._counts_file(lot.number)))
        return dict(sorted(total.items()))

    def artefact(self, name: str) -> str:
        """Where what was fitted lies."""
        return f"artefacts/{self.scope.group.rpartition('/')[2]}-{name}"

    def save_artefact(self, name: str, array: NDArray[Any]) -> None:
        """Commits an array of what was fitted."""
        self.scope.folder.write_array(self.artefact(f"{name}.npy"), array)

    def load_artefact(self, name: str) -> NDArray[Any]:
        """An array of what was fitted; memory-mapped where the store is local."""
        return self.scope.store.read_array(self.artefact(f"{name}.npy"))

    def _counts_file(self, lot: int) -> str:
        return self.scope.work(f"counts/{lot}.json")

    def _noted(self, task: Task) -> Records:
        """Uid and notes of the lot's drawn rows."""
        drawn = self.load(f"sample/{task.number}")["uid"]
        kind = np.dtype([("uid", "<u8", (2,)), *self.note_fields])
        found = [np.zeros(0, kind)]
        for part in task.parts:
            columns, alive = self.scope.alive(part, self.rule.reads())
            uids = parse_uids(columns["uid"])
            rows = np.flatnonzero(alive & (uid_places(uids, drawn) >= 0))
            records = np.zeros(len(rows), kind)
            noted = self.notes({name: column.take(pa.array(rows)) for name, column in columns.items()})
            records["uid"] = uids[rows]
            for name, _ in self.note_fields:
                records[name] = noted[name]
            found.append(records)
        return np.concatenate(found)

    def _gathered(self, lots: int) -> DrawnSample:
        uids, vectors = self.drawn(lots)
        order = np.lexsort((uids[:, 1], uids[:, 0]))
        uids = uids[order]
        notes = np.zeros(len(uids), list(self.note_fields))
        if len(uids):
            noted = np.concatenate([self.load(f"notes/{number}") for number in range(lots)])
            # Of rows with one uid, the same is taken whichever comes first.
            fields = [noted[name] for name, _ in self.note_fields]
            noted = noted[np.lexsort(fields)]
            there = uid_places(uids, noted["uid"])
            for name, _ in self.note_fields:
                notes[name] = noted[name][there]
        return DrawnSample(uids, tuple(stored[order] for stored in vectors), notes)
