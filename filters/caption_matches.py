"""Keep captions that match a pattern."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from filters.core.declaration import Columns, Judgement, RowFilter


class CaptionMatches(RowFilter):
    """Keep a sample when its caption matches a regular expression (RE2 syntax) somewhere.

    RE2 takes time linear in the caption, whatever the pattern; it has no look-around and no
    back-references.
    """

    shorthand: ClassVar[str] = "pattern"

    pattern: str = Field(min_length=1, description="Regular expression, RE2 syntax.")
    ignore_case: bool = Field(default=True, description="Upper and lower case are the same.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            pc.match_substring_regex(pa.array([""]), pattern)
        except pa.ArrowInvalid as cause:
            msg = f"not a regular expression that RE2 reads: {cause}"
            raise ValueError(msg) from cause
        return pattern

    def reads(self) -> tuple[str, ...]:
        return ("caption",)

    def judge(self, columns: Columns) -> Judgement:
        caption = columns["caption"]
        hits = pc.match_substring_regex(caption, self.pattern, ignore_case=self.ignore_case)
        return Judgement(
            pc.fill_null(hits, fill_value=False).to_numpy(zero_copy_only=False),
            pc.is_null(caption).to_numpy(zero_copy_only=False),
            caption,
            f"matches {self.pattern}",
        )
