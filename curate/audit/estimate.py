"""Shares of a pool from answers on a stratified sample, with intervals. Pure functions over counts.

The estimator of a mean is the stratified one, sum of N_h p_h / sum of N_h (Cochran 1977, "Sampling
Techniques", 5.3; with known N_h the weighted estimators of Horvitz and Thompson and of Hajek are the
same), and of a share among samples whose number is itself estimated, such as all good ones, the
combined ratio (Cochran, 6.11). p_h is the share among a stratum's answers: who is not answered for is
taken to be like the others of the stratum.

Intervals: within a stratum, drawn without replacement from N_h rows, the exact ones: all numbers of bad
rows under which neither so few nor so many as were seen are unlikely (hypergeometric: Cochran, 3.6,
which has the finite population correction in it). Strata are combined by the distances of their own
limits from their estimates, squared and added (Zou, Huang and Zhang 2009, "A note on confidence interval
estimation for a linear function of binomial proportions", Computational Statistics and Data Analysis
53), so that one stratum alone keeps its limits, all rows answered leave no doubt, and a stratum of two
equal answers still leaves some. For ratios, the share for which the combination of numerator and
denominator becomes zero (as Fieller does).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from curate.audit.draw import Floats

CONFIDENCE = 0.95
_HALVINGS = 60


@dataclass(frozen=True)
class Tally:
    """What was answered of one stratum.

    Attributes:
        rows: that it has; answered: of these, at least 1; bad: answers that say "does not match".
        stands_for: the rows that its answers speak for; more than its own where they stand in for a
            stratum of the same filter without answers.
    """

    rows: int
    answered: int
    bad: int
    stands_for: float


@dataclass(frozen=True)
class Estimate:
    """A share of the pool in [0, 1], and between which it lies with `CONFIDENCE`."""

    share: float
    low: float
    high: float


def bad_share(tallies: Sequence[Tally]) -> Estimate:
    """The share of bad samples in these strata together; at least one."""
    strata = _Strata.of(tallies, bad=True)
    rows = np.array([tally.stands_for for tally in tallies], np.float64)
    centre, below, above = strata.combined(rows / rows.sum())
    return _estimate(centre, centre - below, centre + above)


def part_of(
    inside: Sequence[Tally], outside: Sequence[Tally], *, of: Literal["bad", "good"]
) -> Estimate | None:
    """Of all bad or good samples, the share that lies inside: inside / (inside + outside).

    None where no such sample was seen, so that there is nothing to have a share of.
    """
    strata = _Strata.of([*inside, *outside], bad=of == "bad")
    rows = np.array([tally.stands_for for tally in (*inside, *outside)], np.float64)
    within = np.arange(len(rows)) < len(inside)
    total = float(rows @ strata.share)
    if total == 0:
        return None
    centre = float((rows * within) @ strata.share) / total

    def balance(share: float) -> tuple[float, float, float]:
        # Zero at the true share, and positive below it.
        return strata.combined(rows * (within - share))

    def lower(share: float) -> bool:
        middle, below, _ = balance(share)
        return middle - below > 0

    def upper(share: float) -> bool:
        middle, _, above = balance(share)
        return middle + above >= 0

    return _estimate(centre, _last(lower, 0.0, centre), _last(upper, centre, 1.0))


def exact_limits(seen: int, answered: int, rows: int) -> tuple[float, float]:
    """Between which shares of `rows` the true one lies if `seen` of `answered` rows are such.

    Drawn without replacement: nothing is left open where all rows are answered.
    """
    unlikely = (1.0 - CONFIDENCE) / 2
    least, most = seen, rows - (answered - seen)

    def few(number: int) -> bool:
        # So few are there that as many as were seen, or more, are unlikely.
        chances = _chances(number, answered, rows)
        return float(chances[seen:].sum()) <= unlikely

    def many(number: int) -> bool:
        chances = _chances(number, answered, rows)
        return float(chances[: seen + 1].sum()) <= unlikely

    low = _first_number(lambda number: not few(number), least, most)
    high = _first_number(many, least, most + 1) - 1
    return min(low, most) / rows, max(high, least) / rows


@dataclass(frozen=True)
class _Strata:
    """(S,) float64 each: the shares of one kind of answer, and their limits."""

    share: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, tallies: Sequence[Tally], *, bad: bool) -> _Strata:
        seen = [tally.bad if bad else tally.answered - tally.bad for tally in tallies]
        limits = [exact_limits(s, t.answered, t.rows) for s, t in zip(seen, tallies, strict=True)]
        share = np.array([s / t.answered for s, t in zip(seen, tallies, strict=True)])
        low, high = np.array(limits).T
        # A census has limits at its share, which divides by the same number.
        return cls(share, np.minimum(low, share), np.maximum(high, share))

    def combined(self, weights: Floats) -> tuple[float, float, float]:
        """The sum of weights x shares, and how far its limits lie below and above."""
        down = np.where(weights > 0, self.share - self.low, self.share - self.high)
        up = np.where(weights > 0, self.high - self.share, self.low - self.share)
        centre = float(weights @ self.share)
        return centre, float(np.linalg.norm(weights * down)), float(np.linalg.norm(weights * up))


def _estimate(share: float, low: float, high: float) -> Estimate:
    return Estimate(share, min(max(low, 0.0), share), max(min(high, 1.0), share))


def _chances(there: int, answered: int, rows: int) -> Floats:
    """(answered + 1,) the probability of each count seen, if `there` of all rows are bad."""
    ways = _log_ways(there, answered) + _log_ways(rows - there, answered)[::-1]
    chances = np.exp(ways - ways.max())
    result: Floats = chances / chances.sum()
    return result


def _log_ways(total: int, most: int) -> Floats:
    """(most + 1,) the logarithms of the ways to choose 0 ... most out of total."""
    with np.errstate(divide="ignore"):
        factors = np.log(np.maximum(total - np.arange(most, dtype=np.float64), 0.0))
    return np.concatenate([[0.0], np.cumsum(factors - np.log(np.arange(1, most + 1)))])


def _first_number(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first number in [low, high) for which it holds, as for all after it; high where there is none."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The last share in [low, high] for which it holds, as for all before it; low where there is none."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
