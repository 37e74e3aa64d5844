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
from transforms.comparing import Comparison
from transforms.deciding import DecidePart
from transforms.exchange import Records
from transforms.relating import Task
from transforms.sampling import SampledRelation

SAMPLES_PER_CLUSTER = 256
ROWS_PER_CLUSTER = 1000  # where the recipe does not say how many clusters
MOST_CLUSTERS = 100_000


class ClusteredRelation(SampledRelation):
    """What relations over clusters share; `rule` has `embedding`, `clusters`, `seed` and so on."""

    training: ClassVar[tuple[str, ...]] = ("survey", "sample", "train")
    # Unit centroids and cosine; DataComp's image-based filter is plain L2 instead.
    spherical: ClassVar[bool] = True

    @classmethod
    def finds_clusters(cls, rule: Any) -> bool:  # noqa: ARG003
        return True

    @property
    def clusters(self) -> int:
        """How many clusters are asked for."""
        return clusters_for(self.rule, self.scope.rows)

    @property
    def sample_embeddings(self) -> tuple[str, ...]:
        return (self.rule.embedding,)

    @property
    def sample_rows(self) -> int:
        return int(self.rule.training_samples or SAMPLES_PER_CLUSTER * self.clusters)

    @cached_property
    def centroids(self) -> NDArray[np.float32]:
        """(k, d) float32; k may be smaller than asked for where there are few rows."""
        found: NDArray[np.float32] = self.scope.store.read_array(self.centroids_file)
        return found

    @property
    def centroids_file(self) -> str:
        """Where the centroids lie, `artefacts/<fp>-centroids.npy` where no calibration has them."""
        return self.scope.centroids or f"artefacts/{self.scope.group.rpartition('/')[2]}-centroids.npy"

    @cached_property
    def trained(self) -> dict[str, Any]:
        """What the centroids were trained on."""
        found: dict[str, Any] = self.scope.folder.read_json(self.centroids_file.replace(".npy", ".json"))
        return found

    def training_tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        """The tasks of survey, sample and train."""
        if self.scope.centroids is not None:
            return []
        if self.ready:
            return [Task(0)] if stage == "train" else []
        if stage == "train":
            return [Task(0, (), (len(self.sample_lots(parts)),))]
        return self.sampling_tasks(stage, parts)

    def run_training(self, stage: str, task: Task) -> None:
        """Does one task of survey, sample or train."""
        if stage == "train":
            self._train(task)
        else:
            self.run_sampling(stage, task)

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
        _, (drawn,) = self.drawn(task.keys[0])
        vectors, _ = unit_rows(drawn)
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

    def _commit(self, centroids: NDArray[np.float32], about: dict[str, Any]) -> None:
        about |= {
            "clusters": len(centroids),
            "spherical": self.spherical,
            "embedding": self.rule.embedding,
        }
        self.scope.folder.write_array(self.centroids_file, centroids)
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

    def with_clusters(
        self, part: DecidePart, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.float16], NDArray[np.int64]]:
        """Those of a part's rows that have an embedding to compare, it as stored, and the cluster of each."""
        alive = np.zeros(part.rows, np.bool_)
        alive[rows] = True
        usable, stored, vectors = self.scope.usable(part, self.rule.embedding, alive)
        clusters, _ = self.nearest_centroids(part, vectors)
        return usable, stored, clusters[:, 0].astype(np.int64)

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
