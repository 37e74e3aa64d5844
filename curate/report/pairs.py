"""Copies beside their originals, how alike all samples are, and what another threshold would drop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.explain import LIKENESS, find_originals, likeness_words
from curate.query import run_sql
from curate.quoting import quoted_name
from curate.report.charts import Chart, draw
from curate.report.cuts import Bound, Cut
from curate.report.examples import Place
from curate.report.signals import Axis, Histogram, Signal
from filters.core.decide import Step

PAIRS = 8
THRESHOLDS = (0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999)
_FINE = 2048  # bins in [-1, 1], from which the axis is chosen
_BINS = 60  # at most, on the axis
_MEANING = "cosine to the most similar earlier sample of the same cluster"


@dataclass(frozen=True)
class Pair:
    """A copy and the sample it was compared with; None where that can't be found."""

    copy: Place
    original: Place | None
    likeness: str


@dataclass(frozen=True)
class PairGroup:
    """Pairs under one heading."""

    title: str
    about: str
    dropped: bool
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Likeness:
    """How alike the samples of a step are to their nearest earlier ones.

    Attributes:
        lonely: samples that no earlier one was compared with.
        thresholds: (cosine, samples above it, whether it is about the one of the recipe).
    """

    chart: Chart
    compared: int
    lonely: int
    thresholds: tuple[tuple[float, int, bool], ...]


@dataclass(frozen=True)
class _Asked:
    """Which pairs a group holds, in SQL."""

    title: str
    about: str
    dropped: bool
    order: str


def pair_groups(
    connection: duckdb.DuckDBPyConnection, view: str, step: Step, names: Sequence[str], wanted: int = PAIRS
) -> list[PairGroup]:
    """The pairs nearest to the bound on both sides, then a fixed draw of those that were dropped.

    names: the columns of the step's comparison, `duplicate_of` among them.
    """
    found: list[PairGroup] = []
    seen: set[Place] = set()
    for asked in _groups(names):
        pairs = _pairs(connection, view, step, asked, (names, 2 * wanted))
        pairs = [pair for pair in pairs if pair.copy not in seen][:wanted]
        seen |= {pair.copy for pair in pairs}
        if pairs:
            found.append(PairGroup(asked.title, asked.about, asked.dropped, tuple(pairs)))
    return found


def _groups(names: Sequence[str]) -> list[_Asked]:
    draw_words = "A fixed draw: the smallest uids."
    distances = (("nearest_cosine", "-nearest_cosine"), ("distance", "distance"))
    distance = next((sql for name, sql in distances if name in names), None)
    if distance is None:
        return [_Asked("Dropped", draw_words, dropped=True, order="uid")]
    stayed = "The pairs most alike of those whose later sample stayed."
    return [
        _Asked(
            "Just dropped", "The dropped pairs that are least alike.", dropped=True, order=f"{distance} DESC"
        ),
        _Asked("Just stayed", stayed, dropped=False, order=distance),
        _Asked("Others that were dropped", draw_words, dropped=True, order="uid"),
    ]


def _pairs(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    step: Step,
    asked: _Asked,
    columns_and_rows: tuple[Sequence[str], int],
) -> list[Pair]:
    names, rows = columns_and_rows
    read = ", ".join(["duplicate_of", "shard", '"row"', *(name for name in LIKENESS if name in names)])
    same = "IS NOT DISTINCT FROM" if asked.dropped else "IS DISTINCT FROM"
    finite = "AND isfinite(distance)" if "distance" in names else ""
    copies = run_sql(
        connection,
        f"SELECT {read} FROM {quoted_name(view)} "  # noqa: S608  (our own words)
        f"WHERE duplicate_of IS NOT NULL AND dropped_by {same} '{step.name}' {finite} "
        f'ORDER BY {asked.order}, uid, shard, "row" LIMIT {int(rows)}',
    ).to_pylist()
    originals = find_originals(connection, view, step.name, copies)
    return [
        Pair(
            Place(copy["shard"], copy["row"]),
            None if original is None else Place(original["shard"], original["row"]),
            likeness_words(copy),
        )
        for copy, original in zip(copies, originals, strict=True)
    ]


