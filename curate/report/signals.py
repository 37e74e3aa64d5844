"""The distribution of every signal: histograms of numbers, most frequent texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from curate.query import Decision, describe_samples, run_sql
from curate.report.cuts import Cut
from transforms.samples import COLUMNS as SAMPLE_COLUMNS

BINS = 40
TOP_TEXTS = 10
_SAMPLE_OF_QUANTILES = 200_000
_ROOM = 0.25  # an axis reaches this far beyond the middle 98 %, in spans of it
_CUT_ROOM = 0.6  # and so much farther to show a cut
_LOG_RATIO = 30.0  # positive signals that span more than this get a logarithmic axis
_KEPT = 1 << 16  # added to the bin's number of a kept row


@dataclass(frozen=True)
class Signal:
    """A column of a measure, with its meaning."""

    name: str
    meaning: str
    unit: str
    type: pa.DataType

    @property
    def numeric(self) -> bool:
        """True for a histogram, False for bars."""
        return bool(pa.types.is_integer(self.type) or pa.types.is_floating(self.type))

    @property
    def whole(self) -> bool:
        """True for integers, whose bins hold whole numbers."""
        return bool(pa.types.is_integer(self.type))


@dataclass(frozen=True)
class Axis:
    """From `low` to `high` in `bins` steps of equal width; of the logarithm where `log`."""

    low: float
    high: float
    bins: int
    log: bool

    def place(self, value: float) -> float:
        """Where the value lies: 0 at the left end, 1 at the right."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        if self.log:
            value = math.log(max(value, self.low))
        return (value - low) / (high - low)

    def edge(self, number: int) -> float:
        """The left edge of a bin."""
        share = number / self.bins
        if self.log:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class Histogram:
    """Counts of one numeric signal, of all samples and of the kept ones.

    Attributes:
        axis: None where no sample has a value.
        below, above: samples outside the axis; rows: samples with a value; missing: without.
    """

    signal: Signal
    axis: Axis | None
    cuts: tuple[Cut, ...]
    read: tuple[int, ...]
    kept: tuple[int, ...]
    below: int
    above: int
    rows: int
    missing: int
    least: float
    most: float
    medians: tuple[float | None, float | None]


@dataclass(frozen=True)
class Bars:
    """The most frequent texts of one signal: (text, samples, kept ones)."""

    signal: Signal
    top: tuple[tuple[str, int, int], ...]
    values: int
    others: int
    missing: int


def signals(decision: Decision, schema: pa.Schema) -> list[Signal]:
    """Every signal worth a picture: those of the measures, without hashes."""
    skipped = {column.name for column in SAMPLE_COLUMNS}
    found = []
    for name, meaning, unit in describe_samples(decision):
        if name in skipped or name not in schema.names or "hex digits" in unit:
            continue
        skipped.add(name)
        signal = Signal(name, meaning, unit, schema.field(name).type)
        text = pa.types.is_boolean(signal.type) or pa.types.is_string(signal.type)
        if (signal.numeric or text) and name not in ("value", "weight", *_LEDGER_TEXTS):
            found.append(signal)
    return found


_LEDGER_TEXTS = ("verdict", "dropped_by", "value_text", "bound", "duplicate_of")


def histograms(
    connection: duckdb.DuckDBPyConnection, chosen: Sequence[Signal], cuts: Sequence[Cut], rows: int
) -> list[Histogram]:
    """One histogram for each signal, in two passes over the samples."""
    if not chosen or not rows:
        return []
    spreads = _spreads(connection, chosen, rows)
    drawn = {signal.name: tuple(cut for cut in cuts if cut.column == signal.name) for signal in chosen}
    axes = {signal.name: _axis(signal, spreads[signal.name], drawn[signal.name]) for signal in chosen}
    counted = _count(connection, chosen, axes)
    return [
        _histogram(
            signal,
            axes[signal.name],
            drawn[signal.name],
            spreads[signal.name],
            counted.get(signal.name, {}),
            rows,
        )
        for signal in chosen
    ]


def bars(connection: duckdb.DuckDBPyConnection, signal: Signal) -> Bars:
    """The most frequent texts of a signal; ties in alphabetical order."""
    column = quoted(signal.name)
    kept = "count(*) FILTER (verdict = 'keep')"
    found = run_sql(
        connection,
        f"WITH counted AS (SELECT CAST({column} AS VARCHAR) AS text, count(*) AS read, {kept} AS kept "  # noqa: S608
        "FROM samples GROUP BY 1) SELECT *, count(text) OVER () AS texts, sum(read) OVER () AS total "
        f"FROM counted ORDER BY text IS NOT NULL, read DESC, text LIMIT {TOP_TEXTS + 1}",
    ).to_pylist()
    missing = sum(item["read"] for item in found if item["text"] is None)
    top = [(item["text"], item["read"], item["kept"]) for item in found if item["text"] is not None]
    total, texts = (int(found[0][name]) if found else 0 for name in ("total", "texts"))
    top = top[:TOP_TEXTS]
    return Bars(signal, tuple(top), texts, total - missing - sum(read for _, read, _ in top), missing)


