"""Clusters of the survivors, and each row's rank in its cluster: what density-based pruning needs."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.declaration import Columns
from filters.core.quotas import inter_distances
from transforms.clustered import ClusteredComparison
from transforms.comparing import Found
from transforms.deciding import DecidePart
from transforms.exchange import Records


class Clusters(ClusteredComparison):
    """Spherical k-means of the survivors; the exchange carries 45 bytes a row and no embedding."""

    stages: ClassVar[tuple[str, ...]] = (*ClusteredComparison.training, "sort", "compare", "write")
    hot_rows: ClassVar[int | None] = None

    @classmethod
    def refusal(cls, rule: Any) -> str | None:
        if "cluster_rank" in rule.relation_reads:
            return "it keeps so many rows of each cluster of a whole pool"
        return None

    @classmethod
    def fields(cls, rule: Any, width: int) -> list[tuple[Any, ...]]:  # noqa: ARG003
        return []

    def entries(self, part: DecidePart) -> tuple[Records, NDArray[np.int64]]:
        members = self.members(part, 1, first=self.rule.order)
        return members.records, members.clusters[:, 0].astype(np.int64)

    def compare(self, members: Records, key: int) -> Found:  # noqa: ARG002
        return Found(np.arange(len(members), dtype=np.float64), np.full(len(members), -1, np.int64))

    @cached_property
    def inter(self) -> NDArray[np.float32]:
        """Each centroid's mean distance to its nearest neighbours: (k,) float32."""
        return inter_distances(np.asarray(self.centroids), self.rule.neighbours).astype(np.float32)

    def columns(self, rows: int, answers: Records) -> Columns:
        places = answers["row"]
        compared = np.zeros(rows, np.bool_)
        compared[places] = True
        rank, cluster = np.zeros(rows, np.int64), np.zeros(rows, np.int32)
        centroid, inter = np.zeros(rows, np.float32), np.zeros(rows, np.float32)
        rank[places], cluster[places] = answers["value"].astype(np.int64), answers["key"]
        centroid[places] = answers["cosine"]
        if len(answers):
            inter[places] = self.inter[answers["key"]]
        absent = ~compared
        return {
            "cluster_id": pa.array(cluster, mask=absent),
            "centroid_cosine": pa.array(centroid, mask=absent),
            "cluster_rank": pa.array(rank, mask=absent),
            "inter_distance": pa.array(inter, mask=absent),
        }
