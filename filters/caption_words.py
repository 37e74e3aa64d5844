"""Keep captions with a sensible number of words."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from filters.core.declaration import Columns, Judgement, RowFilter, check_bounds, within


class CaptionWords(RowFilter):
    """Keep a sample when its caption has between `at_least` and `at_most` words.

    A word is what Python's `str.split()` returns: text between Unicode white space. DataComp's
    "more than 2 words" is `at_least: 3`.
    """

    shorthand: ClassVar[str] = "at_least"

    at_least: int | None = Field(default=None, ge=0, description="Fewest words, inclusive.")
    at_most: int | None = Field(default=None, ge=0, description="Most words, inclusive.")

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        check_bounds(self.at_least, self.at_most)
        return self

    def reads(self) -> tuple[str, ...]:
        return ("caption_words",)

    def judge(self, columns: Columns) -> Judgement:
        return within(columns["caption_words"], self.at_least, self.at_most)
