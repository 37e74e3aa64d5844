"""s-CLIPLoss over random batches: pairs are brought together by batch, once for each repetition."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.declaration import Columns
from filters.core.uids import parse_uids
from transforms.comparing import Comparison, Found
from transforms.deciding import DecidePart
from transforms.exchange import Records
from transforms.noise.clip_loss import ScoreSums, batch_of, batch_scores, batches


class SClipLoss(Comparison):
    """The mean score of each pair over the batches it was drawn into."""

    stages: ClassVar[tuple[str, ...]] = ("sort", "compare", "write")
    hot_rows: ClassVar[int | None] = None

    @classmethod
    def fields(cls, rule: Any, width: int) -> list[tuple[Any, ...]]:  # noqa: ARG003
        return [("image", "<f2", (width,)), ("text", "<f2", (width,))]

    @classmethod
    def expected_keys(cls, rule: Any, rows: int) -> int:
        return int(rule.repetitions) * batches(rows, rule.batch)

    @classmethod
    def records_per_row(cls, rule: Any) -> int:
        return int(rule.repetitions)

    def keys(self) -> int:
        return self.expected_keys(self.rule, self.scope.rows)

    @property
    def width(self) -> int:
        return self.scope.width(self.rule.embeddings()[0])

    def entries(self, part: DecidePart) -> tuple[Records, NDArray[np.int64]]:
        columns, alive = self.scope.alive(part, ())
        (image, text), rows = self.scope.pairs(part, self.rule.embeddings(), alive)
        pairs = np.zeros(len(rows), self.dtype)
        if len(rows):
            pairs["uid"] = parse_uids(columns["uid"].take(pa.array(rows)))
            pairs["part"], pairs["row"], pairs["own"] = part.number, rows, True
            pairs["image"], pairs["text"] = image, text
        count, times = batches(self.scope.rows, self.rule.batch), range(self.rule.repetitions)
        keys = [
            batch_of(pairs["uid"], time, self.scope.rows, self.rule.batch) + time * count for time in times
        ]
        return np.concatenate([pairs] * self.rule.repetitions), np.concatenate(keys)

    def compare(self, members: Records, key: int) -> Found:  # noqa: ARG002
        scores = batch_scores(
            members["image"],
            members["text"],
            temperature=self.rule.temperature,
            reference_batch=self.rule.batch,
        )
        return Found(scores.astype(np.float64), np.full(len(members), -1, np.int64))

    def best(self, answers: Records) -> Records:
        """One answer for each row: the mean over its batches."""
        order = np.lexsort((answers["row"], answers["part"]))
        ordered = answers[order]
        first = np.ones(len(ordered), np.bool_)
        first[1:] = (np.diff(ordered["part"]) != 0) | (np.diff(ordered["row"]) != 0)
        sums = ScoreSums.zeros(int(np.count_nonzero(first)))
        group = np.cumsum(first) - 1
        time = np.arange(len(ordered)) - np.flatnonzero(first)[group]
        for repetition in range(self.rule.repetitions):
            here = time == repetition
            sums.add(group[here], ordered["value"][here].astype(np.float32))
        means = ordered[first]
        means["value"] = sums.mean()
        return means

    def columns(self, rows: int, answers: Records) -> Columns:
        score = np.full(rows, np.nan, np.float32)
        score[answers["row"]] = answers["value"]
        return {self.scope.name: pa.array(score, from_pandas=True)}
