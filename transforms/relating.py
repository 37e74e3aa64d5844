"""What a relation is: columns that compare survivors, made in stages of independent tasks.

A relation is one module in `transforms.relations`, named as filters name it, with one class
derived from `Relation`. A task is a small descriptor; what it makes are files below
`relations/<fp>/work/`, and the next stage reads them, so nothing but descriptors crosses an
engine. A task whose marker stands is not run again, so a killed comparison resumes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.catalogue import declared_in
from filters.core.decide import Step, columns_read, survivors
from filters.core.declaration import Columns
from filters.core.errors import StoreError
from transforms.clustering import unit_rows
from transforms.deciding import DecideConfig, DecidePart, read_columns
from transforms.exchange import ExchangePlan, Records
from transforms.measures.clip import Clip, as_clip
from transforms.storage import Folder
from transforms.store import Store


@dataclass(frozen=True)
class Task:
    """A piece of a stage, small enough to be an element of a pipeline.

    Attributes:
        number: unique in its stage.
        parts: the parts of the pool that it reads, where it reads any.
        keys: what else it covers; its meaning is the stage's own.
    """

    number: int
    parts: tuple[DecidePart, ...] = ()
    keys: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scope:
    """Where a comparison stands in a recipe, and where its files go; picklable.

    Attributes:
        name: of the filter or measure that it is for; rule: its options.
        before: the steps whose survivors are compared.
        group: the group of the columns it writes, `relations/<fp>`.
        rows: rows of all parts, an upper bound of the survivors.
        batch: which of the batches that come one after the other this is; None where all is there.
        centroids: the file of the store with clusters that were found before; None to find them.
        memory: the folder of what earlier batches have kept, for relations that remember.
    """

    config: DecideConfig
    before: tuple[Step, ...]
    name: str
    # Any: each relation knows the class of its own filters and measures.
    rule: Any
    group: str
    rows: int
    workers: int
    batch: int | None = None
    centroids: str | None = None
    memory: Folder | None = None

    @property
    def store(self) -> Store:
        """The store."""
        return self.config.store

    @property
    def folder(self) -> Folder:
        """The store's folder."""
        return self.config.store.folder

    def work(self, name: str) -> str:
        """A file that only this comparison reads; it goes when the comparison is complete."""
        return f"{self.group}/work/{name}"

    def alive(self, part: DecidePart, names: Sequence[str]) -> tuple[Columns, NDArray[np.bool_]]:
        """Columns of a part, and which of its rows all steps before this one keep."""
        columns = read_columns(self.config, part, [*names, *columns_read(self.before)], self.before)
        return columns, survivors(columns, self.before)

    def vectors(self, part: DecidePart, embedding: str, rows: NDArray[np.intp]) -> NDArray[np.float16]:
        """The embeddings of some rows as stored: (m, d) float16.

        Raises: StoreError where the file does not match the part.
        """
        name = f"{self.config.embeddings[embedding]}/{part.part}.npy"
        found = self.store.read_array(name)
        if found.ndim != 2 or len(found) != part.rows:
            msg = f"{name} has shape {found.shape}, but the part has {part.rows} rows: measure it again"
            raise StoreError(msg)
        return np.asarray(found[rows], np.float16)

    def width(self, embedding: str) -> int:
        """How wide the embeddings are; 0 where no part has any."""
        folder = self.config.embeddings[embedding]
        for name in self.folder.names(folder):
            if name.endswith(".npy") and (width := self.store.read_array(f"{folder}/{name}").shape[1]):
                return int(width)
        return 0

    def encoder(self, embedding: str) -> Clip:
        """The model that made these embeddings, to embed prompts with.

        Raises: RecipeError where no CLIP measure of the recipe made them.
        """
        return as_clip(self.name, embedding, self.config.encoders.get(embedding))

    def pairs(
        self, part: DecidePart, embeddings: Sequence[str], alive: NDArray[np.bool_]
    ) -> tuple[list[NDArray[np.float16]], NDArray[np.intp]]:
        """Several embeddings of the survivors that have all of them, as stored; and their row numbers."""
        rows = np.flatnonzero(alive)
        stored = [self.vectors(part, name, rows) for name in embeddings]
        good = np.ones(len(rows), np.bool_)
        for vectors in stored:
            good &= unit_rows(vectors)[1] if vectors.shape[1] else False
        return [vectors[good] for vectors in stored], rows[good]

    def usable(
        self, part: DecidePart, embedding: str, alive: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.float16], NDArray[np.float32]]:
        """The survivors of a part that have an embedding to compare: neither NaN nor zero.

        Returns: their row numbers (m,), embeddings as stored (m, d) float16, and as unit rows
        (m, d) float32.
        """
        rows = np.flatnonzero(alive)
        stored = self.vectors(part, embedding, rows)
        if stored.shape[1] == 0:  # no row of the part could be encoded
            return rows[:0], stored[:0], stored[:0].astype(np.float32)
        vectors, good = unit_rows(stored)
        return (rows, stored, vectors) if good.all() else (rows[good], stored[good], vectors[good])


