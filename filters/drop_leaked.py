"""Drop samples that an evaluation set also holds: decontamination."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from filters.core.declaration import Columns, Judgement, OnNull, RelationalFilter, missing, numbers
from filters.core.paths import Files, beside, listed

EMBEDDING_FILES = (".npy", ".npz")


class _Compared:
    """The relation's columns that judge: of the class either one, of a rule that of its method."""

    def __get__(self, rule: DropLeaked | None, _: type[DropLeaked]) -> tuple[str, ...]:
        return ("leaked_bits", "leaked_cosine") if rule is None else (rule.column,)


class DropLeaked(RelationalFilter):
    """Drop a sample whose picture is, or means, almost the same as one of an evaluation set.

    `method: pdq` finds copies: the set's images (tars, Parquet, folders of them) are hashed as the
    pool's are, each in its eight flips and turns, and a sample goes when its PDQ hash differs from
    one of them in at most 31 bits, the published threshold (Facebook 2019, The TMK+PDQF
    Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm). Other sizes, JPEG and grey are
    found, flips and quarter turns mostly; crops are not.

    `method: embedding` finds what is alike in the space of an encoder: the set is given as .npy or
    .npz files that the pool's encoder made, such as those of a store in which the set was
    measured. CLIP's space is one of meaning, not of copies: DataComp's authors (Gadre et al. 2023,
    arXiv 2304.14108, appendix F) found 2 % of copies by CLIP B/32 at the cosine of 0.96 that it
    takes to be right 9 times of 10; descriptors trained for copies do better.

    The nearest item and its distance are stored for every sample, so another threshold costs no new
    comparison: every cosine, and bits up to 31 (`leaked_bits` 32 means 32 or more). A flat or
    nearly regular picture, with a PDQ quality below 50 or fewer than 56 bits set, can't be judged
    by its hash, in the pool or in the set: such a sample is not compared, has null, and stays
    unless `on_null` says otherwise.
    """

    relation: ClassVar[str] = "leaked"
    relation_reads: ClassVar[_Compared] = _Compared()
    relation_options: ClassVar[tuple[str, ...]] = ("against", "set_name", "array", "method", "embedding")

    against: Files = Field(
        description="The evaluation set: paths, globs, ranges or URLs of images or of embeddings."
    )
    set_name: str = Field(
        min_length=1, max_length=64, description="What the set is called, as in imagenet-val."
    )
    method: Literal["pdq", "embedding"] = Field(
        default="pdq", description="Compare hashes (copies) or embeddings (likeness)."
    )
    at_most_bits: int = Field(
        default=31, ge=0, le=31, description="For pdq: drop where at most so many bits differ, of 256."
    )
    cosine_above: float | None = Field(
        default=None, ge=0, le=1, description="For embedding: drop above this cosine."
    )
    embedding: str = Field(
        default="clip_image", description="For embedding: which, `<measure>_image` or `<measure>_text`."
    )
    array: str | None = Field(default=None, description="Array of the .npz files, where they hold several.")
    on_null: OnNull = Field(
        default="keep", description="Verdict of a row that can't be compared, such as a flat picture."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.method == "embedding") != (self.cosine_above is not None):
            msg = "method: embedding needs cosine_above, and cosine_above needs method: embedding"
            raise ValueError(msg)
        named = listed(self.against)
        if self.method == "pdq" and any(name.endswith(EMBEDDING_FILES) for name in named):
            msg = "method: pdq compares images; .npy and .npz files need method: embedding and cosine_above"
            raise ValueError(msg)
        if self.method == "embedding" and any(name.endswith((".tar", ".parquet")) for name in named):
            msg = (
                "method: embedding compares with .npy or .npz files: measure the set with the pool's encoder "
                "and name the files in its store's embeddings folder"
            )
            raise ValueError(msg)
        return self

    @property
    def column(self) -> str:
        """The relation's column that is compared with the threshold."""
        return "leaked_bits" if self.method == "pdq" else "leaked_cosine"

    def located(self, folder: Path) -> Self:
        return self.model_copy(update={"against": beside(folder, self.against)})

    def reads(self) -> tuple[str, ...]:
        return ("uid", "pdq_hash", "pdq_quality") if self.method == "pdq" else ("uid",)

    def embeddings(self) -> tuple[str, ...]:
        return () if self.method == "pdq" else (self.embedding,)

    def check(self, types: dict[str, pa.DataType]) -> None:
        if self.method == "pdq" and not pa.types.is_string(types["pdq_hash"]):
            msg = f"column 'pdq_hash' holds {types['pdq_hash']}, not hex digits: use perceptual_hashes"
            raise ValueError(msg)

    def judge(self, columns: Columns) -> Judgement:
        value = numbers(columns[self.column]).astype(np.float64)
        with np.errstate(invalid="ignore"):
            if self.method == "pdq":
                leaked = value <= self.at_most_bits
                words = f"more than {self.at_most_bits} bits from every picture of {self.set_name}"
            else:
                leaked = value > np.float64(self.cosine_above or 0.0)
                words = f"cosine to everything in {self.set_name} at most {self.cosine_above:.9g}"
        return Judgement(~leaked, missing(value), value, words)
