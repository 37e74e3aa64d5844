"""Keep images that a score head rates well, such as an aesthetic predictor."""

from __future__ import annotations

from pydantic import Field

from filters.core.declaration import Columns, Judgement, RowFilter, within


class MinHeadScore(RowFilter):
    """Keep a sample when a score head on its CLIP image embedding says at least this.

    The head is a measure of the recipe (`score_head`); the scale is the head's own: LAION's
    aesthetic predictor answers about 1 to 10.
    """

    head: str = Field(description="Name of the score_head measure in the recipe's `measures`.")
    at_least: float = Field(description="Score, inclusive, in the head's own unit.")

    def reads(self) -> tuple[str, ...]:
        return (f"{self.head}_score",)

    def judge(self, columns: Columns) -> Judgement:
        return within(columns[f"{self.head}_score"], self.at_least, None)