class Relation(ABC):
    """Columns that compare survivors; one module, one class."""

    # Rises when the meaning or value of a column changes, which gives its files a new name.
    version: ClassVar[int] = 1
    # In order; each is complete before the next begins.
    stages: ClassVar[tuple[str, ...]]
    # Whether a batch is compared with what earlier ones have kept, see `remembered`.
    remembers: ClassVar[bool] = False

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.rule: Any = scope.rule

    @classmethod  # noqa: B027  (most rules name no file)
    def check(cls, rule: Any) -> None:
        """Raises RecipeError or PoolError where files that the rule names can't serve; reads little."""

    @classmethod
    def identity(cls, rule: Any) -> dict[str, Any]:  # noqa: ARG003  (as above)
        """What counts in place of the options that name files: their content. JSON values."""
        return {}

    @classmethod
    def prompted(cls, rule: Any) -> tuple[str, ...]:  # noqa: ARG003  (as above)
        """Embeddings, such as clip_image, whose model must also embed prompts."""
        return ()

    @classmethod
    def forecast(cls, rule: Any, rows: int, parts: int, workers: int, width: int) -> ExchangePlan | None:  # noqa: ARG003
        """How a pool of so many rows would be brought together; None where nothing is."""
        return None

    @classmethod
    def finds_clusters(cls, rule: Any) -> bool:  # noqa: ARG003  (some relations depend on options)
        """Whether it finds clusters, so that batches need those of a calibration."""
        return False

    @classmethod
    def refusal(cls, rule: Any) -> str | None:  # noqa: ARG003  (some relations depend on options)
        """Why rows that come batch by batch can't be compared; None where they can, as what remembers can."""
        return None if cls.remembers else "it compares all rows of a pool at once"

    @property
    def remembered_type(self) -> np.dtype[Any]:
        """The type of the records that `remembered` returns; it has a field `uid`."""
        raise NotImplementedError

    def remembered(self, part: DecidePart, rows: NDArray[np.intp]) -> tuple[Records, NDArray[np.int64]]:
        """What later batches are compared with, of a part's rows that were kept: records and their keys."""
        raise NotImplementedError

    def remembered_keys(self) -> int:
        """How many keys those records have."""
        raise NotImplementedError

    @abstractmethod
    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        """The tasks of a stage; may read what earlier stages wrote, but nothing large."""

    @abstractmethod
    def run(self, stage: str, task: Task) -> None:
        """Does one task; its files are complete when it returns."""

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:  # noqa: ARG002
        """What the comparison found, for reports: JSON values only."""
        return {}

    # --- what is the same for all

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers get the place alone, not what the driver has read so far.
        return type(self), (self.scope,)

    def waiting(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        """The tasks of a stage that are still to be done."""
        done = set(self.scope.folder.names(self.scope.work(f"{stage}.done")))
        return [task for task in self.tasks(stage, parts) if str(task.number) not in done]

    def perform(self, stage: str, task: Task) -> None:
        """Does one task and notes that it is done."""
        self.run(stage, task)
        self.scope.folder.write_json(self.scope.work(f"{stage}.done/{task.number}"), {})

    def complete(self) -> bool:
        """True when every part's columns are written; of a batch, when the batch's are."""
        name = f"{self.scope.group}/summary.json"
        if not self.scope.folder.exists(name):
            return False
        return self.scope.batch is None or self.scope.folder.read_json(name)["batch"] == self.scope.batch

    def finish(self, parts: Sequence[DecidePart]) -> None:
        """Commits the summary, which marks the relation complete, and removes the working files."""
        folder = self.scope.folder
        batch = {} if self.scope.batch is None else {"batch": self.scope.batch}
        folder.write_json(f"{self.scope.group}/summary.json", {**batch, **self.summary(parts)})
        working = f"{self.scope.group}/work"
        folder.remove(working)

    def save(self, name: str, array: NDArray[Any]) -> None:
        """Commits a working file."""
        self.scope.folder.write_array(self.scope.work(f"{name}.npy"), array)

    def load(self, name: str) -> NDArray[Any]:
        """A working file; memory-mapped where the store is local."""
        return self.scope.store.read_array(self.scope.work(f"{name}.npy"))

    def write_columns(self, part: DecidePart, columns: Columns) -> None:
        """Commits a part's relation columns."""
        self.scope.store.write_part(self.scope.group, part.part, pa.table(columns), marker={})


def find_relation(scope: Scope) -> Relation:
    """The comparison that the scope's filter needs, ready to run."""
    name = scope.rule.relation
    if name is None:
        msg = f"{scope.name} compares nothing"
        raise TypeError(msg)
    return relation_class(name)(scope)


def relation_class(name: str) -> type[Relation]:
    """The class that the module `transforms.relations.<name>` declares."""
    return declared_in("transforms.relations", name, Relation)  # type: ignore[type-abstract]
