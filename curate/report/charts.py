"""A histogram as the page draws it: SVG paths, ticks and cut lines in shares of the width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from curate.report.signals import Axis, Histogram
from curate.report.wording import count_words, tick_words, value_words

HEIGHT = 100  # of the drawing, in its own units; the page stretches it
_GAP = 0.08  # between two bars, in bars
_MOST_TICKS = 6


@dataclass(frozen=True)
class CutLine:
    """A filter's bound on the axis; beyond: "left" or "right" where it lies off the axis."""

    percent: float
    label: str
    beyond: str


@dataclass(frozen=True)
class Chart:
    """Everything the page needs to draw one histogram.

    Attributes:
        read, kept: SVG path data of the bars, in a box of `bins` x HEIGHT.
        tips: what each bar stands for, in words.
        ticks: (percent, label).
    """

    histogram: Histogram
    bins: int
    read: str
    kept: str
    tips: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...]
    cuts: tuple[CutLine, ...]
    words: str


def draw(histogram: Histogram) -> Chart:
    """The histogram drawn; empty paths where no sample has a value."""
    axis = histogram.axis
    name = histogram.signal.name
    if axis is None:
        return Chart(histogram, 1, "", "", (), (), (), f"{name}: no sample has a value")
    most = max(*histogram.read, 1)
    words = (
        f"Histogram of {name}: {count_words(histogram.rows)} values from {value_words(histogram.least)} "
        f"to {value_words(histogram.most)}"
    )
    return Chart(
        histogram,
        axis.bins,
        _bars(histogram.read, most),
        _bars(histogram.kept, most),
        tuple(_tip(histogram, axis, number) for number in range(axis.bins)),
        _ticks(axis, whole=histogram.signal.whole),
        tuple(_lines(histogram, axis)),
        words,
    )


def _bars(counts: Sequence[int], most: int) -> str:
    """A rectangle for each count; the smallest is still visible."""
    drawn = []
    for number, count in enumerate(counts):
        if count:
            top = HEIGHT - max(0.8, HEIGHT * count / most)
            drawn.append(f"M{number + _GAP / 2:.2f} {HEIGHT}V{top:.1f}h{1 - _GAP:.2f}V{HEIGHT}z")
    return "".join(drawn)


def _tip(histogram: Histogram, axis: Axis, number: int) -> str:
    low, high = axis.edge(number), axis.edge(number + 1)
    if histogram.signal.whole and not axis.log:
        last = round(high) - 1
        span = f"{round(low):,}" if last == round(low) else f"{round(low):,} to {last:,}"
    else:
        span = f"{value_words(low)} to {value_words(high)}"
    return f"{span}: {histogram.read[number]:,} read, {histogram.kept[number]:,} kept"


def _lines(histogram: Histogram, axis: Axis) -> list[CutLine]:
    lines = []
    for cut in histogram.cuts:
        value = cut.bound.value
        # A bar of whole numbers stands from its number to the next: "at most 5" ends after bar 5.
        edge = value + 1 if histogram.signal.whole and not axis.log and cut.bound.sign == "≤" else value
        place = axis.place(edge)
        beyond = "left" if place < 0 else "right" if place > 1 else ""
        if axis.log and value < axis.low:
            beyond = "left"
        percent = round(100 * min(1.0, max(0.0, place)), 2)
        lines.append(CutLine(percent, f"{cut.filter} {cut.bound.sign} {value_words(value)}", beyond))
    return sorted(lines, key=lambda line: line.percent)


def _ticks(axis: Axis, *, whole: bool) -> tuple[tuple[float, str], ...]:
    values = _log_ticks(axis) if axis.log else _even_ticks(axis, whole=whole)
    # Labels of whole numbers stand under the middle of their bar where every bar is one number.
    half = 0.5 / axis.bins if whole and not axis.log and axis.high - axis.low == axis.bins else 0.0
    return tuple((round(100 * (axis.place(value) + half), 2), tick_words(value)) for value in values)


def _even_ticks(axis: Axis, *, whole: bool) -> list[float]:
    span = axis.high - axis.low
    rough = span / (_MOST_TICKS - 1)
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first = math.ceil(axis.low / step - 1e-9)
    last = math.floor(axis.high / step + 1e-9)
    values = [number * step for number in range(first, last + 1)]
    return [value for value in values if not whole or value < axis.high]


def _log_ticks(axis: Axis) -> list[float]:
    decades = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
    values: list[float] = []
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [factor * 10.0**decade for decade in decades for factor in factors]
        found = [value for value in found if axis.low <= value <= axis.high]
        if len(found) > _MOST_TICKS + 1 and values:
            break
        values = found
    return values
