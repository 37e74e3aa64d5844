"""The rank of a score within a pool of any size, from counts that add up in any order.

Scores are float32 order keys (`selection.order_keys`). A first pass counts them by their upper half;
later ones count finer bins where many lie, until a bin spans little of the log odds of the rank, or
holds one score alone: scores that are equal share their mean rank, as in `fusion.ranked`. Between
the lowest and the highest score of a bin the log odds are interpolated, so that no two scores change
places. Bins are even on the scale of log odds because ranks are combined there
(`fusion.combined_ranks`): the tails are as fine as the middle.

Passes over the rows for several columns at once: `count`, `merge`, then `advance`, until
`artefact["complete"]`; then `rank_tables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from filters.core.declaration import Accumulator, Artefact

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]

STEP = 1 / 16  # of log odds: 1.6 % of the pool in its middle
LOOSE = 4  # so many steps wide may a bin be without another pass
MOST_PASSES = 4  # then a heavy bin is taken as it is
_NO_LOW = 2**32


def begin(columns: int) -> Artefact:
    """The fit of so many columns before its first pass: JSON values."""
    nothing = [None] * columns
    return {"passes": 0, "complete": False, "edges": nothing, "tables": nothing}


def count(artefact: Artefact, keys: Sequence[NDArray[np.uint32]]) -> Accumulator:
    """What one batch contributes to a pass; keys: of each column, (n,) without missing ones."""
    found = [
        tally(edges, some) for edges, some in zip(_edges(artefact), keys, strict=True) if edges is not None
    ]
    return {name: np.concatenate([getattr(one, name) for one in found]) for name in _JOINED}


def merge(left: Accumulator, right: Accumulator) -> Accumulator:
    """Both contributions as one."""
    return {name: join(left[name], right[name]) for name, join in _JOINED.items()}


def advance(artefact: Artefact, total: Accumulator) -> Artefact:
    """The fit after a pass."""
    passes, tables = artefact["passes"] + 1, list(artefact["tables"])
    finer: list[list[int] | None] = [None] * len(tables)
    start = 0
    for column, edges in enumerate(_edges(artefact)):
        if edges is None:
            continue
        end = start + len(edges) - 1
        found = Tally(*(total[name][start:end] for name in _JOINED))
        start = end
        if not found.counts.any():
            continue
        wanted = finer_edges(found) if passes < MOST_PASSES else None
        if wanted is None:
            table = rank_table(found)
            tables[column] = {"keys": table.keys.tolist(), "odds": table.odds.tolist()}
        else:
            finer[column] = wanted.tolist()
    complete = all(edges is None for edges in finer)
    return {"passes": passes, "complete": complete, "edges": finer, "tables": tables}


def rank_tables(artefact: Artefact) -> list[RankTable | None]:
    """The table of each column; None where it has no score."""
    return [
        None if one is None else RankTable(np.array(one["keys"], np.int64), np.array(one["odds"]))
        for one in artefact["tables"]
    ]


def _edges(artefact: Artefact) -> list[Counts | None]:
    """The bins of each column in the coming pass; None where it is done."""
    if artefact["passes"] == 0:
        return [first_edges() for _ in artefact["edges"]]
    return [None if edges is None else np.array(edges, np.int64) for edges in artefact["edges"]]


@dataclass(frozen=True)
class Tally:
    """What one pass finds in each bin.

    Attributes:
        counts: (b,) int64; lows, highs: (b,) int64, the extreme keys; 2^32 and -1 in an empty bin.
    """

    counts: Counts
    lows: Counts
    highs: Counts


# How tallies of parts merge, in the order of a tally's attributes.
_JOINED = {"counts": np.add, "lows": np.minimum, "highs": np.maximum}


def first_edges() -> Counts:
    """The bins of the first pass: (65537,) int64, one bin for each upper half of a key."""
    return np.arange(0, 2**32 + 1, 2**16, dtype=np.int64)


def tally(edges: Counts, keys: NDArray[np.uint32]) -> Tally:
    """What lies in each bin.

    edges: (b + 1,) int64 ascending, a bin holds its lower end; keys: (n,) uint32 in their range.
    """
    bins = len(edges) - 1
    wide = keys.astype(np.int64)
    at = np.searchsorted(edges, wide, side="right") - 1
    lows, highs = np.full(bins, _NO_LOW, np.int64), np.full(bins, -1, np.int64)
    np.minimum.at(lows, at, wide)
    np.maximum.at(highs, at, wide)
    return Tally(np.bincount(at, minlength=bins).astype(np.int64), lows, highs)


def finer_edges(found: Tally) -> Counts | None:
    """The bins of the next pass over the same pool; None where those of this one are fine enough.

    Bins that span more than a step of log odds are split evenly between their extremes, lighter ones
    joined. Returns: (b + 1,) int64, some thousands.
    """
    runs = _joined(found)
    below, above = _ends(runs.counts)
    width = above - below
    splits = (width > STEP) & (runs.lows < runs.highs)
    if not (width[splits] > LOOSE * STEP).any():
        return None
    span = runs.highs - runs.lows + 1
    pieces = np.where(splits, np.minimum(np.ceil(width / STEP).astype(np.int64), span), 1)
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    lower = np.repeat(runs.lows, pieces) + np.repeat(span, pieces) * number // np.repeat(pieces, pieces)
    return np.append(lower, runs.highs[-1] + 1)


@dataclass(frozen=True)
class RankTable:
    """Where scores rank in a pool.

    Attributes:
        keys: (k,) int64 ascending order keys; odds: (k,) float64, the log odds of their ranks.
    """

    keys: Counts
    odds: Floats

    def ranks(self, keys: NDArray[np.uint32]) -> Floats:
        """(n,) float64 in (0, 1), rising with the score; keys: (n,) uint32."""
        odds = np.interp(keys.astype(np.float64), self.keys, self.odds)
        ranks: Floats = 1.0 / (1.0 + np.exp(-odds))
        return ranks


def rank_table(found: Tally) -> RankTable:
    """The ranks in a pool of at least one score, as some hundred points."""
    runs = _joined(found)
    below, above = _ends(runs.counts)
    alone = runs.lows == runs.highs
    after = np.cumsum(runs.counts)
    shared = _log_odds((after - runs.counts / 2) / after[-1])
    keys = np.stack([runs.lows, runs.highs], axis=1)
    odds = np.stack([np.where(alone, shared, below), above], axis=1)
    once = np.stack([np.ones(len(alone), np.bool_), ~alone], axis=1)
    return RankTable(keys[once], np.round(odds[once], 9))


def _joined(found: Tally) -> Tally:
    """The bins that hold something; neighbours that lie in one step of log odds are one."""
    filled = found.counts > 0
    counts, lows, highs = found.counts[filled], found.lows[filled], found.highs[filled]
    if not len(counts):
        return Tally(counts, lows, highs)
    below, above = _ends(counts)
    heavy = above - below > STEP
    step = np.floor(below / STEP)
    begins = np.ones(len(counts), np.bool_)
    begins[1:] = heavy[1:] | heavy[:-1] | (step[1:] != step[:-1])
    first = np.flatnonzero(begins)
    return Tally(
        np.add.reduceat(counts, first), np.minimum.reduceat(lows, first), np.maximum.reduceat(highs, first)
    )


def _ends(counts: Counts) -> tuple[Floats, Floats]:
    """The log odds of the ranks of the first and the last score of each bin, none of which is empty."""
    after = np.cumsum(counts)
    total = after[-1:]
    return _log_odds((after - counts + 0.5) / total), _log_odds((after - 0.5) / total)


def _log_odds(ranks: Floats) -> Floats:
    odds: Floats = np.log(ranks) - np.log1p(-ranks)
    return odds
