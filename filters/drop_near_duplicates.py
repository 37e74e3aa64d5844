"""Drop samples that mean the same as an earlier one: semantic deduplication (SemDeDup)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from filters.core import selection
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
from filters.core.paths import OneFile, beside


class DropNearDuplicates(FittedFilter):
    """Drop a sample whose embedding is closer than a threshold to an earlier one of its cluster.

    SemDeDup (Abbas et al. 2023, arXiv 2303.09540): survivors are clustered by spherical k-means;
    within a cluster, in a stated order, a sample goes when any earlier one, dropped or not, has a
    cosine above the bound (`cosine_above: 0.95` is the paper's eps = 0.05). The order decides
    who stays: by default the sample farther from the centroid comes first, as published; ties go
    to the smaller uid. The result does not depend on shards, their order or the number of workers.

    `nearest_cosine` and `duplicate_of` are stored for every sample, so another threshold, or
    `target_keep`, costs no new comparison. Pairs that lie in two clusters are missed, as in the
    original, unless `probe` looks into the next nearest clusters too; the run reports the recall
    against brute force on a sample.

    With `state`, new shards are compared with the survivors of earlier runs, inside their clusters,
    and then with one another; what was decided before never changes. A sample whose uid is among
    those survivors is a duplicate of itself: give the run new shards only.

    CLIP embeddings find what means the same, not copies: for those see `drop_copies`.
    """

    shorthand: ClassVar[str] = "cosine_above"
    relation: ClassVar[str] = "near_duplicates"
    relation_reads: ClassVar[tuple[str, ...]] = ("nearest_cosine", "duplicate_of")
    relation_options: ClassVar[tuple[str, ...]] = (
        "embedding",
        "keep",
        "by",
        "clusters",
        "probe",
        "iterations",
        "training_samples",
        "seed",
        "state",
    )

    embedding: str = Field(
        default="clip_image", description="Embeddings to compare: `<measure>_image` or `<measure>_text`."
    )
    cosine_above: float | None = Field(
        default=None, ge=0, le=1, description="Drop above this cosine; 1: identical embeddings only."
    )
    target_keep: float | None = Field(
        default=None, ge=0, le=1, description="Or: find the threshold that keeps this share."
    )
    keep: Literal["farthest", "nearest", "random", "best"] = Field(
        default="farthest",
        description="Who comes first and stays: by distance to the centroid, by chance, or best by a signal.",
    )
    by: str | None = Field(default=None, description="The signal of `keep: best`, such as clip_cosine.")
    clusters: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Number of clusters; none: one for 1,000 samples."
    )
    probe: int = Field(
        default=1, ge=1, le=16, description="Clusters a sample is compared in; work grows with the square."
    )
    iterations: int = Field(default=20, ge=1, le=1000, description="Iterations of k-means.")
    training_samples: int | None = Field(
        default=None, ge=1, description="Samples that k-means sees; none: 256 for each cluster."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of k-means, its sample and `random`.")

    state: OneFile | None = Field(
        default=None,
        description="Folder or URL of the survivors of earlier runs, from `curate state`; they come first.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.cosine_above is None) == (self.target_keep is None):
            msg = "give either cosine_above (a threshold) or target_keep (a share)"
            raise ValueError(msg)
        if (self.keep == "best") != (self.by is not None):
            msg = "keep: best needs by (a signal), and by needs keep: best"
            raise ValueError(msg)
        return self

    def reads(self) -> tuple[str, ...]:
        return ("uid",) if self.by is None else ("uid", self.by)

    def located(self, folder: Path) -> Self:
        if self.state is None:
            return self
        return self.model_copy(update={"state": beside(folder, self.state)})

    def embeddings(self) -> tuple[str, ...]:
        return (self.embedding,)

    def check(self, types: dict[str, pa.DataType]) -> None:
        if self.by is not None:
            require_number(self.by, types[self.by])

    def start(self) -> Artefact:
        if self.cosine_above is not None:
            return {"threshold": self.cosine_above, "complete": True}
        return {"prefix": [], "complete": False}

    def accumulate(self, artefact: Artefact, columns: Columns) -> Accumulator:
        keys = selection.order_keys(-numbers(columns["nearest_cosine"].drop_null()))
        return {
            "compared": np.array([len(keys)], np.int64),
            "counts": selection.count_digit(artefact["prefix"], keys, None),
        }

    def merge(self, left: Accumulator, right: Accumulator) -> Accumulator:
        return {name: left[name] + right[name] for name in left}

    def advance(self, artefact: Artefact, total: Accumulator | None) -> Artefact:
        if not artefact["prefix"]:
            compared = 0 if total is None else int(total["compared"][0])
            wanted = int(Fraction(str(self.target_keep)) * compared)
            artefact = {"compared": compared, **selection.begin(wanted)}
        if total is None or artefact["wanted"] <= 0:
            return {**artefact, "threshold": None, "complete": True}
        refined = selection.fix_digit(artefact, total["counts"])
        if len(refined["prefix"]) == selection.SCORE_DIGITS:
            # Samples at the threshold all stay: it is a property of cosines, not of uids.
            refined = {**refined, "threshold": -selection.bound_score(refined), "complete": True}
        return refined

    def judge(self, columns: Columns, artefact: Artefact) -> Judgement:
        cosine = numbers(columns["nearest_cosine"]).astype(np.float64)
        null = missing(cosine)
        threshold = artefact["threshold"]
        if threshold is None:
            return Judgement(np.zeros(len(cosine), np.bool_), null, cosine, "none is kept")
        with np.errstate(invalid="ignore"):
            # In float64, and identical embeddings (exactly 1) are above every bound.
            passes = ~(cosine > min(threshold, np.nextafter(1.0, 0.0)))
        words = f"cosine to every earlier sample at most {threshold:.9g}"
        return Judgement(passes, null, cosine, words)
