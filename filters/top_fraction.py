"""Keep the best share of samples by any score, exactly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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
from filters.core.paths import Files, beside
from filters.core.tradeoff import MEDIUM_DATA, MEDIUM_UTILITY, Choice, choose_share, guarded_share
from filters.core.uids import parse_uids

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
# What a NormSim may be called here: other names are those of other signals.
NORM_SIM = re.compile(r"norm_sim(_[A-Za-z0-9_]+)?")


class Budget(BaseModel):
    """A training's length, from which the share follows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    for_samples_seen: int = Field(
        ge=1, description="Samples that the training sees, repeats counted; 128M is 128 million."
    )
    fits: Literal["medium_data", "medium_utility", "none"] = Field(
        default="medium_data",
        description="The fitted scaling law (T-MARS deciles of DataComp medium), or none: few repetitions.",
    )

    @field_validator("for_samples_seen", mode="before")
    @classmethod
    def _written_out(cls, given: Any) -> Any:
        found = re.fullmatch(r"([0-9.]+) ?([kMB])", given) if isinstance(given, str) else None
        if found is None:
            return given
        return int(Fraction(found[1]) * {"k": 10**3, "M": 10**6, "B": 10**9}[found[2]])

    def choose(self, pool: int) -> Choice:
        """The share of so many ranked samples to train on."""
        fits = {"medium_data": MEDIUM_DATA, "medium_utility": MEDIUM_UTILITY}.get(self.fits)
        if fits is None or pool < fits.of:
            return guarded_share(max(pool, 1), self.for_samples_seen)
        return choose_share(pool, self.for_samples_seen, fits)


