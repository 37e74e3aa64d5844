"""Keep samples whose cluster also holds examples of what you want: DataComp's image-based filter."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pyarrow.compute as pc
from pydantic import Field, model_validator

from filters.core.declaration import Columns, Judgement, RelationalFilter, missing, numbers
from filters.core.paths import Files, OneFile, beside


class KeepTargetClusters(RelationalFilter):
    """Keep a sample when its nearest cluster is also the nearest of at least one example.

    DataComp's image-based filter (Gadre et al. 2023, arXiv 2304.14108, section 4.1): centroids of
    plain L2 k-means, never normalised; a sample belongs to the centroid with the greatest inner
    product, so that tight clusters, whose centroids are longer, attract more. The clusters that
    the examples belong to (there: ImageNet's training images) are the targets. Samples and
    examples are normalised to length 1 first, which changes no cluster: DataComp's are of length 1.

    Give `centroids` as published for DataComp (a .npy file of K rows), or let k-means run on the
    survivors: on 256 samples for each cluster, where DataComp takes every sample
    (`training_samples`). Examples are embeddings of the same encoder as `embedding`, in .npy or
    .npz files; those without a direction (zero, NaN) are left out and counted. With fewer samples
    than clusters there are as many clusters as samples. Cluster and inner product are stored for
    every sample.
    """

    shorthand: ClassVar[str] = "examples"
    relation: ClassVar[str] = "target_clusters"
    relation_reads: ClassVar[tuple[str, ...]] = ("cluster_id", "in_target")
    relation_options: ClassVar[tuple[str, ...]] = (
        "embedding",
        "examples",
        "array",
        "centroids",
        "clusters",
        "iterations",
        "training_samples",
        "seed",
    )

    examples: Files = Field(
        description="Paths, globs or URLs of .npy or .npz files with embeddings, (n, d) each."
    )
    array: str | None = Field(default=None, description="Array of the .npz files, where they hold several.")
    embedding: str = Field(
        default="clip_image", description="Embeddings to cluster: `<measure>_image` or `<measure>_text`."
    )
    centroids: OneFile | None = Field(
        default=None, description="A .npy file of ready centroids, (K, d), used as they are."
    )
    clusters: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Or: clusters to train; none: one for 1,000 samples, at most 100,000.",
    )
    iterations: int = Field(default=20, ge=1, le=1000, description="Iterations of k-means.")
    training_samples: int | None = Field(
        default=None, ge=1, description="Samples that k-means sees; none: 256 for each cluster."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of k-means and its sample.")

    @model_validator(mode="after")
    def _ready_or_trained(self) -> Self:
        if self.centroids is not None and (self.clusters, self.training_samples) != (None, None):
            msg = "centroids are ready: leave out clusters and training_samples, or the centroids"
            raise ValueError(msg)
        return self

    def located(self, folder: Path) -> Self:
        centroids = None if self.centroids is None else beside(folder, self.centroids)
        return self.model_copy(update={"examples": beside(folder, self.examples), "centroids": centroids})

    def reads(self) -> tuple[str, ...]:
        return ("uid",)

    def embeddings(self) -> tuple[str, ...]:
        return (self.embedding,)

    def judge(self, columns: Columns) -> Judgement:
        cluster = numbers(columns["cluster_id"]).astype(np.float64)
        target = columns["in_target"]
        return Judgement(
            passes=pc.fill_null(target, fill_value=False).to_numpy(zero_copy_only=False),
            null=missing(cluster) | pc.is_null(target).to_numpy(zero_copy_only=False),
            value=cluster,
            bound="a cluster that holds examples",
        )
