"""Clusters that examples fall into, and which samples lie in them: DataComp's image-based filter.

Source: Gadre et al. 2023, "DataComp", arXiv 2304.14108, section 4.1, and its baselines' code: plain
L2 k-means, and the greatest inner product with the raw, un-normalised centroid for samples and
examples alike. We differ in normalising both first, which changes no cluster, and in k-means seeing
a sample of the survivors, where no ready centroids are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.errors import RecipeError
from filters.core.paths import listed
from transforms.clustered import ClusteredRelation
from transforms.clustering import assign, unit_rows
from transforms.comparing import split_lots
from transforms.deciding import DecidePart
from transforms.references import EmbeddingFile, content_fingerprint, find_embeddings, find_files
from transforms.relating import Task

LOTS = 256  # at least, where there are so many parts: what a killed run does again is small
EXAMPLES, CENTROIDS = "examples", "centroids"


class TargetClusters(ClusteredRelation):
    """Columns `cluster_id`, `centroid_product` and `in_target`; null where a row has no direction.

    Stages after the training: *examples* counts a piece of the examples by cluster, *target* adds
    the counts up, *write* assigns the survivors of some parts.
    """

    stages: ClassVar[tuple[str, ...]] = (*ClusteredRelation.training, "examples", "target", "write")
    spherical: ClassVar[bool] = False

    @classmethod
    def check(cls, rule: Any) -> None:
        examples = _examples(rule)
        ready = _ready(rule)
        widest = max(file.width for file in examples)
        if ready is not None and ready.width != widest:
            msg = (
                f"the examples are {widest} wide, the centroids {ready.uri} {ready.width}: "
                "give those of one encoder"
            )
            raise RecipeError(msg)

    @classmethod
    def identity(cls, rule: Any) -> dict[str, Any]:
        examples = [content_fingerprint(uri) for uri in find_files(listed(rule.examples), EXAMPLES)]
        ready = _ready(rule)
        return {
            "examples": sorted(examples),
            "centroids": None if ready is None else content_fingerprint(ready.uri),
        }

    @classmethod
    def refusal(cls, rule: Any) -> str | None:  # noqa: ARG003
        return None  # with clusters that stay, each row's is its own affair

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        if stage in self.training:
            return self.training_tasks(stage, parts)
        if stage == "write":
            return split_lots(parts, min(len(parts), max(LOTS, self.scope.workers)))
        pieces = [(at, *piece) for at, file in enumerate(self._examples) for piece in file.pieces()]
        if stage == "target":
            return [Task(0, (), (len(pieces),))]
        return [Task(number, (), piece) for number, piece in enumerate(pieces)]

    def run(self, stage: str, task: Task) -> None:
        if stage in self.training:
            self.run_training(stage, task)
        else:
            {"examples": self._count_examples, "target": self._find_target, "write": self._write}[stage](task)

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:
        lots = self.tasks("write", parts)
        counted = [self.scope.folder.read_json(self._counts_file(lot.number)) for lot in lots]
        rows = {name: sum(lot[name] for lot in counted) for name in ("compared", "in_target")}
        about = {name: value for name, value in self.trained.items() if name != "embedding"}
        return {**about, **self.scope.folder.read_json(self._target_file(".json")), **rows}

    # --- stages

    @property
    def ready(self) -> bool:
        return self.rule.centroids is not None

    def ready_centroids(self) -> NDArray[np.float32]:
        ready = _ready(self.rule)
        if ready is None:
            raise TypeError(self.rule)
        centroids = ready.read(0, ready.rows).astype(np.float32)
        broken = np.flatnonzero(~np.isfinite(centroids).all(axis=1))
        if len(broken):
            msg = f"row {broken[0]} of the centroids {ready.uri} is not finite: give others"
            raise RecipeError(msg)
        return centroids

    def _count_examples(self, task: Task) -> None:
        at, start, end = task.keys
        file = self._examples[at]
        vectors, good = unit_rows(file.read(start, end))
        counts = np.zeros(len(self.centroids) + 1, np.int64)
        counts[-1] = np.count_nonzero(~good)
        if len(self.centroids):
            self._check_width(file.width, "the examples")
            clusters, _ = assign(vectors[good], self.centroids, spherical=False)
            counts[:-1] = np.bincount(clusters, minlength=len(self.centroids))
        self.save(f"examples/{task.number}", counts)

    def _find_target(self, task: Task) -> None:
        names = [self.scope.work(f"examples/{number}.npy") for number in range(task.keys[0])]
        counts = np.sum([self.scope.store.read_array(name) for name in names], axis=0)
        total = sum(file.rows for file in self._examples)
        left_out = int(counts[-1])
        if left_out == total:
            msg = f"none of the {total} examples has a direction (all are zero or NaN): give others"
            raise RecipeError(msg)
        self.scope.folder.write_array(self._target_file(".npy"), counts[:-1])
        about = {
            "examples": total - left_out,
            "examples_left_out": left_out,
            "target_clusters": int(np.count_nonzero(counts[:-1])),
        }
        self.scope.folder.write_json(self._target_file(".json"), about)

    def _write(self, task: Task) -> None:
        compared = in_target = 0
        for part in task.parts:
            _, alive = self.scope.alive(part, ())
            rows, _, vectors = self.scope.usable(part, self.rule.embedding, alive)
            if len(rows):
                self._check_width(vectors.shape[1], f"the embeddings {self.rule.embedding} of {part.part}")
            clusters, products = self.nearest_centroids(part, vectors)
            hit = np.zeros(part.rows, np.bool_)
            hit[rows] = self._target[clusters[:, 0]] if len(rows) else False
            cluster, product = np.zeros(part.rows, np.int32), np.zeros(part.rows, np.float32)
            cluster[rows], product[rows] = clusters[:, 0], products[:, 0]
            absent = np.ones(part.rows, np.bool_)
            absent[rows] = False
            columns = {
                "cluster_id": pa.array(cluster, mask=absent),
                "centroid_product": pa.array(product, mask=absent),
                "in_target": pa.array(hit, mask=absent),
            }
            self.write_columns(part, columns)
            compared += len(rows)
            in_target += int(np.count_nonzero(hit))
        counts = {"compared": compared, "in_target": in_target}
        self.scope.folder.write_json(self._counts_file(task.number), counts)

    # --- files and checks

    @cached_property
    def _examples(self) -> list[EmbeddingFile]:
        return _examples(self.rule)

    @cached_property
    def _target(self) -> NDArray[np.bool_]:
        """(k,) bool: which clusters hold examples."""
        counts: NDArray[np.int64] = self.scope.store.read_array(self._target_file(".npy"))
        return np.asarray(counts > 0)

    def _target_file(self, ending: str) -> str:
        """Where the number of examples in each cluster lies, and what they are."""
        return f"artefacts/{self.scope.group.rpartition('/')[2]}-targets{ending}"

    def _counts_file(self, lot: int) -> str:
        return self.scope.work(f"counts/{lot}.json")

    def _check_width(self, width: int, whose: str) -> None:
        known = self.centroids.shape[1]
        if len(self.centroids) == 0:
            msg = f"k-means saw no sample: raise training_samples ({self.rule.training_samples}) or clusters"
            raise RecipeError(msg)
        if width != known:
            msg = (
                f"{whose} are {width} wide, the centroids {known}: samples, examples and centroids "
                "must come from one encoder"
            )
            raise RecipeError(msg)


def _examples(rule: Any) -> list[EmbeddingFile]:
    return find_embeddings(listed(rule.examples), rule.array, EXAMPLES)


def _ready(rule: Any) -> EmbeddingFile | None:
    """The ready centroids, where they are given."""
    if rule.centroids is None:
        return None
    found = find_embeddings([rule.centroids], None, CENTROIDS)
    if len(found) != 1:
        msg = f"{CENTROIDS}: {rule.centroids!r} matches {len(found)} files: name one"
        raise RecipeError(msg)
    return found[0]