def likeness(connection: duckdb.DuckDBPyConnection, view: str, step: Step) -> Likeness:
    """The histogram of `nearest_cosine`, and what each threshold would drop, in one pass."""
    artefact = step.artefact or {}
    threshold = artefact.get("threshold")
    bounds = sorted({*THRESHOLDS, *(() if threshold is None else (threshold,))})
    above = ", ".join(
        f"count(*) FILTER (found AND cosine > {bound!r}) AS a{at}" for at, bound in enumerate(bounds)
    )
    passed = f"dropped_by IS DISTINCT FROM '{step.name}'"
    place = f"least({_FINE - 1}, greatest(0, CAST(floor((cosine + 1) * {_FINE // 2}) AS INTEGER)))"
    source = (
        "(SELECT CAST(nearest_cosine AS DOUBLE) AS cosine, duplicate_of IS NOT NULL AS found, "  # noqa: S608
        f"{passed} AS passed FROM {quoted_name(view)} WHERE nearest_cosine IS NOT NULL)"
    )
    (whole,) = run_sql(
        connection,
        "SELECT count(*) AS rows, count(*) FILTER (NOT found) AS lonely, "  # noqa: S608
        f"min(cosine) FILTER (found) AS least, max(cosine) FILTER (found) AS most, {above} FROM {source}",
    ).to_pylist()
    counted = run_sql(
        connection,
        f"SELECT {place} AS bin, count(*) AS compared, count(*) FILTER (passed) AS passed "  # noqa: S608
        f"FROM {source} WHERE found GROUP BY 1",
    ).to_pydict()
    counts = np.zeros((2, _FINE), np.int64)
    counts[:, counted["bin"]] = (counted["compared"], counted["passed"])
    chart = _chart(step, counts, threshold, whole)
    drops = tuple((bound, whole[f"a{at}"], bound == threshold) for at, bound in enumerate(bounds))
    return Likeness(chart, whole["rows"], whole["lonely"], _telling(drops))


def _telling(drops: Sequence[tuple[float, int, bool]]) -> tuple[tuple[float, int, bool], ...]:
    """Without the thresholds that drop exactly what the one before them drops."""
    kept = [
        drops[at] for at in range(len(drops)) if drops[at][2] or at == 0 or drops[at][1] != drops[at - 1][1]
    ]
    return tuple(kept)


def _chart(step: Step, counts: NDArray[np.int64], threshold: float | None, whole: Mapping[str, Any]) -> Chart:
    signal = Signal("nearest_cosine", _MEANING, "-1..1", pa.float32())
    cuts = () if threshold is None else (Cut(step.name, signal.name, Bound(threshold, "≤")),)
    total = int(counts[0].sum())
    axis, read, passed, below = None, [0], [0], 0
    if total:
        # From the first per cent on, and from the threshold.
        first = int(np.searchsorted(np.cumsum(counts[0]), total / 100))
        if threshold is not None:
            first = min(first, int((threshold + 1) * _FINE / 2) - 1)
        last = int(np.flatnonzero(counts[0]).max()) + 1
        first = max(0, min(first, last - 20))
        width = math.ceil((last - first) / _BINS)
        last = max(last, _FINE if last > 0.98 * _FINE else last)
        bins = math.ceil((last - first) / width)
        first = last - bins * width
        axis = Axis(_cosine(first), _cosine(last), bins, log=False)
        read, passed = (row[first:last].reshape(bins, width).sum(axis=1).tolist() for row in counts)
        below = int(counts[0][:first].sum())
    histogram = Histogram(
        signal,
        axis,
        cuts,
        tuple(read),
        tuple(passed),
        below,
        0,
        total,
        whole["lonely"],
        whole["least"] or 0.0,
        whole["most"] or 0.0,
        (None, None),
    )
    tips = tuple(_tip(axis, at, read[at], passed[at]) for at in range(axis.bins)) if axis else ()
    return replace(draw(histogram), tips=tips)


def _cosine(place: int) -> float:
    return place * 2 / _FINE - 1


def _tip(axis: Axis, at: int, compared: int, passed: int) -> str:
    return f"{axis.edge(at):.4g} to {axis.edge(at + 1):.4g}: {compared - passed:,} dropped, {passed:,} stayed"
