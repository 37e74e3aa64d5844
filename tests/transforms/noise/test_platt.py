"""Probabilities of concepts that don't exclude one another."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.noise.platt import BINS, GREATEST, count_scores, fit_platt, log_odds, platt


def drawn(slope: float, intercept: float, count: int = 200_000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    scores = generator.normal(-2, 3, count).clip(-GREATEST, GREATEST)
    return scores, generator.random(count) < platt(scores, slope, intercept)


def test_log_odds_are_those_of_the_probability() -> None:
    shares = np.array([0.5, 0.9, 0.1, 0.0, 1.0])
    assert np.allclose(log_odds(shares), [0, np.log(9), -np.log(9), -GREATEST, GREATEST], atol=1e-9)
    assert np.allclose(platt(log_odds(shares), 1, 0), shares, atol=1e-12)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, -1.0), (2.0, 3.0)])
def test_slope_and_intercept_are_found_again(slope: float, intercept: float) -> None:
    found = fit_platt(count_scores(*drawn(slope, intercept)))
    assert found == pytest.approx((slope, intercept), abs=0.03)


def test_parts_add_up_in_any_order() -> None:
    scores, given = drawn(0.7, -0.5, 5000)
    parts = [count_scores(scores[at::3], given[at::3]) for at in range(3)]
    assert np.array_equal(sum(reversed(parts)), count_scores(scores, given))
    assert parts[0].shape == (2, BINS)


def test_scores_that_separate_have_a_finite_slope() -> None:
    scores = np.array([-3.0, -2.0, 2.0, 3.0])
    slope, intercept = fit_platt(count_scores(scores, scores > 0))
    assert 0 < slope < 5
    assert intercept == pytest.approx(0, abs=1e-6)


def test_scores_that_say_nothing_leave_the_rate() -> None:
    assert fit_platt(np.zeros((2, BINS), np.int64)) == (1.0, 0.0)
    scores, given = np.array([5.0, -5.0, -5.0, -5.0]), np.array([False, True, True, True])
    slope, intercept = fit_platt(count_scores(scores, given))
    assert slope == 0
    assert platt(np.array([2.0]), slope, intercept)[0] == pytest.approx(4 / 6)
    slope, intercept = fit_platt(count_scores(np.full(8, 1.0), np.ones(8, np.bool_)))
    assert 0.5 < platt(np.array([1.0]), slope, intercept)[0] < 1
