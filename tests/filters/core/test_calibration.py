from __future__ import annotations

import numpy as np
import pytest

from filters.core.calibration import BINS, SCORE_SHARE, curve, read_curve, summed


def simulated(count: int = 50_000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    scores = generator.random(count)
    return scores, (generator.random(count) < scores**3).astype(float)


def test_the_curve_is_near_the_true_probability_of_each_score() -> None:
    scores, happened = simulated()
    points = curve(summed(scores, happened))
    grid = np.linspace(0.05, 0.95, 19)
    assert read_curve(points, grid) == pytest.approx(grid**3, abs=0.06)


def test_it_runs_along_the_nearest_rising_step_function() -> None:
    """The max-min formula of isotonic regression: the greatest least mean of the runs around a bin."""
    counted = summed(*simulated(3000))
    at = np.flatnonzero(counted[0])[::4][:120]
    many, sums = counted[:, at].astype(float)
    total, units = np.cumsum([0, *many]), np.cumsum([0, *sums]) / 2**24
    means = [[(units[b] - units[a]) / (total[b] - total[a]) for b in range(a + 1, 121)] for a in range(120)]
    exact = [max(min(means[a][i - a :]) for a in range(i + 1)) for i in range(120)]
    some = np.zeros_like(counted)
    some[:, at] = counted[:, at]
    middles = (at + 0.5) / BINS
    found = (read_curve(curve(some), middles) - SCORE_SHARE * middles) / (1 - SCORE_SHARE)
    assert found == pytest.approx(exact, abs=1e-9)


def test_unequal_scores_keep_unequal_probabilities_where_the_counts_say_the_same() -> None:
    scores = np.linspace(0.001, 0.999, 2000)
    points = curve(summed(scores, np.where(scores < 0.8, 1e-12, 1 - 1e-12)))
    found = read_curve(points, scores)
    assert (np.diff(found) > 1e-6).all()
    assert found[scores < 0.79].max() < SCORE_SHARE
    assert found[scores > 0.81].min() > 1 - SCORE_SHARE
    assert np.array_equal(read_curve(points, np.array([0.0, 1.0])), [0, 1])


def test_falling_probabilities_are_pooled_to_their_mean() -> None:
    scores, chances = np.array([0.25, 0.5, 0.5, 0.75]), np.array([0.9, 0.5, 0.7, 0.1])
    points = curve(summed(scores, chances))
    assert points[0, 1:-1] == pytest.approx([0.25, 0.75], abs=1 / BINS)
    assert points[1, 1:-1] == pytest.approx([0.55, 0.55], abs=0.01)


def test_counts_of_parts_add_up_and_missing_ones_count_nowhere() -> None:
    scores, happened = simulated(1000)
    whole = summed(scores, happened)
    parts = summed(scores[700:], happened[700:]) + summed(scores[:700], happened[:700])
    assert np.array_equal(whole, parts)
    assert np.issubdtype(whole.dtype, np.integer)
    gaps = np.array([np.nan, 0.5, 1.0]), np.array([0.5, np.nan, 1.0])
    assert summed(*gaps)[0].sum() == 1
    assert summed(*gaps)[:, -1].tolist() == [1, 2**24]


def test_without_counts_the_curve_is_the_score_itself() -> None:
    points = curve(summed(np.zeros(0), np.zeros(0)))
    assert read_curve(points, np.array([0.3, np.nan])) == pytest.approx([0.3, np.nan], nan_ok=True)
