"""Relations over clusters: k-means on a sample of the survivors, then each row's nearest centroids.

Stages: *survey* counts the survivors, *sample* takes the rows with the smallest hash of their
uid, *train* runs k-means on them, sorted by that hash. So the centroids depend on which rows
survive, on the options and on nothing else: not on shards, lots or workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.declaration import Columns, numbers
from filters.core.errors import StoreError
from filters.core.selection import order_keys
from filters.core.uids import parse_uids, uid_fraction
from transforms.clustering import nearest_clusters, train_centroids, unit_rows
from transforms.comparing import Comparison, split_lots
from transforms.deciding import DecidePart
from transforms.exchange import Records
from transforms.relating import Relation, Task

SAMPLES_PER_CLUSTER = 256
ROWS_PER_CLUSTER = 1000  # where the recipe does not say how many clusters
MOST_CLUSTERS = 100_000
SURVEY_LOTS = 64  # a lot of the sample for each worker, within reason
# A little more than needed is drawn, so that cutting it gives the exact number.
SPARE, SPARE_ROWS = 1.2, 64


class ClusteredRelation(Relation):
    """What relations over clusters share; `rule` has `embedding`, `clusters`, `seed` and so on."""

    training: ClassVar[tuple[str, ...]] = ("survey", "sample", "train")
    # Unit centroids and cosine; DataComp's image-based filter is plain L2 instead.
    spherical: ClassVar[bool] = True

    @property
    def clusters(self) -> int:
        """How many clusters are asked for."""
        return clusters_for(self.rule, self.scope.rows)

    @property
    def training_rows(self) -> int:
        """How many rows k-means sees, at most."""
        return int(self.rule.training_samples or SAMPLES_PER_CLUSTER * self.clusters)

    @cached_property
    def centroids(self) -> NDArray[np.float32]:
        """(k, d) float32; k may be smaller than asked for where there are few rows."""
        found: NDArray[np.float32] = self.scope.store.read_array(self.centroids_file)
        return found

    @property
    def centroids_file(self) -> str:
        """Where the centroids lie, `artefacts/<fp>-centroids.npy`."""
        return f"artefacts/{self.scope.group.rpartition('/')[2]}-centroids.npy"

    @cached_property
    def trained(self) -> dict[str, Any]:
        """What the centroids were trained on."""
        found: dict[str, Any] = self.scope.folder.read_json(self.centroids_file.replace(".npy", ".json"))
        return found

    def training_tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        """The tasks of survey, sample and train."""
        if self.ready:
            return [Task(0)] if stage == "train" else []
        lots = split_lots(parts, min(len(parts), max(SURVEY_LOTS, self.scope.workers)))
        if stage == "train":
            return [Task(0, (), (len(lots),))]
        if stage == "sample":
            counted = [self.scope.folder.read_json(self._alive_file(lot.number)) for lot in lots]
            return [Task(lot.number, lot.parts, (sum(counted),)) for lot in lots]
        return lots

    def run_training(self, stage: str, task: Task) -> None:
        """Does one task of survey, sample or train."""
        {"survey": self._survey, "sample": self._sample, "train": self._train}[stage](task)

    def nearest_centroids(
        self, part: DecidePart, vectors: NDArray[np.float32], probe: int = 1
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The nearest clusters of unit rows (n, d), best first, and the inner products.

        Returns: (n, probe') int32 and float32; probe' is at most the number of clusters.
        Raises: StoreError where the part's embeddings are of another width than the centroids.
        """
        if len(vectors) == 0:
            return np.empty((0, probe), np.int32), np.empty((0, probe), np.float32)
        if vectors.shape[1] != self.centroids.shape[1]:
            msg = (
                f"{part.part}: embeddings {self.rule.embedding} are {vectors.shape[1]} wide, "
                f"elsewhere {self.centroids.shape[1]}: two encoders under one name; measure the pool with one"
            )
            raise StoreError(msg)
        found, products = nearest_clusters(vectors, self.centroids, probe)
        return found, np.clip(products, -1.0, 1.0) if self.spherical else products

    def _alive_file(self, lot: int) -> str:
        return self.scope.work(f"survey/{lot}.json")

    def _survey(self, task: Task) -> None:
        alive = sum(int(np.count_nonzero(self.scope.alive(part, ())[1])) for part in task.parts)
        self.scope.folder.write_json(self._alive_file(task.number), alive)

    def _sample(self, task: Task) -> None:
        share = max(self.training_rows * SPARE, self.training_rows + SPARE_ROWS) / max(1, task.keys[0])
        found = [self._sampled(part, share) for part in task.parts]
        width = max(vectors.shape[1] for _, vectors in found)
        for part, (_, vectors) in zip(task.parts, found, strict=True):
            if len(vectors) and vectors.shape[1] != width:
                msg = (
                    f"{part.part}: embeddings {self.rule.embedding} have another width than their neighbours'"
                )
                raise StoreError(msg)
        draws = np.concatenate([draws for draws, _ in found])
        vectors = np.concatenate(
            [vectors for _, vectors in found if len(vectors)] or [np.empty((0, width), np.float16)]
        )
        dtype = np.dtype([("hash", "<f8"), ("uid", "<u8", (2,)), ("vector", "<f2", (width,))])
        records = np.zeros(len(draws), dtype)
        records["hash"], records["uid"], records["vector"] = (
            uid_fraction(draws, self.rule.seed),
            draws,
            vectors,
        )
        self.save(f"sample/{task.number}", records)

    def _sampled(self, part: DecidePart, share: float) -> tuple[NDArray[np.uint64], NDArray[np.float16]]:
        """The uids and embeddings of the part's rows in the sample."""
        columns, alive = self.scope.alive(part, ())
        uids = parse_uids(columns["uid"])
        alive &= uid_fraction(uids, self.rule.seed) < share
        rows, stored, _ = self.scope.usable(part, self.rule.embedding, alive)
        return uids[rows], stored

    @property
    def ready(self) -> bool:
        """Whether the centroids were made before, so that none are trained."""
        return False

    def ready_centroids(self) -> NDArray[np.float32]:
        """Centroids that were made before: (k, d) float32."""
        raise NotImplementedError

    def _train(self, task: Task) -> None:
        if self.ready:
            self._commit(np.asarray(self.ready_centroids()), {"trained_on": None})
            return
        vectors, _ = unit_rows(self._training_set(task.keys[0]))
        centroids = train_centroids(
            vectors,
            self.clusters,
            seed=self.rule.seed,
            iterations=self.rule.iterations,
            spherical=self.spherical,
        )
        about = {
            "clusters_asked_for": self.clusters,
            "trained_on": len(vectors),
            "seed": self.rule.seed,
            "iterations": self.rule.iterations,
        }
        self._commit(centroids, about)

    def _training_set(self, lots: int) -> NDArray[np.float16]:
        """The embeddings of the sample, in the order of their uids' hash."""
        found = [lot for lot in (self.load(f"sample/{number}") for number in range(lots)) if len(lot)]
        if len({lot.dtype for lot in found}) > 1:
            msg = f"the embeddings {self.rule.embedding} have different widths: measure with one encoder"
            raise StoreError(msg)
        if not found:
            return np.empty((0, 0), np.float16)
        records = np.concatenate(found)
        uid = records["uid"]
        # Rows with one uid have, as far as anyone can tell, one content: their order is no matter.
        order = np.lexsort((uid[:, 1], uid[:, 0], records["hash"]))[: self.training_rows]
        vectors: NDArray[np.float16] = records["vector"][order]
        return vectors

    def _commit(self, centroids: NDArray[np.float32], about: dict[str, Any]) -> None:
        about |= {
            "clusters": len(centroids),
            "spherical": self.spherical,
            "embedding": self.rule.embedding,
        }
        with self.scope.folder.commit(self.centroids_file) as path, path.open("wb") as file:
            np.save(file, centroids, allow_pickle=False)
        self.scope.folder.write_json(self.centroids_file.replace(".npy", ".json"), about)


