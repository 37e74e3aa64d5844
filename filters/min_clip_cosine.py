"""Keep pairs whose image and caption agree, by CLIP."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from filters.core.declaration import Columns, Judgement, RowFilter, within


class MinClipCosine(RowFilter):
    """Keep a sample when the cosine of its CLIP image and text embedding is at least this.

    The bound is inclusive, as in DataComp's `clip_score --threshold`. Thresholds that keep a
    given share of CommonPool stand in DataComp's Table 16: ViT-B/32 .281 and ViT-L/14 .243 for
    30 %. LAION-2B used .28 (ViT-B/32).
    """

    shorthand: ClassVar[str] = "at_least"

    at_least: float = Field(ge=-1, le=1, description="Cosine, inclusive.")
    encoder: str = Field(default="clip", description="Name of the CLIP measure in the recipe's `measures`.")

    def reads(self) -> tuple[str, ...]:
        return (f"{self.encoder}_cosine",)

    def judge(self, columns: Columns) -> Judgement:
        return within(columns[f"{self.encoder}_cosine"], self.at_least, None)
