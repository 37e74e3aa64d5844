from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from filters.core import quotas as module
from filters.core.errors import InvariantBroken
from filters.core.quotas import (
    Counts,
    Floats,
    bounded,
    complexities,
    distance_sums,
    inter_distances,
    intra_distances,
    quotas,
)

INTER, INTRA = np.array([0.3, 0.5, 0.2, 0.8]), np.array([0.4, 0.6, 0.1, 0.5])
SIZES = np.array([100, 40, 300, 10])


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def by_halving(targets: Floats, lower: Counts, upper: Counts, total: int) -> Floats:
    """The programme's solution by bisection of the shift."""
    low, high = float((lower - targets).min()) - 1, float((upper - targets).max()) + 1
    for _ in range(200):
        middle = (low + high) / 2
        if np.clip(targets + middle, lower, upper).sum() < total:
            low = middle
        else:
            high = middle
    return np.clip(targets + high, lower, upper)


def random_programme(generator: np.random.Generator) -> tuple[Floats, Counts, Counts, int]:
    count = int(generator.integers(1, 40))
    upper = generator.integers(1, generator.choice([2, 10, 1000]) + 1, count)
    lower = np.minimum(generator.integers(0, 3), upper - 1)
    total = int(generator.integers(lower.sum(), upper.sum() + 1))
    share = generator.random(count) ** generator.choice([1, 8])
    if generator.random() < 0.3:
        share = generator.integers(1, 3, count).astype(float)  # many equal targets
    return share / share.sum() * total, lower, upper, total


@pytest.mark.parametrize(
    ("temperature", "share", "values"),
    [
        (0.1, [0.041907, 0.253525, 0.015417, 0.689151], [36.5894, 40, 33.4106, 10]),
        (0.5, [0.199891, 0.286509, 0.163657, 0.349943], [37.174, 40, 32.826, 10]),
    ],
)
def test_four_clusters_worked_by_hand(temperature: float, share: list[float], values: list[float]) -> None:
    complexity = complexities(INTRA, INTER)
    assert complexity == pytest.approx([0.12, 0.30, 0.02, 0.40])
    weights = np.exp(complexity / temperature)
    assert weights / weights.sum() == pytest.approx(share, abs=1e-6)
    found = bounded(weights / weights.sum() * 120, np.ones(4, np.int64), SIZES, 120)
    assert found == pytest.approx(values, abs=1e-4)
    kept = quotas(complexity, SIZES, 120, temperature=temperature)
    assert kept.dtype == np.int64
    assert kept.tolist() == [37, 40, 33, 10]


@pytest.mark.parametrize("seed", range(200))
def test_the_closed_form_is_the_programme_s_solution(seed: int) -> None:
    targets, lower, upper, total = random_programme(np.random.default_rng(seed))
    found = bounded(targets, lower, upper, total)
    assert found.sum() == pytest.approx(total, abs=1e-6)
    assert found == pytest.approx(by_halving(targets, lower, upper, total), abs=1e-6)


@pytest.mark.parametrize("seed", range(200))
def test_quotas_are_whole_fit_and_sum_exactly(seed: int) -> None:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(0, generator.choice([2, 30, 10**6]) + 1, int(generator.integers(1, 200)))
    complexity = generator.random(len(sizes)) ** 2
    complexity[generator.random(len(sizes)) < 0.1] = np.nan
    for share in (0, 0.01, generator.random(), 1):
        total = int(share * sizes.sum())
        options = {
            "temperature": float(generator.choice([1e-3, 0.1, 10])),
            "balance": generator.choice([0, 0.5, 1]),
        }
        kept = quotas(complexity, sizes, total, **options)
        assert kept.sum() == total
        assert (kept >= 0).all()
        assert (kept <= sizes).all()


@pytest.mark.parametrize("seed", range(20))
def test_a_whole_quota_is_within_one_of_its_real_value(seed: int) -> None:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 500, 100)
    complexity = generator.random(100)
    total = int(0.4 * sizes.sum())
    weights = np.exp(complexity / 0.1)
    real = by_halving(weights / weights.sum() * total, np.minimum(1, sizes - 1), sizes, total)
    assert np.abs(quotas(complexity, sizes, total, temperature=0.1) - real).max() < 1


def test_equal_remainders_go_to_the_lowest_cluster() -> None:
    kept = quotas(np.full(6, 0.3), np.full(6, 50), 100, temperature=0.1)
    assert kept.tolist() == [17, 17, 17, 17, 16, 16]


def test_what_a_full_cluster_cannot_take_is_spread_in_equal_parts() -> None:
    complexity = np.log([1.0, 2.0, 5.0])
    kept = quotas(complexity, np.array([100, 100, 10]), 80, temperature=1)
    assert kept.tolist() == [30, 40, 10]


