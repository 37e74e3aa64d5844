"""Keep images whose shorter side is long enough."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.core.declaration import Columns, Judgement, RowFilter, missing, numbers


class MinSidePixels(RowFilter):
    """Keep a sample when its image's shorter side has at least this many pixels.

    The bound is inclusive: at `at_least: 200` a 200 x 500 image is kept (DataComp
    `basic_filter`, Gadre et al. 2023, appendix; the code, not the text, says inclusive).
    """

    shorthand: ClassVar[str] = "at_least"

    at_least: int = Field(ge=1, description="Pixels of the shorter side, inclusive.")

    def reads(self) -> tuple[str, ...]:
        return ("width", "height")

    def judge(self, columns: Columns) -> Judgement:
        side = np.minimum(numbers(columns["width"]), numbers(columns["height"]))
        with np.errstate(invalid="ignore"):
            passes = side >= self.at_least
        return Judgement(passes, missing(side), side, f"at least {self.at_least} pixels")
