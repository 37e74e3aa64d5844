"""Scores of pairs against a frozen reference set, drawn from the pool by the hash of their uids.

Stages: survey and sample draw the set, *reference* saves it as an artefact,
`artefacts/<fp>-reference.npy`, and *write* scores every row against it: a pure map.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.declaration import Columns
from filters.core.uids import parse_uids
from transforms.comparing import split_lots
from transforms.deciding import DecidePart
from transforms.exchange import Records
from transforms.relating import Task
from transforms.sampling import SampledRelation

LOTS = 64  # at least, where there are so many parts


class ReferencedRelation(SampledRelation):
    """Scores every pair that has both embeddings; `rule` names them and says how many are drawn."""

    stages: ClassVar[tuple[str, ...]] = (*SampledRelation.sampling, "reference", "write")

    @abstractmethod
    def scores(
        self, image: NDArray[np.float16], text: NDArray[np.float16], uids: NDArray[np.uint64]
    ) -> dict[str, NDArray[np.float32]]:
        """Column -> (n,) float32 scores of n pairs; NaN for none."""

    @property
    def sample_embeddings(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.rule.embeddings()
        return names

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        if stage in self.sampling:
            return self.sampling_tasks(stage, parts)
        if stage == "reference":
            return [Task(0, (), (len(self.sample_lots(parts)),))]
        return split_lots(parts, min(len(parts), max(LOTS, self.scope.workers)))

    def run(self, stage: str, task: Task) -> None:
        if stage in self.sampling:
            self.run_sampling(stage, task)
        elif stage == "reference":
            self._save_reference(task.keys[0])
        else:
            for part in task.parts:
                self._score(part)

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:  # noqa: ARG002
        return {"reference": len(self.reference)}

    @property
    def reference_file(self) -> str:
        """Where the reference set lies."""
        return f"artefacts/{self.scope.group.rpartition('/')[2]}-reference.npy"

    @cached_property
    def reference(self) -> Records:
        """uid, image and text of each pair."""
        return self.scope.store.read_array(self.reference_file)

    def _save_reference(self, lots: int) -> None:
        uids, (image, text) = self.drawn(lots)
        kind = [("uid", "<u8", (2,)), ("image", "<f2", image.shape[1:]), ("text", "<f2", text.shape[1:])]
        pairs = np.zeros(len(uids), kind)
        pairs["uid"], pairs["image"], pairs["text"] = uids, image, text
        self.scope.folder.write_array(self.reference_file, pairs)

    def _score(self, part: DecidePart) -> None:
        columns, alive = self.scope.alive(part, ())
        (image, text), rows = self.scope.pairs(part, self.rule.embeddings(), alive)
        uids = parse_uids(columns["uid"].take(pa.array(rows)))
        found = self.scores(image, text, uids) if len(rows) else {}
        written: Columns = {}
        for column in self.rule.columns(self.scope.name):
            values = np.full(part.rows, np.nan, np.float32)
            if column.name in found:
                values[rows] = found[column.name]
            written[column.name] = pa.array(values, from_pandas=True)
        self.write_columns(part, written)
