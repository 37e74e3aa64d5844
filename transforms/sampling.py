"""Relations that begin with a sample of the survivors, drawn by the hash of their uids.

Stages: *survey* counts the survivors, *sample* takes the rows with the smallest hash. Which rows
those are depends on which rows survive, on the number wanted and on the seed: not on shards, lots
or workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from filters.core.errors import StoreError
from filters.core.uids import parse_uids, uid_fraction
from transforms.clustering import unit_rows
from transforms.comparing import split_lots
from transforms.deciding import DecidePart
from transforms.exchange import Records
from transforms.relating import Relation, Task

SURVEY_LOTS = 64  # a lot of the sample for each worker, within reason
# A little more than needed is drawn, so that cutting it gives the exact number.
SPARE, SPARE_ROWS = 1.2, 64


class SampledRelation(Relation):
    """What relations over a sample share; `rule` has `seed`."""

    sampling: ClassVar[tuple[str, ...]] = ("survey", "sample")

    @property
    def sample_rows(self) -> int:
        """How many rows the sample has, at most."""
        raise NotImplementedError

    @property
    def sample_embeddings(self) -> tuple[str, ...]:
        """The embeddings it holds of each row; rows that lack one are not in it."""
        raise NotImplementedError

    def sample_lots(self, parts: Sequence[DecidePart]) -> list[Task]:
        """The lots of parts that are sampled together."""
        return split_lots(parts, min(len(parts), max(SURVEY_LOTS, self.scope.workers)))

    def sampling_tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        """The tasks of survey and sample."""
        lots = self.sample_lots(parts)
        if stage == "survey":
            return lots
        counted = [self.scope.folder.read_json(self._alive_file(lot.number)) for lot in lots]
        return [Task(lot.number, lot.parts, (sum(counted),)) for lot in lots]

    def run_sampling(self, stage: str, task: Task) -> None:
        """Does one task of survey or sample."""
        {"survey": self._survey, "sample": self._sample}[stage](task)

    def drawn(self, lots: int) -> tuple[NDArray[np.uint64], list[NDArray[np.float16]]]:
        """The sample in the order of the hash: uids (n, 2), and embeddings (n, d) of each name."""
        found = [lot for lot in (self.load(f"sample/{number}") for number in range(lots)) if len(lot)]
        if len({lot.dtype for lot in found}) > 1:
            raise StoreError(self._two_widths())
        if not found:
            return np.empty((0, 2), np.uint64), [np.empty((0, 0), np.float16) for _ in self.sample_embeddings]
        records = np.concatenate(found)
        uid = records["uid"]
        # Rows with one uid have, as far as anyone can tell, one content: their order is no matter.
        order = np.lexsort((uid[:, 1], uid[:, 0], records["hash"]))[: self.sample_rows]
        names = [_field(number) for number in range(len(self.sample_embeddings))]
        return uid[order], [records[name][order] for name in names]

    def _alive_file(self, lot: int) -> str:
        return self.scope.work(f"survey/{lot}.json")

    def _survey(self, task: Task) -> None:
        alive = sum(int(np.count_nonzero(self.scope.alive(part, ())[1])) for part in task.parts)
        self.scope.folder.write_json(self._alive_file(task.number), alive)

    def _sample(self, task: Task) -> None:
        share = max(self.sample_rows * SPARE, self.sample_rows + SPARE_ROWS) / max(1, task.keys[0])
        found = [self._sampled(part, share) for part in task.parts]
        whole = [records for records in found if len(records)] or found[:1]
        if len({records.dtype for records in whole}) > 1:
            raise StoreError(self._two_widths())
        self.save(f"sample/{task.number}", np.concatenate(whole))

    def _sampled(self, part: DecidePart, share: float) -> Records:
        """The part's rows in the sample."""
        columns, alive = self.scope.alive(part, ())
        uids = parse_uids(columns["uid"])
        hashed = uid_fraction(uids, self.rule.seed)
        rows = np.flatnonzero(alive & (hashed < share))
        stored = [self.scope.vectors(part, name, rows) for name in self.sample_embeddings]
        good = np.ones(len(rows), np.bool_)
        for vectors in stored:
            good &= unit_rows(vectors)[1] if vectors.shape[1] else False
        fields: list[tuple[Any, ...]] = [
            (_field(number), "<f2", (vectors.shape[1],)) for number, vectors in enumerate(stored)
        ]
        records = np.zeros(int(np.count_nonzero(good)), [("hash", "<f8"), ("uid", "<u8", (2,)), *fields])
        records["hash"], records["uid"] = hashed[rows[good]], uids[rows[good]]
        for number, vectors in enumerate(stored):
            records[_field(number)] = vectors[good]
        return records

    def _two_widths(self) -> str:
        names = " and ".join(self.sample_embeddings)
        return f"the embeddings {names} have different widths in this pool: measure it with one encoder"


def _field(number: int) -> str:
    return f"vector{number}"
