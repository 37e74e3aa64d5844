"""The probability of so many successes by accident."""

from __future__ import annotations

import math

import pytest

from filters.core.binomial import binomial_tail
from filters.core.fusion import precision_bound


def summed(count: int, at_least: int, share: float) -> float:
    """Term by term."""
    return sum(
        math.comb(count, hits) * share**hits * (1 - share) ** (count - hits)
        for hits in range(at_least, count + 1)
    )


@pytest.mark.parametrize(("count", "at_least"), [(1, 1), (10, 3), (12, 10), (50, 1), (200, 150), (200, 40)])
@pytest.mark.parametrize("share", [1e-5, 0.2, 0.5, 0.999])
def test_it_is_the_sum_of_all_terms(count: int, at_least: int, share: float) -> None:
    assert binomial_tail(count, at_least, share) == pytest.approx(summed(count, at_least, share), rel=1e-10)


@pytest.mark.parametrize(("count", "at_least"), [(12, 10), (48, 40), (1000, 530)])
def test_at_the_bound_of_clopper_and_pearson_it_is_one_minus_the_confidence(
    count: int, at_least: int
) -> None:
    bound = precision_bound(at_least, count, 0.95)
    assert binomial_tail(count, at_least, bound) == pytest.approx(0.05, rel=1e-6)


def test_a_large_count_is_halved_in_the_middle() -> None:
    count = 10_000_001  # odd, so that the middle lies between two numbers
    assert binomial_tail(count, count // 2 + 1, 0.5) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("count", "at_least", "share", "expected"),
    [(0, 0, 0.5, 1.0), (5, 0, 0.0, 1.0), (5, 1, 0.0, 0.0), (5, 5, 1.0, 1.0), (5, 5, 0.5, 1 / 32)],
)
def test_the_ends(count: int, at_least: int, share: float, expected: float) -> None:
    assert binomial_tail(count, at_least, share) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("count", "at_least", "share"), [(3, 4, 0.5), (3, -1, 0.5), (3, 1, 1.5)])
def test_what_is_no_distribution_is_refused(count: int, at_least: int, share: float) -> None:
    with pytest.raises(ValueError, match="no binomial distribution"):
        binomial_tail(count, at_least, share)