def test_every_cluster_keeps_one_unless_it_has_only_one() -> None:
    kept = quotas(np.array([0.9, 0.0, 0.0]), np.array([1000, 1, 2]), 100, temperature=0.01)
    assert kept.tolist() == [99, 0, 1]


def test_an_empty_cluster_keeps_nothing_and_takes_no_share() -> None:
    complexity = np.array([0.1, np.nan, 0.2])
    kept = quotas(complexity, np.array([50, 0, 50]), 40, temperature=0.1)
    assert kept[1] == 0
    without = quotas(complexity[[0, 2]], np.array([50, 50]), 40, temperature=0.1)
    assert kept[[0, 2]].tolist() == without.tolist()
    high = np.array([0.1, 1e6, 0.2])
    assert quotas(high, np.array([50, 0, 50]), 40, temperature=0.1).tolist() == kept.tolist()


def test_a_complexity_that_is_not_finite_counts_as_the_mean() -> None:
    sizes = np.array([100, 100, 100])
    for value in (np.nan, np.inf, -np.inf):
        found = quotas(np.array([0.1, value, 0.5]), sizes, 90, temperature=0.2)
        assert found.tolist() == quotas(np.array([0.1, 0.3, 0.5]), sizes, 90, temperature=0.2).tolist()
    assert quotas(np.full(3, np.nan), sizes, 90, temperature=0.2).tolist() == [30, 30, 30]


def test_any_temperature_is_computed() -> None:
    complexity, sizes = np.array([0.0, 3000.0, 1.0]), np.array([100, 100, 100])
    assert quotas(complexity, sizes, 60, temperature=1e-6).tolist() == [1, 58, 1]
    assert quotas(complexity, sizes, 60, temperature=1e12).tolist() == [20, 20, 20]


def test_balance_gives_each_cluster_a_part_of_an_equal_share() -> None:
    sizes = np.array([100, 100, 5, 1])
    kept = quotas(np.array([9.0, 0.0, 0.0, 0.0]), sizes, 80, temperature=0.1, balance=0.5)
    assert kept.tolist() == [66, 10, 4, 0]


def test_lower_bounds_that_do_not_fit_are_lowered() -> None:
    sizes = np.full(5, 10)
    assert quotas(np.zeros(5), sizes, 3, temperature=0.1).tolist() == [1, 1, 1, 0, 0]
    assert quotas(np.array([0, 0, 0, 0, 9.0]), sizes, 3, temperature=0.1).tolist() == [0, 0, 0, 0, 3]


@pytest.mark.parametrize("seed", range(100))
def test_lower_bounds_are_cut_at_the_highest_level_that_fits(seed: int) -> None:
    generator = np.random.default_rng(seed)
    lower = generator.integers(0, 12, int(generator.integers(1, 10)))
    total = int(generator.integers(0, lower.sum() + 2))
    level = max(level for level in range(13) if np.minimum(lower, level).sum() <= total)
    assert module._fitting(lower, total).tolist() == np.minimum(lower, level).tolist()


def test_keeping_nothing_everything_or_none_of_nothing() -> None:
    complexity, sizes = np.array([0.1, 0.2]), np.array([5, 7])
    assert quotas(complexity, sizes, 0, temperature=0.1).tolist() == [0, 0]
    assert quotas(complexity, sizes, 12, temperature=0.1).tolist() == [5, 7]
    assert quotas(complexity, np.zeros(2, np.int64), 0, temperature=0.1).tolist() == [0, 0]
    assert quotas(np.zeros(0), np.zeros(0, np.int64), 0, temperature=0.1).tolist() == []


def test_totals_and_options_that_cannot_be_are_refused() -> None:
    complexity, sizes = np.array([0.1, 0.2]), np.array([5, 7])
    with pytest.raises(ValueError, match="13 samples can't be kept: the clusters hold 12"):
        quotas(complexity, sizes, 13, temperature=0.1)
    with pytest.raises(ValueError, match="-1 samples can't be kept"):
        quotas(complexity, sizes, -1, temperature=0.1)
    for temperature, balance in ((0, 0), (-1, 0), (np.nan, 0), (0.1, -0.1), (0.1, 1.1)):
        with pytest.raises(ValueError, match="temperature must be above 0 and balance in"):
            quotas(complexity, sizes, 5, temperature=temperature, balance=balance)