class TopFraction(FittedFilter):
    """Keep exactly the top share of samples by a numeric signal; ties go to the smaller uid.

    n = floor(keep x rows with a score), by exact arithmetic on the decimal you wrote. The
    selection is exact (radix select over score, uid, shard and row), never a sketch, and does
    not depend on order or sharding. Scores are compared as float32, so integers above 2^24 that
    round to the same float32 tie. Samples without a score are null: see `on_null`.

    `keep: {for_samples_seen: 128M}` chooses the share for a training of that length by the scaling
    law of Goyal et al. 2024 ("Scaling Laws for Data Filtering", arXiv 2404.07177), with the
    values they fitted to deciles of DataComp medium ranked by T-MARS: better but fewer samples are
    repeated more often and wear out. The decision's manifest holds the predicted errors, how often
    each sample is seen, and a warning where the law says little. With `fits: none`, or fewer
    samples than deciles, it keeps as few as are seen at most four times each.

    `of_pool: 0.2` keeps as many samples as are 20 % of all that were read, failed ones and those
    that other filters dropped included: the published rule for NormSim, which leaves 20 % of the
    pool of what a score of the pair let through (Wang et al. 2024, arXiv 2405.19547).
    `{by: norm_sim, target: target.npy}` measures NormSim to these embeddings without a line under
    `measures`; a second target takes a name of its own, such as `by: norm_sim_coco`.

    `datacomp_compat` reproduces DataComp's `clip_score --fraction`: the bound is the element
    with index int(N x keep) of the descending scores of all N rows, and every score at or
    above it stays, which is n + 1 samples plus all ties.
    """

    added_options: ClassVar[tuple[str, ...]] = ("only_tag", "of_pool", "target")

    by: str = Field(description="The signal column to rank by, such as clip_cosine.")
    keep: Share | Budget | None = Field(
        default=None, description="Share to keep, or {for_samples_seen: …}, which chooses it."
    )
    samples: int | None = Field(default=None, ge=0, description="Number to keep, instead.")
    of_pool: Share | None = Field(
        default=None, description="Share of all samples read to keep, of those that it ranks, instead."
    )
    target: Files | None = Field(
        default=None,
        description="With by: norm_sim: npy or npz files of the target's image embeddings.",
    )
    of: Literal["survivors", "pool"] = Field(
        default="survivors",
        description="Rank the samples that reached this filter, or every sample read.",
    )
    datacomp_compat: bool = Field(default=False, description="DataComp's rule for the bound.")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if sum(size is not None for size in (self.keep, self.samples, self.of_pool)) != 1:
            msg = "give one of keep (a share), samples (a number) and of_pool (a share of all read)"
            raise ValueError(msg)
        if self.datacomp_compat and not isinstance(self.keep, float):
            msg = "datacomp_compat needs keep (a share)"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _target_of_norm_sim(self) -> Self:
        if self.target is not None and not NORM_SIM.fullmatch(self.by):
            msg = f"target is what NormSim compares with: rank by norm_sim or norm_sim_NAME, not {self.by}"
            raise ValueError(msg)
        return self

    def located(self, folder: Path) -> Self:
        if self.target is None:
            return self
        return self.model_copy(update={"target": beside(folder, self.target)})

    def measures(self) -> Mapping[str, Mapping[str, Any]]:
        if self.target is None:
            return {}
        return {self.by: {"measure": "norm_sim", "target": self.target}}

    def population(self) -> Literal["survivors", "pool"]:
        return self.of

    def reads(self) -> tuple[str, ...]:
        return (self.by, "uid", "shard_number", "row")

    def check(self, types: dict[str, pa.DataType]) -> None:
        require_number(self.by, types[self.by])

    def start(self) -> Artefact:
        return {"prefix": [], "complete": False}

    def start_on(self, pool_rows: int) -> Artefact:
        told = {} if self.of_pool is None else {"pool_rows": pool_rows}
        return {**self.start(), **told}

    def accumulate(self, artefact: Artefact, columns: Columns) -> Accumulator:
        scores = numbers(columns[self.by])
        scored = ~missing(scores)
        keys = selection.order_keys(scores)[scored]
        ties = _ties(columns)[scored] if len(artefact["prefix"]) >= selection.SCORE_DIGITS else None
        return {
            "sizes": np.array([len(scores), len(keys)], dtype=np.int64),
            "counts": selection.count_digit(artefact["prefix"], keys, ties),
        }

    def merge(self, left: Accumulator, right: Accumulator) -> Accumulator:
        return {name: left[name] + right[name] for name in left}

    def advance(self, artefact: Artefact, total: Accumulator | None) -> Artefact:
        if not artefact["prefix"]:
            rows, scored = (0, 0) if total is None else (int(size) for size in total["sizes"])
            wanted = self._wanted(rows, scored, artefact.get("pool_rows", 0))
            artefact = {**artefact, "rows": rows, "scored": scored, **selection.begin(wanted)}
            if isinstance(self.keep, Budget):
                choice = self.keep.choose(scored)
                artefact |= {
                    "repetitions": choice.repetitions,
                    "predicted_errors": {f"{share:g}": error for share, error in choice.errors.items()},
                    "warning": choice.warning,
                }
        if total is None or artefact["wanted"] <= 0:
            return {**artefact, "wanted": 0, "complete": True}
        refined = selection.fix_digit(artefact, total["counts"])
        if self.datacomp_compat and len(refined["prefix"]) == selection.SCORE_DIGITS:
            refined["complete"] = True  # every tie stays: no need to look at uids
        if refined["complete"]:
            refined["bound"] = selection.bound_score(refined)
        return refined

    def _wanted(self, rows: int, scored: int, pool_rows: int) -> int:
        if self.samples is not None:
            return min(self.samples, scored)
        if isinstance(self.keep, Budget):
            return min(self.keep.choose(scored).samples, scored)
        if self.of_pool is not None:
            return min(int(Fraction(str(self.of_pool)) * pool_rows), scored)
        share = self.keep if self.keep is not None else 0.0
        if self.datacomp_compat:
            return min(int(rows * share) + 1, scored)
        return int(Fraction(str(share)) * scored)

    def judge(self, columns: Columns, artefact: Artefact) -> Judgement:
        scores = numbers(columns[self.by])
        null = missing(scores)
        if artefact["wanted"] == 0:
            return Judgement(np.zeros(len(scores), dtype=np.bool_), null, scores, "none is kept")
        ties = _ties(columns) if selection.needs_ties(artefact) else None
        passes = selection.selected(artefact, selection.order_keys(scores), ties)
        scope = "the pool" if self.of == "pool" else "the survivors"
        words = f"at least {artefact['bound']:.9g}, the best {artefact['wanted']} of {scope}"
        if self.of_pool is not None:
            words += f", {self.of_pool:.9g} of all {artefact['pool_rows']} read"
        return Judgement(passes, null, scores, words)


def _ties(columns: Columns) -> NDArray[np.uint64]:
    return selection.tie_keys(
        parse_uids(columns["uid"]), numbers(columns["shard_number"]), numbers(columns["row"])
    )
