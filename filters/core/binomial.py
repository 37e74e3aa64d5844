"""How likely so many successes are by accident."""

from __future__ import annotations

import math

import numpy as np


def binomial_tail(count: int, at_least: int, share: float) -> float:
    """The probability of at least so many successes in `count` trials, each with this probability.

    Exact but for rounding, about 1e-8 of the value for a million trials. Where more successes than
    expected are asked for, it takes time and memory O(sqrt(count)).
    Below 1 - c it says that the true probability exceeds `share` with confidence c, as the one-sided
    bound of Clopper and Pearson 1934 does.

    Raises: ValueError unless share is in [0, 1] and at_least in [0, count].
    """
    if not (0 <= share <= 1 and 0 <= at_least <= count):
        msg = f"no binomial distribution has {at_least} of {count} at a probability of {share}"
        raise ValueError(msg)
    if at_least == 0 or share == 1:
        return 1.0
    if share == 0:
        return 0.0
    first = math.lgamma(count + 1) - math.lgamma(at_least + 1) - math.lgamma(count - at_least + 1)
    first += at_least * math.log(share) + (count - at_least) * math.log1p(-share)
    # Further terms lie 120 standard deviations or more beyond the greatest: they are below the last bit.
    last = min(count, int(max(at_least, count * share) + 60 * math.sqrt(count)) + 100)
    hits = np.arange(at_least, last, dtype=np.float64)
    ratios = np.log((count - hits) / (hits + 1)) + (math.log(share) - math.log1p(-share))
    chances = np.exp(first + np.concatenate([[0.0], np.cumsum(ratios)]))
    return min(1.0, float(chances.sum()))