def test_quotas_of_billions_of_samples_sum_exactly() -> None:
    generator = np.random.default_rng(0)
    sizes = (generator.pareto(1.1, 100_000) * 10_000).astype(np.int64)
    kept = quotas(generator.random(100_000), sizes, int(0.3 * sizes.sum()), temperature=0.1)
    assert kept.sum() == int(0.3 * sizes.sum())
    assert (kept <= sizes).all()


def test_a_sum_that_is_missed_is_a_fault_of_ours() -> None:
    with pytest.raises(InvariantBroken, match="quotas sum to 4 instead of 5"):
        module._whole(np.array([2.0, 2.0]), np.array([2, 2]), 5)


def test_distances_inside_a_cluster_are_means_of_whole_numbers() -> None:
    generator = np.random.default_rng(1)
    cosine = generator.uniform(-1, 1, 5000).astype(np.float32)
    cluster = generator.integers(0, 7, 5000).astype(np.int32)
    cosine[0] = 1.0000002
    sums = distance_sums(cosine, cluster, 8)
    assert sums.dtype == np.int64
    order = generator.permutation(5000)
    parts = [distance_sums(cosine[some], cluster[some], 8) for some in np.array_split(order, 9)]
    assert np.array_equal(np.sum(parts, axis=0), sums)
    sizes = np.bincount(cluster, minlength=8)
    found = intra_distances(sums, sizes)
    expected = [np.maximum(1 - cosine[cluster == at].astype(np.float64), 0).mean() for at in range(7)]
    assert found[:7] == pytest.approx(expected, abs=1e-9)
    assert np.isnan(found[7])


@pytest.mark.parametrize("cells", [1, 1000, 2**24])
def test_distances_between_clusters_leave_a_centroid_itself_out(
    monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    monkeypatch.setattr(module, "_CELLS_AT_ONCE", cells)
    centroids = unit(np.random.default_rng(2).standard_normal((90, 12)))
    centroids[40] = centroids[3]
    cosine = centroids.astype(np.float64) @ centroids.T.astype(np.float64)
    np.fill_diagonal(cosine, -np.inf)
    for neighbours in (1, 20, 89, 200):
        nearest = np.sort(cosine, axis=1)[:, ::-1][:, : min(neighbours, 89)]
        found = inter_distances(centroids, neighbours)
        assert found == pytest.approx((1 - nearest).mean(axis=1), abs=1e-6)
    assert inter_distances(centroids, 1)[[3, 40]] == pytest.approx(0, abs=1e-6)


def test_one_centroid_or_none_has_no_neighbours() -> None:
    assert inter_distances(np.ones((1, 4), np.float32)).tolist() == [0]
    assert inter_distances(np.ones((0, 4), np.float32)).tolist() == []
    assert quotas(complexities(np.array([0.3]), np.zeros(1)), np.array([9]), 4, temperature=0.1).tolist() == [
        4
    ]


def test_centroids_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite centroids and at least 1 neighbour"):
        inter_distances(np.full((3, 4), np.nan, np.float32))
    with pytest.raises(ValueError, match="at least 1 neighbour, not 0"):
        inter_distances(np.ones((3, 4), np.float32), 0)


def test_complexity_is_never_negative_and_null_stays_null() -> None:
    found = complexities(np.array([-1e-9, 0.5, np.nan]), np.array([0.3, -1e-9, 0.1]))
    assert found[:2].tolist() == [0, 0]
    assert np.isnan(found[2])


@pytest.mark.parametrize("keep", [0.2, 0.6])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_original_keeps_the_same_rows(shared: Path, keep: float, temperature: float) -> None:
    """Outputs of the original on generated points; its own quotas miss the total by up to four."""
    fixture = np.load(shared / "parity" / "density_pruning.npz")
    cluster, centroids = fixture["cluster"], fixture["centroids"]
    cosine = np.einsum("nd,nd->n", fixture["embeddings"], centroids[cluster])
    sizes = np.bincount(cluster, minlength=len(centroids))
    intra = intra_distances(distance_sums(cosine, cluster, len(centroids)), sizes)
    inter = inter_distances(centroids, 20)
    assert np.abs(intra - fixture["d_intra"]).max() < 1e-6
    assert np.abs(inter - fixture["d_inter"]).max() < 1e-6
    total = int(keep * len(cluster))
    found = quotas(complexities(intra, inter), sizes, total, temperature=temperature)
    original = fixture[f"quota_keep{keep}_tau{temperature}"]
    assert found.sum() == total
    assert np.abs(found - original).max() <= 1
    kept = fixture[f"kept_keep{keep}_tau{temperature}"]
    for number in np.flatnonzero(found == original):
        members = np.flatnonzero(cluster == number)
        farthest = members[np.lexsort((members, cosine[members]))][: found[number]]
        assert set(farthest) == set(kept[cluster[kept] == number])
