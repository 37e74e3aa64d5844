"""Keep captions with a sensible length."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from filters.core.declaration import Columns, Judgement, RowFilter, check_bounds, within


class CaptionCharacters(RowFilter):
    """Keep a sample when its caption has between `at_least` and `at_most` characters.

    A character is a Unicode code point, as in Python's `len`. DataComp's "more than 5
    characters" is `at_least: 6`.
    """

    shorthand: ClassVar[str] = "at_least"

    at_least: int | None = Field(default=None, ge=0, description="Fewest characters, inclusive.")
    at_most: int | None = Field(default=None, ge=0, description="Most characters, inclusive.")

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        check_bounds(self.at_least, self.at_most)
        return self

    def reads(self) -> tuple[str, ...]:
        return ("caption_characters",)

    def judge(self, columns: Columns) -> Judgement:
        return within(columns["caption_characters"], self.at_least, self.at_most)