def quoted(name: str) -> str:
    """The name as SQL writes an identifier."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class _Spread:
    rows: int
    least: float
    most: float
    quantiles: tuple[float, float]
    medians: tuple[float | None, float | None]


def _value(signal: Signal) -> str:
    """The column in SQL; NaN and infinities count as missing."""
    column = quoted(signal.name)
    return column if signal.whole else f"CASE WHEN isfinite({column}) THEN {column} END"


def _spreads(
    connection: duckdb.DuckDBPyConnection, chosen: Sequence[Signal], rows: int
) -> dict[str, _Spread]:
    """Extremes of every row; quantiles of a fixed sample, exact and so the same every time."""
    step = max(1, rows // _SAMPLE_OF_QUANTILES)
    asked = []
    for number, signal in enumerate(chosen):
        value = _value(signal)
        some = f"(row % {step} = 0)"
        asked.append(
            f"count({value}) AS n{number}, min({value}) AS least{number}, max({value}) AS most{number}, "
            f"quantile_disc({value}, [0.01, 0.5, 0.99]) FILTER {some} AS q{number}, "
            f"quantile_disc({value}, 0.5) FILTER ({some} AND verdict = 'keep') AS kept{number}"
        )
    answer = run_sql(connection, f"SELECT {', '.join(asked)} FROM samples").to_pylist()[0]  # noqa: S608
    found = {}
    for number, signal in enumerate(chosen):
        least, most = (float(answer[f"{end}{number}"] or 0) for end in ("least", "most"))
        low, middle, high = answer[f"q{number}"] or (least, None, most)
        low, high = (end if one is None else float(one) for one, end in ((low, least), (high, most)))
        medians = (middle, answer[f"kept{number}"])
        found[signal.name] = _Spread(int(answer[f"n{number}"]), least, most, (low, high), medians)
    return found


def _axis(signal: Signal, spread: _Spread, cuts: Sequence[Cut]) -> Axis | None:
    if spread.rows == 0:
        return None
    low, high = spread.quantiles
    smallest = 10 if signal.whole else 0
    # Shares and other bounded scores read better as they are.
    if low > smallest and high / low >= _LOG_RATIO and high > 1:
        least, most = math.log(max(spread.least, low / 3)), math.log(min(spread.most, high * 3))
        places = [math.log(cut.bound.value) for cut in cuts if cut.bound.value > 0]
        least, most = _with_cuts(least, most, places, _CUT_ROOM * (most - least))
        return Axis(math.exp(least), math.exp(most), BINS, log=True)
    room = _ROOM * (high - low)
    least, most = max(spread.least, low - room), min(spread.most, high + room)
    reach = max(_CUT_ROOM * (most - least), BINS / 2 if signal.whole else 0.0)
    least, most = _with_cuts(least, most, [cut.bound.value for cut in cuts], reach)
    if signal.whole:
        least = math.floor(least)
        width = max(1, math.ceil((math.floor(most) - least + 1) / BINS))
        bins = max(4, math.ceil((math.floor(most) - least + 1) / width))
        return Axis(least, least + width * bins, bins, log=False)
    if most <= least:
        room = max(abs(least) * 0.05, 0.05)
        return Axis(least - room, least + room, BINS, log=False)
    return Axis(least, most, BINS, log=False)


def _with_cuts(least: float, most: float, places: Sequence[float], reach: float) -> tuple[float, float]:
    """The range made longer for cuts within reach; one far off is marked at the edge instead."""
    low, high = least, most
    edge = 0.02 * (most - least)
    for place in places:
        if least - reach <= place <= least:
            low = min(low, place - edge)
        elif most <= place <= most + reach:
            high = max(high, place + edge)
    return low, high


def _count(
    connection: duckdb.DuckDBPyConnection, chosen: Sequence[Signal], axes: Mapping[str, Axis | None]
) -> dict[str, dict[int, int]]:
    """Signal -> bin -> rows; -1 is below the axis, BINS above; kept rows count from _KEPT on."""
    present = [(signal, axis) for signal in chosen if (axis := axes[signal.name]) is not None]
    if not present:
        return {}
    asked = []
    for number, (signal, axis) in enumerate(present):
        kept = f"CASE WHEN verdict = 'keep' THEN {_KEPT} ELSE 0 END"
        asked.append(f"histogram({_bin(signal, axis)} + {kept}) AS h{number}")
    answer = run_sql(connection, f"SELECT {', '.join(asked)} FROM samples").to_pylist()[0]  # noqa: S608
    return {
        signal.name: {int(bin_number): int(rows) for bin_number, rows in answer[f"h{number}"]}
        for number, (signal, _) in enumerate(present)
    }


def _bin(signal: Signal, axis: Axis) -> str:
    value = f"CAST({_value(signal)} AS DOUBLE)"
    low, high = repr(float(axis.low)), repr(float(axis.high))
    share = f"({value} - {low}) / ({high} - {low})"
    if axis.log:
        width = repr(math.log(axis.high / axis.low))
        share = f"ln(greatest({value}, {low}) / {low}) / {width}"
    inside = f"least({axis.bins - 1}, CAST(floor({share} * {axis.bins}) AS INTEGER))"
    # Whole numbers have an axis that ends before its right edge, others include it.
    beyond = ">=" if signal.whole and not axis.log else ">"
    return (
        f"CASE WHEN {value} IS NULL THEN NULL WHEN {value} < {low} THEN -1 "
        f"WHEN {value} {beyond} {high} THEN {BINS} ELSE {inside} END"
    )


def _histogram(  # noqa: PLR0913, PLR0917  (what the passes found)
    signal: Signal,
    axis: Axis | None,
    cuts: tuple[Cut, ...],
    spread: _Spread,
    counted: Mapping[int, int],
    rows: int,
) -> Histogram:
    def total(number: int) -> int:
        return counted.get(number, 0) + counted.get(number + _KEPT, 0)

    bins: Any = range(axis.bins) if axis else ()
    return Histogram(
        signal,
        axis,
        cuts,
        read=tuple(total(number) for number in bins),
        kept=tuple(counted.get(number + _KEPT, 0) for number in bins),
        below=total(-1),
        above=total(BINS),
        rows=spread.rows,
        missing=rows - spread.rows,
        least=spread.least,
        most=spread.most,
        medians=spread.medians,
    )
