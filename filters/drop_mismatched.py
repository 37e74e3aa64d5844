"""Drop pairs that more likely belong to the mismatched group: a mixture of two over a score."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, model_validator

from filters.core import mixtures
from filters.core.declaration import (
    Accumulator,
    Artefact,
    Columns,
    FittedFilter,
    Judgement,
    missing,
    numbers,
    require_number,
)

MOST_CLUSTERS = 20_000  # a histogram each: 40 MiB at every worker


class _Relation:
    """The comparison that a rule needs: of the class "clusters", of a rule without `within` none."""

    def __get__(self, rule: DropMismatched | None, _: type[DropMismatched]) -> str | None:
        return "clusters" if rule is None or rule.within is not None else None


class _Compared:
    """The relation's column that judges, where there is a relation."""

    def __get__(self, rule: DropMismatched | None, _: type[DropMismatched]) -> tuple[str, ...]:
        return ("cluster_id",) if rule is None or rule.within is not None else ()


class DropMismatched(FittedFilter):
    """Drop a sample when it more likely belongs to the group of mismatched pairs than you allow.

    A mixture of two groups is fitted to a score that is high for pairs that match; the value is
    p_clean, the probability of the group with the higher mean, and it never falls when the score
    rises. Two Gaussians as in DivideMix (Li et al. 2020, arXiv 2002.07394) and NCR (Huang et al.
    2021), or two beta distributions as in Arazo et al. 2019 (arXiv 1904.11238), which fit
    them to losses; here both are fitted to a score, scaled by its percentiles.

    p_clean stands in the ledger of every sample whatever its verdict, and with `only_tag: true`
    nothing is dropped: `output: {weights: p_clean}` then gives it to a training as a weight.

    Where the scores do not show two groups there is no answer: the means must lie more than two
    of the larger standard deviation apart and either group hold 2 %; then every sample is null,
    with the reason as its bound, and `on_null` decides. Most pools that a score has already
    filtered show one group. A flat histogram without any hill passes for two groups: look at the
    quantiles in the artefact.

    What a cosine means differs between concepts. With `within` the samples are clustered and each
    cluster with `at_least_rows` scores that show two groups has its own mixture; the others, and
    clusters that show one group, are judged by the mixture of all. Samples without an embedding
    are null.
    """

    shorthand: ClassVar[str] = "p_clean_below"
    tags: ClassVar[tuple[str, ...]] = ("p_clean",)
    relation: ClassVar[_Relation] = _Relation()
    relation_reads: ClassVar[_Compared] = _Compared()
    relation_options: ClassVar[tuple[str, ...]] = (
        "within",
        "clusters",
        "iterations",
        "training_samples",
        "seed",
    )
    # What the relation also writes and this filter doesn't read: ranks and distances of clusters.
    order: ClassVar[str] = "farthest"
    neighbours: ClassVar[int] = 20

    p_clean_below: float = Field(
        default=0.5, gt=0, le=1, description="Drop below this probability to be clean."
    )
    by: str = Field(
        default="clip_cosine", description="The signal column, greater where image and caption match."
    )
    model: mixtures.Model = Field(default="gaussian", description="The two groups' distributions.")
    at_least_rows: int = Field(default=1000, ge=2, description="Fewest scores that a mixture is fitted to.")
    of: Literal["survivors", "pool"] = Field(
        default="survivors",
        description="Fit to the samples that reached this filter, or to every sample read.",
    )
    within: str | None = Field(
        default=None, description="Also fit inside clusters of these embeddings, such as clip_image."
    )
    clusters: int = Field(default=500, ge=1, le=MOST_CLUSTERS, description="Number of clusters.")
    iterations: int = Field(default=20, ge=1, le=1000, description="Iterations of k-means.")
    training_samples: int | None = Field(
        default=None, ge=1, description="Samples that k-means sees; none: 256 for each cluster."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of k-means and its sample.")

    @model_validator(mode="after")
    def _clusters_of_survivors(self) -> Self:
        if self.within is not None and self.of == "pool":
            msg = "within compares survivors: leave out `of: pool`, or within"
            raise ValueError(msg)
        return self

    @property
    def embedding(self) -> str | None:
        """The embeddings that clusters are made of."""
        return self.within

    def population(self) -> Literal["survivors", "pool"]:
        return self.of

    def reads(self) -> tuple[str, ...]:
        return (self.by,)

    def embeddings(self) -> tuple[str, ...]:
        return () if self.within is None else (self.within,)

    def check(self, types: dict[str, pa.DataType]) -> None:
        require_number(self.by, types[self.by])

    def start(self) -> Artefact:
        return mixtures.begin()

    def accumulate(self, artefact: Artefact, columns: Columns) -> Accumulator:
        scores, cluster = self._scores(columns)
        counted = mixtures.count(artefact, scores)
        if cluster is not None and artefact["passes"]:
            counted["clusters"] = mixtures.count_clusters(artefact, scores, cluster)
        return counted

    def merge(self, left: Accumulator, right: Accumulator) -> Accumulator:
        merged = {name: left[name] + right[name] for name in ("sizes", "counts")}
        if "clusters" in left:
            longer, shorter = sorted((left["clusters"], right["clusters"]), key=len, reverse=True)
            merged["clusters"] = longer.copy()
            merged["clusters"][: len(shorter)] += shorter
        return merged

    def advance(self, artefact: Artefact, total: Accumulator | None) -> Artefact:
        found = mixtures.advance(artefact, total)
        if not found["complete"]:
            return found
        if total is None or found["passes"] == 1:
            return {**found, "mixture": None, "reason": f"no sample has a {self.by}", "clusters": []}
        counts, ends = total["counts"], found["range"]
        fitted, (reason,) = mixtures.fit(counts[None, :], ends, self.model, self.at_least_rows)
        found |= {"mixture": None, "reason": reason, "clusters": []}
        if reason is None:
            found["mixture"] = dict(zip(mixtures.PARAMETERS, fitted[0].tolist(), strict=True))
            found["quantiles"] = mixtures.at_quantiles(counts, ends, fitted, self.model)
        if "clusters" in total:
            own, reasons = mixtures.fit(total["clusters"], ends, self.model, self.at_least_rows)
            rows = total["clusters"].sum(axis=1).tolist()
            found["clusters"] = [
                {"rows": many, "mixture": None if why else one.tolist(), "reason": why}
                for many, one, why in zip(rows, own, reasons, strict=True)
            ]
        return found

    def judge(self, columns: Columns, artefact: Artefact) -> Judgement:
        scores, cluster = self._scores(columns)
        whole = artefact["mixture"]
        parameters = [[whole[name] for name in mixtures.PARAMETERS] if whole else None]
        which = np.zeros(len(scores), np.int64)
        if cluster is not None:
            own = [one["mixture"] for one in artefact["clusters"]]
            places = np.array([0 if one is None else at for at, one in enumerate(own, start=1)] + [0])
            which = places[np.minimum(cluster, len(own))]
            parameters += own
        table = np.array([row or [np.nan] * len(mixtures.PARAMETERS) for row in parameters])
        value = mixtures.p_clean(table, self.model, scores, which)
        with np.errstate(invalid="ignore"):
            passes = value >= self.p_clean_below
        return Judgement(passes, np.isnan(value), value, self._words(artefact), {"p_clean": value})

    def _scores(self, columns: Columns) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
        """The scores, NaN where there is none to judge, and the cluster of each."""
        values = numbers(columns[self.by])
        with np.errstate(over="ignore"):
            scores = np.where(missing(values), np.nan, values).astype(np.float32)
        if self.within is None:
            return scores, None
        column = columns["cluster_id"]
        absent = pc.is_null(column, nan_is_null=True).to_numpy(zero_copy_only=False)
        cluster: NDArray[np.int32] = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
        return np.where(absent, np.float32(np.nan), scores), cluster

    def _words(self, artefact: Artefact) -> str:
        """The bound, with the score that it stands for; or why there is none."""
        fits = sum(one["mixture"] is not None for one in artefact["clusters"])
        bound = f"p_clean at least {self.p_clean_below:.9g}"
        if artefact["mixture"] is None:
            words = f"no answer from {self.by}: {artefact['reason']}"
            return f"{bound} in {fits} clusters; elsewhere {words}" if fits else words
        reached = mixtures.score_reaching(_table(artefact["mixture"]), self.model, self.p_clean_below)
        score = f"no {self.by} has it" if reached is None else f"{self.by} {reached:.4g}"
        return f"{bound} ({score}{f', other in {fits} clusters' if fits else ''})"


def _table(mixture: dict[str, Any]) -> NDArray[np.float64]:
    """One row of parameters, (1, 7)."""
    return np.array([[mixture[name] for name in mixtures.PARAMETERS]])
