"""Drop copies of a picture that were re-encoded, resized, flipped or edited, keeping one."""

from __future__ import annotations

from typing import ClassVar, Literal, Self, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from filters.core.declaration import Columns, Judgement, RelationalFilter, missing, numbers, require_number

Kind = Literal["exact", "re-encoded", "edited", "similar"]
DEFAULT_BITS = {"pdq": 31, "phash": 10}


class DropCopies(RelationalFilter):
    """Drop a sample when its picture is a copy of an earlier survivor's; one stays.

    `method: pdq` (256 bits; copies within 31) and `phash` (64 bits; within 10) compare perceptual
    hashes: they find re-encoded, resized and recoloured pictures, with `flips` also mirrored and
    turned ones, but no crops. `verified` takes the nearest neighbours of an embedding as
    candidates and lays their thumbnails over one another: it finds crops, shifts and mirror
    images too, and tells what kind of copy each is. "Earlier" is the smaller uid, or with `by` the
    greater signal.

    The search is exact: no pair within the radius is missed. Its work grows with the square of
    the pool, so above some hundred million samples set `within`, which searches inside clusters
    of an embedding. Hashes of pictures with too little to see (PDQ quality below 50, hardly any
    variance, too few bits set) say nothing; such samples stay.
    """

    shorthand: ClassVar[str] = "method"
    relation: ClassVar[str] = "copies"
    relation_reads: ClassVar[tuple[str, ...]] = ("duplicate_of", "distance", "duplicate_kind")
    relation_options: ClassVar[tuple[str, ...]] = (
        "method",
        "at_most_bits",
        "flips",
        "by",
        "within",
        "neighbours",
        "clusters",
        "probe",
        "iterations",
        "training_samples",
        "seed",
    )

    method: Literal["pdq", "phash", "verified"] = Field(default="pdq", description="How copies are found.")
    at_most_bits: int | None = Field(
        default=None, ge=0, le=63, description="Bits that may differ; none: 31 for pdq, 10 for phash."
    )
    flips: bool = Field(default=False, description="Hashes: also compare the seven flips and turns.")
    kinds: tuple[Kind, ...] = Field(
        default=("exact", "re-encoded", "edited"), description="Verified: the kinds of copies to drop."
    )
    at_least_score: float = Field(
        default=0.8,
        ge=0.65,
        le=1,
        description="Verified: how well the pictures agree at least; flat drawings need more, such as 0.93.",
    )
    by: str | None = Field(
        default=None, description="The signal by which the best copy stays; none: the smallest uid."
    )
    within: str | None = Field(
        default=None,
        description="Compare only inside clusters of these embeddings, such as clip_image; "
        "verified: also where candidates come from.",
    )
    neighbours: int = Field(
        default=50, ge=1, le=1000, description="Verified: candidates looked at for each sample."
    )
    clusters: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Number of clusters; none: one for 1,000 samples."
    )
    probe: int = Field(default=2, ge=1, le=16, description="Clusters that a sample is compared in.")
    iterations: int = Field(default=20, ge=1, le=1000, description="Iterations of k-means.")
    training_samples: int | None = Field(
        default=None, ge=1, description="Samples that k-means sees; none: 256 for each cluster."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of k-means and its sample.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        hashes = self.method in DEFAULT_BITS
        if not hashes and self.within is None:
            msg = "method: verified needs within (embeddings that give candidates, such as clip_image)"
            raise ValueError(msg)
        if not hashes and (self.at_most_bits is not None or self.flips):
            msg = "at_most_bits and flips are for pdq and phash; verified finds mirror images by itself"
            raise ValueError(msg)
        if self.method == "phash" and self.radius > 15:
            msg = f"at_most_bits: {self.radius} of phash's 64 bits; at most 15 tell anything"
            raise ValueError(msg)
        return self

    @property
    def radius(self) -> int:
        """Bits that may differ."""
        return DEFAULT_BITS.get(self.method, 0) if self.at_most_bits is None else self.at_most_bits

    @property
    def embedding(self) -> str | None:
        """The embeddings that clusters are made of."""
        return self.within

    def reads(self) -> tuple[str, ...]:
        own = {
            "pdq": ("pdq_hash", "pdq_quality"),
            "phash": ("phash", "grey_variance"),
            "verified": ("thumbnail", "pixels_hash"),
        }[self.method]
        flips = (f"{self.method}_flips",) if self.flips else ()
        signal = () if self.by is None else (self.by,)
        return ("uid", *own, *flips, *signal)

    def embeddings(self) -> tuple[str, ...]:
        return () if self.within is None else (self.within,)

    def check(self, types: dict[str, pa.DataType]) -> None:
        if self.by is not None:
            require_number(self.by, types[self.by])

    def judge(self, columns: Columns) -> Judgement:
        distance = numbers(columns["distance"])
        null = missing(distance) | pc.is_null(columns["duplicate_kind"]).to_numpy(zero_copy_only=False)
        if self.method in DEFAULT_BITS:
            with np.errstate(invalid="ignore"):
                copies = distance <= self.radius
            return Judgement(
                ~copies, null, distance, f"more than {self.radius} bits from any earlier picture"
            )
        kinds = pc.is_in(columns["duplicate_kind"], value_set=pa.array(self.kinds, pa.string()))
        with np.errstate(invalid="ignore"):
            agree = distance <= np.float32(1 - self.at_least_score)
        words = f"no earlier picture of which it is a copy ({', '.join(self.kinds)})"
        return Judgement(~(agree & kinds.to_numpy(zero_copy_only=False)), null, distance, words)


KINDS: tuple[str, ...] = get_args(Kind)
