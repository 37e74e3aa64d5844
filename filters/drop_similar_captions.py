"""Drop samples of one image cluster whose captions are nearly the same, keeping one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from filters.core.declaration import Columns, Judgement, RelationalFilter, missing, numbers, require_number


class DropSimilarCaptions(RelationalFilter):
    """Drop a sample whose caption is nearly that of an earlier one in the same cluster of images.

    Captions are compared as sets of 5 characters in a row, after NFKC, lower case, single spaces
    and no punctuation; the Jaccard similarity is the share of the sets that is common. MinHash
    signatures (128 permutations, bands tuned 0.1 below the bound) find candidates, the exact
    Jaccard decides. "Earlier" is the smaller uid, or with `by` the greater signal.

    A shared caption alone is no duplicate: "a photo of a dog" fits many pictures. So captions are
    compared inside clusters of an image embedding only; `jaccard_above: 1` drops nothing and
    leaves `caption_jaccard` and `duplicate_of` in the store as signals. Captions without a
    letter or digit are not compared and stay. Beyond their first 1,000 bytes captions don't count.
    """

    shorthand: ClassVar[str] = "jaccard_above"
    relation: ClassVar[str] = "similar_captions"
    relation_reads: ClassVar[tuple[str, ...]] = ("caption_jaccard", "duplicate_of")
    relation_options: ClassVar[tuple[str, ...]] = (
        "jaccard_above",
        "by",
        "within",
        "clusters",
        "iterations",
        "training_samples",
        "seed",
    )

    jaccard_above: float = Field(default=0.8, ge=0.2, le=1, description="Drop above this similarity.")
    within: str = Field(default="clip_image", description="Embeddings whose clusters hold like pictures.")
    by: str | None = Field(
        default=None, description="The signal by which the best sample stays; none: the smallest uid."
    )
    clusters: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Number of clusters; none: one for 1,000 samples."
    )
    iterations: int = Field(default=20, ge=1, le=1000, description="Iterations of k-means.")
    training_samples: int | None = Field(
        default=None, ge=1, description="Samples that k-means sees; none: 256 for each cluster."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of k-means and its sample.")

    @property
    def embedding(self) -> str:
        """The embeddings that clusters are made of."""
        return self.within

    def reads(self) -> tuple[str, ...]:
        return ("uid", "caption") if self.by is None else ("uid", "caption", self.by)

    def embeddings(self) -> tuple[str, ...]:
        return (self.within,)

    def check(self, types: dict[str, pa.DataType]) -> None:
        if self.by is not None:
            require_number(self.by, types[self.by])

    def judge(self, columns: Columns) -> Judgement:
        jaccard = numbers(columns["caption_jaccard"])
        null = missing(jaccard)
        with np.errstate(invalid="ignore"):
            passes = ~(jaccard.astype(np.float64) > self.jaccard_above)
        words = f"captions of earlier samples at most {self.jaccard_above:.9g} alike"
        return Judgement(passes, null, jaccard, words)
