"""Drop captions that hold a blocked word or phrase: boilerplate, file names, slurs."""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from filters.core.declaration import Columns, Judgement, RowFilter

# In front of and behind a term that begins or ends with a word character: no longer word.
_BEFORE, _AFTER = r"(?:^|[^\pL\pN_])", r"(?:[^\pL\pN_]|$)"


class CaptionBlocklist(RowFilter):
    """Drop a sample when its caption holds one of these terms, as whole words.

    Upper and lower case are the same. "stock photo" blocks "Free Stock Photo - 1234" but
    not "stock photography". With `whole_caption` only captions that equal a term are dropped.
    """

    shorthand: ClassVar[str] = "terms"

    terms: tuple[str, ...] = Field(min_length=1, description="Words or phrases, not patterns.")
    whole_caption: bool = Field(
        default=False, description="A term must be the whole caption, not a part of it."
    )

    def reads(self) -> tuple[str, ...]:
        return ("caption",)

    def judge(self, columns: Columns) -> Judgement:
        caption = columns["caption"]
        hits = pc.match_substring_regex(caption, self._pattern(), ignore_case=True)
        blocked = pc.fill_null(hits, fill_value=False).to_numpy(zero_copy_only=False)
        return Judgement(
            ~blocked,
            pc.is_null(caption).to_numpy(zero_copy_only=False),
            self._found(caption, blocked),
            f"none of {len(self.terms)} blocked terms",
        )

    def _pattern(self) -> str:
        return "|".join(self._one(term) for term in self.terms)

    def _one(self, term: str) -> str:
        quoted = _quote(term.strip())
        if self.whole_caption:
            return rf"^\s*{quoted}\s*$"
        before = _BEFORE if term.strip()[:1].isalnum() else ""
        after = _AFTER if term.strip()[-1:].isalnum() else ""
        return f"{before}{quoted}{after}"

    def _found(self, caption: pa.Array, blocked: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> pa.Array:
        """The blocked term for each blocked row, null elsewhere: the reason a person wants."""
        found: list[str | None] = [None] * len(caption)
        for row in np.flatnonzero(blocked):
            text = pa.array([caption[row].as_py()], pa.string())
            for term in self.terms:
                if pc.match_substring_regex(text, self._one(term), ignore_case=True)[0].as_py():
                    found[row] = term
                    break
        return pa.array(found, pa.string())


def _quote(term: str) -> str:
    """The term as a pattern that matches itself; any white space matches any white space."""
    return r"\s+".join(re.sub(r"([^\w])", r"\\\1", word, flags=re.ASCII) for word in term.split())
