"""How the report writes counts, shares, values and untrusted text."""

from __future__ import annotations

import math
import re

MAX_CAPTION = 240
MAX_NAME = 80
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def count_words(count: int) -> str:
    """1234567 -> "1,234,567"."""
    return f"{count:,}"


def share_words(part: int, whole: int) -> str:
    """The share in per cent; never "0 %" or "100 %" for what is more than none or less than all."""
    if whole == 0:
        return "-"
    percent = 100 * part / whole
    if part and percent < 0.1:
        return "< 0.1 %"
    if part < whole and percent > 99.9:
        return "> 99.9 %"
    return f"{percent:.1f} %" if 0 < part < whole else f"{percent:.0f} %"


def value_words(value: float) -> str:
    """A signal's value, short: 0.2813, 1,024, 3.2e-05."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def precise_words(value: float, bound: float) -> str:
    """A value beside its bound, with as many digits as it takes to tell them apart."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    gap = abs(value - bound)
    places = 4 if gap == 0 else min(9, max(3, 1 - math.floor(math.log10(gap))))
    return f"{value:,.{places}f}".rstrip("0").rstrip(".") if abs(value) < 1e9 else f"{value:.6g}"


def tick_words(value: float) -> str:
    """A number on an axis: 0.25, 500, 20k, 3M."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor and (abs(value) >= 10_000 or value % factor == 0):
            return f"{value / factor:.4g}{unit}"
    return f"{value:.4g}"


def cut_text(text: str, limit: int) -> str:
    """The text on one line, of at most `limit` characters; where it was cut it ends with an ellipsis."""
    folded = clean_text(" ".join(text.split()))
    return folded if len(folded) <= limit else folded[: limit - 1] + "…"


def clean_text(text: str) -> str:
    """The text with control characters replaced, which a terminal would obey."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
