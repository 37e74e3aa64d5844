"""Keep images that show something: not blank, not one flat colour."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from filters.core.declaration import Columns, Judgement, RowFilter, within


class MinEntropy(RowFilter):
    """Keep a sample when its image's luminance histogram has at least this many bits.

    Shannon entropy of the 256-bin histogram: 0 for one flat colour, 8 for uniform noise;
    photographs mostly lie between 5 and 7.9.
    """

    shorthand: ClassVar[str] = "at_least"

    at_least: float = Field(ge=0, le=8, description="Bits, inclusive.")

    def reads(self) -> tuple[str, ...]:
        return ("luminance_entropy",)

    def judge(self, columns: Columns) -> Judgement:
        return within(columns["luminance_entropy"], self.at_least, None)