def clusters_for(rule: Any, rows: int) -> int:
    """How many clusters a rule asks for in a pool of so many rows."""
    if rule.clusters is not None:
        return int(rule.clusters)
    return max(1, min(round(rows / ROWS_PER_CLUSTER), MOST_CLUSTERS))


@dataclass(frozen=True)
class Members:
    """The rows of a part that take part in a comparison.

    Attributes:
        records: (m,) of the comparison's type, everything but its payload filled in.
        stored: (m, d) float16 embeddings as stored; clusters: (m, p) int32, the nearest first.
        rows: (m,) their places in the part; columns: what the filter reads, all rows.
    """

    records: Records
    stored: NDArray[np.float16]
    clusters: NDArray[np.int32]
    rows: NDArray[np.intp]
    columns: Columns


class ClusteredComparison(ClusteredRelation, Comparison):
    """Compares the rows of a cluster."""

    stages: ClassVar[tuple[str, ...]] = (*ClusteredRelation.training, *Comparison.stages)

    @classmethod
    def expected_keys(cls, rule: Any, rows: int) -> int:
        return max(1, min(clusters_for(rule, rows), rows))

    def keys(self) -> int:
        return max(1, len(self.centroids))

    @property
    def width(self) -> int:
        return int(self.centroids.shape[1])

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        if stage in self.training:
            return self.training_tasks(stage, parts)
        return super().tasks(stage, parts)

    def run(self, stage: str, task: Task) -> None:
        if stage in self.training:
            self.run_training(stage, task)
        else:
            super().run(stage, task)

    def members(self, part: DecidePart, probe: int, *, first: str) -> Members:
        """The part's comparable survivors; first: who comes first, see `_priority`."""
        columns, alive = self.scope.alive(part, self.rule.reads())
        rows, stored, vectors = self.scope.usable(part, self.rule.embedding, alive)
        clusters, cosines = self.nearest_centroids(part, vectors, probe)
        records = np.zeros(len(rows), self.dtype)
        if len(rows):
            here = {name: column.take(pa.array(rows)) for name, column in columns.items()}
            records["uid"] = parse_uids(here["uid"])
            records["part"], records["row"], records["own"] = part.number, rows, True
            records["cosine"] = cosines[:, 0]
            records["order"] = self._priority(first, here, records)
        return Members(records, stored, clusters, rows, columns)

    def _priority(self, first: str, columns: Columns, records: Records) -> NDArray[np.uint64]:
        """Who comes first: the smaller number; ties go to the smaller uid.

        first: farthest or nearest (to the centroid), random, best by the signal `by` (none: last), or
            uid alone.
        """
        if first == "uid":
            return np.zeros(len(records), np.uint64)
        if first == "random":
            return (uid_fraction(records["uid"], self.rule.seed + 1) * 2.0**53).astype(np.uint64)
        if first == "best":
            return ~order_keys(numbers(columns[str(self.rule.by)])).astype(np.uint64)
        distance = order_keys(np.float32(1) - records["cosine"]).astype(np.uint64)
        return distance if first == "nearest" else ~distance
