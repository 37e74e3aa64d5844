"""The nearest earlier survivor in embedding space: SemDeDup's comparison within clusters.

Stored are the greatest cosine to an earlier row of the same cluster and which row that is, so
any threshold can be chosen afterwards. Source: Abbas et al. 2023, "SemDeDup", arXiv 2303.09540;
the rule is not greedy: dropped rows count as earlier rows too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.declaration import Columns
from filters.core.errors import RecipeError
from filters.core.uids import parse_uids, uid_fraction
from transforms.clustered import ClusteredComparison
from transforms.comparing import Found, in_order
from transforms.deciding import DecidePart
from transforms.exchange import Records, read_records, record_count
from transforms.marking import nearest_earlier, nearest_in
from transforms.memory import Memory
from transforms.recall import SAMPLE_ROWS, nearest_of_all, recall_table
from transforms.relating import Task
from transforms.relations.exact_duplicates import originals
from transforms.sampling import SPARE
from transforms.states import State, record_type
from transforms.storage import redact

ROWS_AT_ONCE = 1 << 16


class NearDuplicates(ClusteredComparison):
    """Greatest cosine to an earlier row of the same cluster, or of the next nearest ones (`probe`)."""

    stages: ClassVar[tuple[str, ...]] = (*ClusteredComparison.stages, "recall")
    remembers: ClassVar[bool] = True

    @classmethod
    def fields(cls, rule: Any, width: int) -> list[tuple[Any, ...]]:  # noqa: ARG003
        return [("vector", "<f2", (width,))]

    @classmethod
    def records_per_row(cls, rule: Any) -> int:
        return int(rule.probe)

    def entries(self, part: DecidePart) -> tuple[Records, NDArray[np.int64]]:
        members = self.members(part, self.rule.probe, first=self.rule.keep)
        own = members.records
        if len(own):
            own["vector"] = members.stored
        guests = own.copy()
        guests["own"] = False
        probed = members.clusters.shape[1]
        records = np.concatenate([own, *[guests] * (probed - 1)])
        return records, members.clusters.T.reshape(-1).astype(np.int64)

    def compare(self, members: Records, key: int) -> Found:
        cosine, original = nearest_earlier(members["vector"])
        found = Found(cosine.astype(np.float64), original)
        earlier = self.earlier
        if earlier is None:
            return found
        with earlier.survivors(key) as known:
            return _with_known(found, members, known)

    def compare_tiles(self, earlier: Records, members: Records) -> Found:
        cosine, original = nearest_in(members["vector"], earlier["vector"])
        return Found(cosine.astype(np.float64), original)

    def columns(self, rows: int, answers: Records) -> Columns:
        places = answers["row"]
        compared = np.zeros(rows, np.bool_)
        compared[places] = True
        cosine, centroid = np.zeros(rows, np.float32), np.zeros(rows, np.float32)
        cluster = np.zeros(rows, np.int32)
        cosine[places], centroid[places] = answers["value"], answers["cosine"]
        cluster[places] = answers["key"]
        absent = ~compared
        return {
            "nearest_cosine": pa.array(cosine, mask=absent),
            "duplicate_of": originals(rows, answers),
            "cluster_id": pa.array(cluster, mask=absent),
            "centroid_cosine": pa.array(centroid, mask=absent),
            "compared": pa.array(compared),
        }

    # --- survivors of earlier runs

    @classmethod
    def refusal(cls, rule: Any) -> str | None:
        if rule.state is not None:
            return "it is given a state, and a continuous run keeps its own: leave `state` out"
        return None

    @property
    def remembered_type(self) -> np.dtype[Any]:
        return record_type(self.width)

    def remembered(self, part: DecidePart, rows: NDArray[np.intp]) -> tuple[Records, NDArray[np.int64]]:
        usable, stored, clusters = self.with_clusters(part, rows)
        uids = self.scope.store.read_part(self.scope.config.writers["uid"], part.part, ["uid"])["uid"]
        records = np.zeros(len(usable), self.remembered_type)
        if len(usable):
            records["uid"] = parse_uids(uids.combine_chunks().take(pa.array(usable)))
            records["vector"] = stored
        return records, clusters

    @property
    def earlier(self) -> State | Memory | None:
        """What came before: the state that the recipe names, or what earlier batches have kept."""
        return self.state if self.scope.memory is None else Memory(self.scope.memory)

    @classmethod
    def check(cls, rule: Any) -> None:
        if rule.state is not None:
            _ = State.at(rule.state).about

    @classmethod
    def identity(cls, rule: Any) -> dict[str, Any]:
        return {} if rule.state is None else {"state": State.at(rule.state).identity}

    @cached_property
    def state(self) -> State | None:
        """What earlier runs have kept, where the recipe names it."""
        return None if self.rule.state is None else State.at(self.rule.state)

    @property
    def ready(self) -> bool:
        return self.rule.state is not None

    def ready_centroids(self) -> NDArray[np.float32]:
        if self.state is None:
            raise TypeError(self.rule)
        ours = self.scope.config.embeddings[self.rule.embedding]
        if self.state.about["embeddings"] != ours:
            msg = (
                f"filter {self.scope.name}: the state {redact(self.rule.state)} holds "
                f"{self.state.about['embeddings']}, but the pool is measured as {ours}: "
                "compare embeddings of one encoder, under one name"
            )
            raise RecipeError(msg)
        return self.state.centroids

    # --- recall against brute force, on a sample

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        if stage == "recall":
            lots = self.lots(parts)
            return [Task(lot.number, (), (len(lots),)) for lot in lots]
        return super().tasks(stage, parts)

    def run(self, stage: str, task: Task) -> None:
        if stage == "recall":
            self._recall(task)
        else:
            super().run(stage, task)

    def sorted_lot(self, task: Task, entries: list[tuple[Records, NDArray[np.int64]]]) -> None:
        """Notes the lot's share of the recall sample beside its sorted file."""
        own = [records[records["own"]] for records, _ in entries]
        drawn = [uid_fraction(records["uid"], self.rule.seed + 2) for records in own]
        share = SPARE * SAMPLE_ROWS / max(1, self.scope.rows)
        chosen = np.concatenate([some[hashed < share] for some, hashed in zip(own, drawn, strict=True)])
        self.save(f"recall/queries-{task.number}", chosen)

    def _queries(self, lots: int) -> Records:
        """The sample, by the hash of its uids."""
        found = [self.load(f"recall/queries-{number}") for number in range(lots)]
        records = np.concatenate(found)
        order = in_order(records, np.zeros(len(records), np.int64))
        hashed = uid_fraction(records["uid"][order], self.rule.seed + 2)
        return records[order][np.argsort(hashed, kind="stable")][:SAMPLE_ROWS]

    def _recall(self, task: Task) -> None:
        queries = self._queries(task.keys[0])
        name = self.scope.work(f"sorted/{task.number}")
        count = record_count(self.scope.folder, name, self.keys())
        best = np.zeros(len(queries), np.float32)
        for start in range(0, count, ROWS_AT_ONCE):
            rows = read_records(self.scope.folder, name, self.dtype, start, min(start + ROWS_AT_ONCE, count))
            np.maximum(best, nearest_of_all(queries, rows[rows["own"]]), out=best)
        self.save(f"recall/nearest-{task.number}", best)

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:
        lots = len(self.lots(parts))
        queries = self._queries(lots)
        nearest = np.max([self.load(f"recall/nearest-{number}") for number in range(lots)], axis=0)
        sorted_files = [self.scope.work(f"sorted/{number}") for number in range(lots)]
        records = sum(record_count(self.scope.folder, name, self.keys()) for name in sorted_files)
        exchange = self.plan(parts)
        return {
            "rows": records // min(self.rule.probe, self.keys()),
            **self.trained,
            "probe": self.rule.probe,
            "exchange": {
                "lots": exchange.lots,
                "blocks": exchange.blocks,
                "bytes": records * self.dtype.itemsize,
            },
            "recall_sample": len(queries),
            "recall": recall_table(nearest, self._found(queries, parts)),
        }

    def _found(self, queries: Records, parts: Sequence[DecidePart]) -> NDArray[np.float32]:
        """What the clusters found for the sample."""
        names = {part.number: part.part for part in parts}
        found = np.zeros(len(queries), np.float32)
        for number in np.unique(queries["part"]).tolist():
            column = self.scope.store.read_part(self.scope.group, names[number], ["nearest_cosine"])
            here = queries["part"] == number
            found[here] = column["nearest_cosine"].to_numpy()[queries["row"][here]]
        return found


def _with_known(found: Found, members: Records, known: Records) -> Found:
    """What was found among new rows, or among the survivors of earlier runs, which come first."""
    cosine, place = nearest_in(members["vector"], known["vector"])
    # Equal cosines go to the earliest in the order, and every survivor is earlier than a new row.
    older = (place >= 0) & (cosine >= found.value)
    uids = members["uid"][np.maximum(found.original, 0)]
    uids[older] = known["uid"][place[older]]
    return Found(
        np.where(older, cosine.astype(np.float64), found.value),
        np.where(older, place, found.original),
        uids=uids,
    )
