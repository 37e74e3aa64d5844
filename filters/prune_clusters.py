"""Keep fewer samples of dense, simple clusters: density-based pruning."""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, model_validator

from filters.core.declaration import Accumulator, Artefact, Columns, FittedFilter, Judgement
from filters.core.quotas import DISTANCE_UNIT, complexities, distance_sums, intra_distances, quotas


class PruneClusters(FittedFilter):
    """Keep exactly the share you name, with a quota for each cluster that grows with its complexity.

    Density-based pruning (Abbas et al. 2024, arXiv 2401.04578): survivors are clustered by
    spherical k-means; a cluster's complexity is its members' mean distance to the centroid times
    the centroid's mean distance to its nearest neighbours; quotas follow a softmax of the
    complexities, as near to it as cluster sizes allow, and add up exactly. Within a cluster the
    samples farthest from the centroid stay; ties go to the smaller uid. The published best
    values are the defaults; deduplicate first, or copies make their cluster look simple.

    Ranks and distances are stored for every sample, so another share or temperature costs no new
    clustering. Where the quotas are infeasible, as with more clusters than samples to keep, the
    least of one sample a cluster gives way.
    """

    shorthand: ClassVar[str] = "keep"
    relation: ClassVar[str] = "clusters"
    relation_reads: ClassVar[tuple[str, ...]] = (
        "cluster_id",
        "centroid_cosine",
        "cluster_rank",
        "inter_distance",
    )
    relation_options: ClassVar[tuple[str, ...]] = (
        "embedding",
        "order",
        "clusters",
        "neighbours",
        "iterations",
        "training_samples",
        "seed",
    )

    keep: float | None = Field(default=None, ge=0, le=1, description="Share to keep.")
    samples: int | None = Field(default=None, ge=0, description="Number to keep, instead.")
    embedding: str = Field(
        default="clip_image", description="Embeddings to cluster: `<measure>_image` or `<measure>_text`."
    )
    clusters: int = Field(default=500, ge=1, le=10_000_000, description="Number of clusters.")
    temperature: float = Field(default=0.1, gt=0, description="Of the softmax; lower is more selective.")
    neighbours: int = Field(default=20, ge=1, description="Centroids in a cluster's mean distance to others.")
    balance: float = Field(
        default=0.0, ge=0, le=1, description="Least quota, as a share of an equal quota; 0: one sample."
    )
    order: Literal["farthest", "nearest", "random"] = Field(
        default="farthest", description="Who stays within a cluster."
    )
    iterations: int = Field(default=20, ge=1, le=1000, description="Iterations of k-means.")
    training_samples: int | None = Field(
        default=None, ge=1, description="Samples that k-means sees; none: 256 for each cluster."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of k-means, its sample and `random`.")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.keep is None) == (self.samples is None):
            msg = "give either keep (a share) or samples (a number)"
            raise ValueError(msg)
        return self

    def reads(self) -> tuple[str, ...]:
        return ("uid",)

    def embeddings(self) -> tuple[str, ...]:
        return (self.embedding,)

    def start(self) -> Artefact:
        return {"complete": False}

    def accumulate(self, artefact: Artefact, columns: Columns) -> Accumulator:  # noqa: ARG002
        compared = pa.array(~_not_compared(columns))
        names = ("cluster_id", "centroid_cosine", "inter_distance")
        cluster, cosine, inter = (columns[name].filter(compared).to_numpy() for name in names)
        width = int(cluster.max()) + 1 if len(cluster) else 0
        inters = np.zeros(width, np.int64)
        np.maximum.at(inters, cluster, np.round(inter.astype(np.float64) / DISTANCE_UNIT).astype(np.int64))
        return {
            "sizes": np.bincount(cluster, minlength=width).astype(np.int64),
            "distance": distance_sums(cosine, cluster, width),
            "inter": inters,
        }

    def merge(self, left: Accumulator, right: Accumulator) -> Accumulator:
        width = max(len(left["sizes"]), len(right["sizes"]))
        first, second = (
            {name: np.pad(values, (0, width - len(values))) for name, values in side.items()}
            for side in (left, right)
        )
        return {
            "sizes": first["sizes"] + second["sizes"],
            "distance": first["distance"] + second["distance"],
            "inter": np.maximum(first["inter"], second["inter"]),
        }

    def advance(self, artefact: Artefact, total: Accumulator | None) -> Artefact:
        if total is None or not total["sizes"].any():
            return {**artefact, "rows": 0, "wanted": 0, "quotas": [], "complete": True}
        sizes = total["sizes"]
        rows = int(sizes.sum())
        intra = intra_distances(total["distance"], sizes)
        inter = total["inter"] * DISTANCE_UNIT
        wanted = self._wanted(rows)
        found = quotas(
            complexities(intra, inter), sizes, wanted, temperature=self.temperature, balance=self.balance
        )
        return {
            "rows": rows,
            "wanted": wanted,
            "sizes": sizes.tolist(),
            "quotas": found.tolist(),
            "intra_distance": [None if value != value else value for value in intra.tolist()],  # noqa: PLR0124
            "inter_distance": inter.tolist(),
            "complete": True,
        }

    def _wanted(self, rows: int) -> int:
        if self.samples is not None:
            return min(self.samples, rows)
        return int(Fraction(str(self.keep)) * rows)

    def judge(self, columns: Columns, artefact: Artefact) -> Judgement:
        null = _not_compared(columns)
        rank = pc.fill_null(columns["cluster_rank"], 0).to_numpy(zero_copy_only=False)
        cluster = pc.fill_null(columns["cluster_id"], 0).to_numpy(zero_copy_only=False)
        quota = np.array([*artefact["quotas"], 0], np.int64)
        passes = rank < quota[np.minimum(cluster, len(quota) - 1)]
        value = np.where(null, np.nan, rank.astype(np.float64) + 1)
        words = f"a place within its cluster's quota; {artefact['wanted']} of {artefact['rows']} are kept"
        return Judgement(passes & ~null, null, value, words)


def _not_compared(columns: Columns) -> NDArray[np.bool_]:
    absent = np.zeros(len(columns["cluster_id"]), np.bool_)
    for name in PruneClusters.relation_reads:
        absent |= pc.is_null(columns[name], nan_is_null=True).to_numpy(zero_copy_only=False)
    return absent
