"""Keep a random share: the control that every recipe can be compared with."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow.compute as pc
from pydantic import Field

from filters.core.declaration import Columns, Judgement, RowFilter
from filters.core.uids import parse_uids, uid_fraction


class RandomFraction(RowFilter):
    """Keep a sample when the hash of its uid falls into this share of all hashes.

    The draw depends on uid and seed alone: the same samples on every machine, in every order,
    and a smaller fraction keeps a subset of a larger one. Copies with equal uids share a fate.
    """

    shorthand: ClassVar[str] = "keep"

    keep: float = Field(ge=0, le=1, description="Share of samples to keep.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Another seed, another sample.")

    def reads(self) -> tuple[str, ...]:
        return ("uid",)

    def judge(self, columns: Columns) -> Judgement:
        uid = columns["uid"]
        null = pc.is_null(uid).to_numpy(zero_copy_only=False)
        draw = uid_fraction(parse_uids(uid.fill_null("0" * 32)), self.seed)
        draw[null] = np.nan
        return Judgement(draw < self.keep, null, draw, f"below {self.keep:.12g}")
