"""Cheap facts about the caption."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.measure import Column, DerivedMeasure

_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}\.[A-Za-z]{2,}")

COLUMNS = (
    Column("caption_characters", pa.int32(), "Unicode code points", "characters"),
    Column("caption_words", pa.int32(), "pieces between Unicode white space", "words"),
    Column("caption_digit_share", pa.float32(), "share of characters that are digits", "0..1"),
    Column("caption_upper_share", pa.float32(), "share of letters in upper case", "0..1"),
    Column("caption_script", pa.string(), "most frequent script of the letters, such as LATIN"),
    Column("caption_script_share", pa.float32(), "share of the letters in that script", "0..1"),
    Column("caption_scripts", pa.int32(), "number of different scripts among the letters", "scripts"),
    Column("caption_url_share", pa.float32(), "share of characters in web addresses", "0..1"),
    Column("caption_email_share", pa.float32(), "share of characters in e-mail addresses", "0..1"),
)


class CaptionFacts(DerivedMeasure):
    """Length, script and simple shares of each caption."""

    automatic: ClassVar[bool] = True

    def columns(self, name: str) -> tuple[Column, ...]:  # noqa: ARG002
        return COLUMNS

    def reads(self) -> tuple[str, ...]:
        return ("caption",)

    def derive(
        self,
        name: str,  # noqa: ARG002
        columns: Mapping[str, pa.Array],
        embeddings: NDArray[np.float16] | None,  # noqa: ARG002
    ) -> Mapping[str, pa.Array]:
        facts = [None if text is None else caption_facts(text) for text in columns["caption"].to_pylist()]
        return {
            column.name: pa.array([None if fact is None else fact[at] for fact in facts], column.type)
            for at, column in enumerate(COLUMNS)
        }


def caption_facts(caption: str) -> tuple[object, ...]:
    """The values of COLUMNS for one caption; shares are 0 where there is nothing to share."""
    characters = len(caption)
    letters = [character for character in caption if character.isalpha()]
    scripts = Counter(map(_script, letters))
    # Ties go to the first script in the alphabet, so that the answer does not depend on order.
    script, most = min(scripts.items(), key=lambda item: (-item[1], item[0]), default=(None, 0))
    return (
        characters,
        len(caption.split()),
        sum(map(str.isdigit, caption)) / characters if characters else 0.0,
        sum(map(str.isupper, letters)) / len(letters) if letters else 0.0,
        script,
        most / len(letters) if letters else 0.0,
        len(scripts),
        _share(_URL, caption),
        _share(_EMAIL, caption),
    )


def _share(pattern: re.Pattern[str], caption: str) -> float:
    """The share of the caption's characters that the pattern's matches cover."""
    covered = sum(len(found.group()) for found in pattern.finditer(caption))
    return covered / len(caption) if caption else 0.0


def _script(letter: str) -> str:
    """The script, as the first word of the character's Unicode name: LATIN, CYRILLIC, CJK."""
    return "LATIN" if letter < "\x80" else unicodedata.name(letter, "UNKNOWN").split(" ", 1)[0]
