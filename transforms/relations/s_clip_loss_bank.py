"""s-CLIPLoss against one frozen bank: the pairs with the smallest hash of their uids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.uids import parse_uids
from transforms.comparing import split_lots
from transforms.deciding import DecidePart
from transforms.exchange import Records
from transforms.noise.clip_loss import bank_scores, own_places
from transforms.relating import Task
from transforms.sampling import SampledRelation

LOTS = 64  # at least, where there are so many parts


class SClipLossBank(SampledRelation):
    """A pure map over the pool, once the bank is drawn; the bank stays as an artefact."""

    stages: ClassVar[tuple[str, ...]] = (*SampledRelation.sampling, "bank", "write")

    @property
    def sample_rows(self) -> int:
        return int(self.rule.batch)

    @property
    def sample_embeddings(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.rule.embeddings()
        return names

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        if stage in self.sampling:
            return self.sampling_tasks(stage, parts)
        if stage == "bank":
            return [Task(0, (), (len(self.sample_lots(parts)),))]
        return split_lots(parts, min(len(parts), max(LOTS, self.scope.workers)))

    def run(self, stage: str, task: Task) -> None:
        if stage in self.sampling:
            self.run_sampling(stage, task)
        elif stage == "bank":
            self._draw(task.keys[0])
        else:
            for part in task.parts:
                self._score(part)

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:  # noqa: ARG002
        return {"bank": len(self.bank), "temperature": self.rule.temperature}

    @property
    def bank_file(self) -> str:
        """Where the bank lies."""
        return f"artefacts/{self.scope.group.rpartition('/')[2]}-bank.npy"

    @cached_property
    def bank(self) -> Records:
        """uid, image and text of each pair."""
        return self.scope.store.read_array(self.bank_file)

    def _draw(self, lots: int) -> None:
        uids, (image, text) = self.drawn(lots)
        kind = [("uid", "<u8", (2,)), ("image", "<f2", image.shape[1:]), ("text", "<f2", text.shape[1:])]
        bank = np.zeros(len(uids), kind)
        bank["uid"], bank["image"], bank["text"] = uids, image, text
        with self.scope.folder.commit(self.bank_file) as path, path.open("wb") as stream:
            np.save(stream, bank, allow_pickle=False)

    def _score(self, part: DecidePart) -> None:
        columns, alive = self.scope.alive(part, ())
        (image, text), rows = self.scope.pairs(part, self.rule.embeddings(), alive)
        score: NDArray[np.float32] = np.full(part.rows, np.nan, np.float32)
        if len(rows):
            uids = parse_uids(columns["uid"].take(pa.array(rows)))
            score[rows] = bank_scores(
                image,
                text,
                np.asarray(self.bank["image"]),
                np.asarray(self.bank["text"]),
                own=own_places(uids, np.asarray(self.bank["uid"])),
                temperature=self.rule.temperature,
                reference_batch=self.rule.batch,
            )
        self.write_columns(part, {self.scope.name: pa.array(score, from_pandas=True)})
