"""Keep images that are not too long and thin."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.core.declaration import Columns, Judgement, RowFilter, missing, numbers


class MaxAspectRatio(RowFilter):
    """Keep a sample when the longer side divided by the shorter is at most this.

    The bound is inclusive: at `at_most: 3` a 600 x 200 image is kept (DataComp `basic_filter`).
    A side of 0 pixels makes the ratio infinite or undefined: dropped or null.
    """

    shorthand: ClassVar[str] = "at_most"

    at_most: float = Field(ge=1, description="Longer side divided by shorter, inclusive.")

    def reads(self) -> tuple[str, ...]:
        return ("width", "height")

    def judge(self, columns: Columns) -> Judgement:
        width, height = numbers(columns["width"]), numbers(columns["height"])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.maximum(width, height) / np.minimum(width, height)
            passes = ratio <= self.at_most
        return Judgement(passes, missing(ratio), ratio, f"at most {self.at_most:.12g}")
