"""Distances, intervals and their accidents, on numbers worked out by hand and on random draws."""

from __future__ import annotations

import numpy as np
import pytest

from filters.core.drift import KeptRate, accidental_distance, add_counts, bin_edges, count_bins, distance


def test_bins_hold_equal_counts_and_an_edge_belongs_to_the_bin_below_it() -> None:
    values = np.arange(1, 101, dtype=np.float32)
    edges = bin_edges(values, 4)
    assert edges == [25.0, 50.0, 75.0]
    assert count_bins(values, edges) == [25, 25, 25, 25, 0]
    assert count_bins(np.array([25.0, 25.1, 75.0, 1e9, np.nan]), edges) == [1, 1, 1, 1, 1]


def test_a_value_that_many_share_has_a_bin_of_its_own() -> None:
    edges = bin_edges(np.full(10, 3.0))
    assert count_bins(np.array([2.0, 3.0, 3.0, 4.0]), edges) == [1, 2, 1, 0]
    edges = bin_edges(np.array([1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 4.0, 5.0]), 4)
    assert distance(count_bins(np.full(9, 3.0), edges), count_bins(np.full(9, 2.5), edges)) == 1


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [np.inf]])
def test_without_finite_values_there_are_no_edges(values: list[float]) -> None:
    assert bin_edges(np.array(values, np.float64)) == []


def test_without_edges_rows_are_known_or_missing() -> None:
    assert count_bins(np.array([1.0, np.nan]), []) == [1, 1]
    assert count_bins(np.zeros(0), [1.0]) == [0, 0, 0]


def test_the_distance_is_the_greatest_gap_of_cumulative_shares() -> None:
    assert distance([10, 10, 0], [10, 10, 0]) == 0
    assert distance([10, 10, 0], [100, 100, 0]) == 0
    assert distance([10, 10, 0], [0, 0, 7]) == 1
    assert distance([1, 1, 1, 1], [2, 1, 1, 0]) == pytest.approx(0.25)
    # Rows that lost their signal count, too.
    assert distance([50, 50, 0], [25, 25, 50]) == pytest.approx(0.5)


def test_nothing_is_far_from_nothing() -> None:
    assert distance([0, 0], [3, 4]) == 0
    assert distance([3, 4], [0, 0]) == 0
    assert accidental_distance(100, 0, 0.99) == 1


def test_samples_of_one_distribution_are_seldom_farther_than_the_accident_allows() -> None:
    generator = np.random.default_rng(0)
    calibrated = generator.normal(size=4000)
    edges = bin_edges(calibrated)
    counts = count_bins(calibrated, edges)
    allowed = accidental_distance(4000, 500, 0.95)
    found = [distance(counts, count_bins(generator.normal(size=500), edges)) for _ in range(200)]
    assert np.mean(np.array(found) > allowed) < 0.05
    moved = distance(counts, count_bins(generator.normal(0.5, 1, 500), edges))
    assert moved > allowed


def test_kept_rates_of_like_shards_have_a_narrow_interval_and_of_unlike_ones_a_wide_one() -> None:
    like = KeptRate.of([(50, 100), (51, 100), (49, 100), (50, 100)])
    unlike = KeptRate.of([(10, 100), (90, 100), (20, 100), (80, 100)])
    assert like.spread == 1
    assert unlike.spread == pytest.approx(200 / 3)
    low, high = like.interval(400, 0.95)
    assert (low, high) == pytest.approx((0.5 - 0.069, 0.5 + 0.069), abs=0.002)
    assert unlike.interval(400, 0.95)[0] < low
    assert unlike.interval(400, 0.95)[1] > high


def test_the_interval_holds_what_comes_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for _ in range(500):
        kept = generator.binomial(200, 0.3, size=6)
        low, high = KeptRate.of([(int(one), 200) for one in kept[:5]]).interval(200, 0.95)
        inside += low <= kept[5] / 200 <= high
    assert inside / 500 > 0.93


def test_where_all_or_none_were_kept_the_interval_is_not_a_point() -> None:
    low, high = KeptRate.of([(100, 100)]).interval(50, 0.99)
    assert high == 1
    assert 0.85 < low < 1
    assert KeptRate.of([(0, 100)]).interval(50, 0.99)[0] == 0


def test_without_rows_every_rate_is_expected() -> None:
    assert KeptRate.of([]).interval(10, 0.99) == (0, 1)
    assert KeptRate.of([(1, 2)]).interval(0, 0.99) == (0, 1)
    assert KeptRate.of([(0, 0), (1, 2)]).spread == 1


def test_counts_add_up() -> None:
    assert add_counts([[1, 2], [10, 20]]) == [11, 22]
