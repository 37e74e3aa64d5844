"""Drop captions that hold a blocked word or phrase: boilerplate, file names, slurs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, model_validator

from filters.core.declaration import Columns, Judgement, RowFilter

# Marks belong to the word: without \pM "cafe" would block a decomposed "café".
_WORD = r"\pL\pM\pN_"
# In front of and behind a term that begins or ends with a word character: no longer word.
_BEFORE, _AFTER = rf"(?:^|[^{_WORD}])", rf"(?:[^{_WORD}]|$)"
# White space as in Python's `str.split`; RE2's \s knows ASCII only.
_SPACE = r"[\s\x0b\x1c-\x1f\x{85}\pZ]"
# RE2 refuses programs above 8 MB; a thousand ordinary terms stay far below.
_TERMS_AT_ONCE = 1000


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

    @model_validator(mode="after")
    def _can_match(self) -> Self:
        if not all(term.strip() for term in self.terms):
            msg = "an empty term would block every caption; remove it"
            raise ValueError(msg)
        try:
            self._hits(pa.array([""]), self.terms)
        except pa.ArrowInvalid as cause:
            msg = f"these terms are too long for one pattern: {cause}"
            raise ValueError(msg) from cause
        return self

    def reads(self) -> tuple[str, ...]:
        return ("caption",)

    def judge(self, columns: Columns) -> Judgement:
        caption = columns["caption"]
        blocked = self._hits(caption, self.terms)
        return Judgement(
            ~blocked,
            pc.is_null(caption).to_numpy(zero_copy_only=False),
            self._found(caption, blocked),
            f"none of {len(self.terms)} blocked terms",
        )

    def _found(self, captions: pa.Array, blocked: NDArray[np.bool_]) -> pa.Array:
        """The first blocked term of each blocked row, null elsewhere: the reason a person wants."""
        first = np.full(len(blocked), -1, dtype=np.int32)
        self._find(captions, np.flatnonzero(blocked), 0, len(self.terms), first)
        return pa.array(self.terms, pa.string()).take(pa.array(first, mask=first < 0))

    def _find(
        self, captions: pa.Array, rows: NDArray[np.int64], low: int, high: int, first: NDArray[np.int32]
    ) -> None:
        """Halves terms[low:high], one of which each of these rows holds, until one is left."""
        if len(rows) == 0:
            return
        if high - low == 1:
            first[rows] = low
            return
        middle = (low + high) // 2
        hits = self._hits(captions.take(pa.array(rows)), self.terms[low:middle])
        self._find(captions, rows[hits], low, middle, first)
        self._find(captions, rows[~hits], middle, high, first)

    def _hits(self, captions: pa.Array, terms: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) bool, True where the caption holds one of the terms; False for null."""
        hits = np.zeros(len(captions), dtype=np.bool_)
        for start in range(0, len(terms), _TERMS_AT_ONCE):
            pattern = self._pattern(terms[start : start + _TERMS_AT_ONCE])
            found = pc.match_substring_regex(captions, pattern, ignore_case=True)
            hits |= pc.fill_null(found, fill_value=False).to_numpy(zero_copy_only=False)
        return hits

    def _pattern(self, terms: Sequence[str]) -> str:
        """One pattern for all terms; terms with the same kind of edges share their edges."""
        edged: dict[tuple[str, str], list[str]] = {}
        for term in (term.strip() for term in terms):
            edged.setdefault(self._edges(term), []).append(_quote(term))
        return "|".join(f"{before}(?:{'|'.join(quoted)}){after}" for (before, after), quoted in edged.items())

    def _edges(self, term: str) -> tuple[str, str]:
        if self.whole_caption:
            return f"^{_SPACE}*", f"{_SPACE}*$"
        return _BEFORE if _in_word(term[0]) else "", _AFTER if _in_word(term[-1]) else ""


def _in_word(character: str) -> bool:
    return character == "_" or unicodedata.category(character)[0] in "LMN"


def _quote(term: str) -> str:
    """The term as a pattern that matches itself; any white space matches any white space."""
    return f"{_SPACE}+".join(re.sub(r"([!-/:-@\[-^`{-~])", r"\\\1", word) for word in term.split())
