"""Relations over labels: what those with one label for each row and those with several share.

Stages begin with *prepare*, which embeds the prompts or takes over files, and *index*, which sorts
the rows of files by uid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.confident import Counts
from filters.core.declaration import Columns
from filters.core.uids import parse_uids
from transforms.clustering import Floats
from transforms.comparing import split_lots
from transforms.deciding import DecidePart, read_columns
from transforms.labelling import (
    LABELLED,
    ONE_CLASS,
    REASONS,
    Files,
    ZeroShot,
    check_labels,
    labels_identity,
    reasons_column,
    source_of,
)
from transforms.measure import CollectiveMeasure
from transforms.relating import Relation, Task

LOTS = 64  # at least, where there are so many parts
NUMBERS_AT_ONCE = 1 << 24
SCORES = ("self_confidence", "margin", "p_mislabelled")


class LabelledRelation(Relation):
    """Writes label, suggested label, scores and whether it is an issue; null, with a reason, without."""

    preparing: ClassVar[tuple[str, ...]] = ("prepare", "index")

    @classmethod
    def check(cls, rule: Any) -> None:
        check_labels(rule)

    @classmethod
    def identity(cls, rule: Any) -> dict[str, Any]:
        return labels_identity(rule)

    @classmethod
    def prompted(cls, rule: Any) -> tuple[str, ...]:
        names: tuple[str, ...] = rule.embeddings()
        return names

    @cached_property
    def source(self) -> ZeroShot | Files:
        """Where labels and probabilities come from."""
        return source_of(self)

    @property
    def is_measure(self) -> bool:
        """Whether columns carry the measure's name, and the rule's own bound calls issues."""
        return isinstance(self.rule, CollectiveMeasure)

    @cached_property
    def classes(self) -> int:
        """How many."""
        return len(self.source.names)

    def lots(self, parts: Sequence[DecidePart]) -> list[Task]:
        """The lots of parts that each stage takes together."""
        return split_lots(parts, min(len(parts), max(LOTS, self.scope.workers)))

    def uids(self, part: DecidePart) -> NDArray[np.uint64]:
        """(n, 2) of the part's rows."""
        return parse_uids(read_columns(self.scope.config, part, ("uid",))["uid"])

    def saved(self, stage: str) -> list[str]:
        """What the tasks of a stage saved."""
        names = sorted(self.scope.folder.names(self.scope.work(stage)))
        return [f"{stage}/{name.removesuffix('.npy')}" for name in names if name.endswith(".npy")]

    def total(self, stage: str, *shape: int) -> Counts:
        """The sum of what the tasks of a stage counted."""
        total = np.zeros(shape, np.int64)
        for name in self.saved(stage):
            total += self.load(name)
        return total

    def logits(self, part: DecidePart, mask: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], Floats]]:
        """As the source's, more rows at a time."""
        rows: list[NDArray[np.intp]] = []
        found: list[Floats] = []
        for some, logits in self.source.logits(part, mask):
            rows.append(some)
            found.append(logits)
            if sum(map(len, rows)) * self.classes >= NUMBERS_AT_ONCE:
                yield np.concatenate(rows), np.concatenate(found)
                rows, found = [], []
        if rows:
            yield np.concatenate(rows), np.concatenate(found)

    def reasons_of(self, reason: NDArray[np.int8], counts: Counts) -> NDArray[np.int8]:
        """The rows' reasons; of a single class nothing is known. counts: rows with each label."""
        one_class = np.count_nonzero(counts) < 2
        return np.where((reason == LABELLED) & one_class, ONE_CLASS, reason).astype(np.int8)

    def write_judged(self, part: DecidePart, reason: NDArray[np.int8], columns: Columns) -> None:
        """Commits a part's columns, with the reason in words, under the names that the rule gives them."""
        prefix = f"{self.scope.name}_" if self.is_measure else ""
        whole = {**columns, "reason": reasons_column(reason)}
        self.write_columns(part, {f"{prefix}{name}": column for name, column in whole.items()})

    def save_counts(self, lot: int, reasons: Counts, more: dict[str, Any]) -> None:
        """Notes what a lot's rows came to, for the summary."""
        self.scope.folder.write_json(self._counts_file(lot), {"reasons": reasons.tolist(), **more})

    def saved_counts(self, parts: Sequence[DecidePart]) -> tuple[dict[str, int], list[dict[str, Any]]]:
        """Rows that were not judged, by reason; and what each lot noted."""
        lots = [self.scope.folder.read_json(self._counts_file(lot.number)) for lot in self.lots(parts)]
        totals = [sum(lot["reasons"][at] for lot in lots) for at in range(len(REASONS))]
        return {REASONS[at]: many for at, many in enumerate(totals) if at and many}, lots

    def named(self, places: NDArray[np.integer[Any]]) -> pa.Array:
        """The classes of these numbers; null for -1."""
        return pa.array(self.source.names, pa.string()).take(pa.array(places, mask=places < 0))

    def _counts_file(self, lot: int) -> str:
        return self.scope.work(f"counts/{lot}.json")
