from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms import clustering
from transforms.clustering import Floats, assign, nearest_clusters, train_centroids, unit_rows

TORCH = "cpu:0"  # goes through torch, as a GPU does, but on the processor


def random_unit(count: int, width: int, seed: int = 0) -> Floats:
    values = np.random.default_rng(seed).standard_normal((count, width))
    return unit_rows(values.astype(np.float32))[0]


def whole_numbers(count: int, width: int, seed: int) -> Floats:
    """Rows whose products are whole numbers, so that any order of summing is exact; many ties."""
    return np.random.default_rng(seed).integers(-2, 3, (count, width)).astype(np.float32)


def best_by_sorting(vectors: Floats, centroids: Floats, probe: int) -> NDArray[np.int64]:
    products = vectors.astype(np.float64) @ centroids.astype(np.float64).T
    return np.argsort(-products, axis=1, kind="stable")[:, :probe]


def planted(count: int, spread: float) -> tuple[Floats, Floats]:
    """Unit rows around ten directions, and the directions."""
    generator = np.random.default_rng(7)
    directions = random_unit(10, 32, seed=8)
    around = directions[generator.integers(0, 10, count)]
    rows = around + spread * generator.standard_normal((count, 32))
    return unit_rows(rows.astype(np.float32))[0], directions


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_usable_rows_have_length_one(dtype: type) -> None:
    rows = np.random.default_rng(1).standard_normal((5000, 40)).astype(dtype)
    before = rows.copy()
    vectors, usable = unit_rows(rows)
    assert vectors.dtype == np.float32
    assert usable.all()
    assert np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1).max() < 1e-6
    assert np.array_equal(rows, before)


def test_rows_without_a_direction_are_zeros_and_not_usable() -> None:
    rows = np.ones((7, 4), np.float32)
    rows[1] = 0
    rows[2, 3] = np.nan
    rows[3, 0] = -np.inf
    rows[4] = 1e-14
    rows[5] = 3e38
    vectors, usable = unit_rows(rows)
    assert usable.tolist() == [True, False, False, False, False, True, True]
    assert (vectors[~usable] == 0).all()
    assert (vectors[usable] == 0.5).all()


def test_no_rows_have_no_vectors() -> None:
    vectors, usable = unit_rows(np.zeros((0, 8), np.float16))
    assert vectors.shape == (0, 8)
    assert usable.shape == (0,)


def test_unit_rows_do_not_depend_on_the_rows_beside_them(tmp_path: Path) -> None:
    rows = np.random.default_rng(2).standard_normal((9000, 77)).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    whole = unit_rows(mapped)[0]
    pieces = [unit_rows(mapped[start : start + 1234])[0] for start in range(0, 9000, 1234)]
    assert np.array_equal(whole, np.concatenate(pieces))


def test_there_are_no_more_centroids_than_rows() -> None:
    rows = random_unit(3, 8)
    assert train_centroids(rows, 10, seed=0, iterations=5, spherical=True, device="cpu").shape == (3, 8)
    nothing = train_centroids(rows[:0], 10, seed=0, iterations=5, spherical=True, device="cpu")
    assert nothing.shape == (0, 8)
    assert nothing.dtype == np.float32


@pytest.mark.parametrize("spherical", [True, False])
def test_identical_rows_leave_clusters_empty_and_break_nothing(spherical: bool) -> None:  # noqa: FBT001
    rows = np.repeat(random_unit(1, 16), 200, axis=0)
    centroids = train_centroids(rows, 3, seed=1234, iterations=20, spherical=spherical, device="cpu")
    cluster, product = assign(rows, centroids, spherical=spherical, device="cpu")
    assert centroids.shape == (3, 16)
    assert len(set(cluster.tolist())) == 1
    assert product.min() > 0.999


@pytest.mark.parametrize("spherical", [True, False])
def test_training_again_gives_the_same_bits(spherical: bool) -> None:  # noqa: FBT001
    rows, _ = planted(3000, 0.2)
    first, again, other = (
        train_centroids(rows, 20, seed=seed, iterations=10, spherical=spherical, device="cpu")
        for seed in (5, 5, 6)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_spherical_centroids_are_unit_rows_and_find_planted_clusters() -> None:
    rows, directions = planted(4000, 0.05)
    found = [
        train_centroids(rows, 10, seed=seed, iterations=30, spherical=True, device="cpu")
        for seed in range(10)
    ]
    for centroids in found:
        assert np.abs(np.linalg.norm(centroids, axis=1) - 1).max() < 1e-6
    planted_cosine = assign(rows, directions, spherical=True, device="cpu")[1].mean()
    best = max(assign(rows, each, spherical=True, device="cpu")[1].mean() for each in found)
    assert best > planted_cosine * 0.99


def test_every_row_takes_part_in_training() -> None:
    """By itself, faiss would train 2 clusters with 512 of these 4000 rows."""
    generator = np.random.default_rng(3)
    rows = generator.standard_normal((4000, 4)).astype(np.float32)
    rows[:2000] += 20
    centroids = train_centroids(rows, 2, seed=0, iterations=10, spherical=False, device="cpu")
    means = np.stack([rows[:2000].mean(axis=0), rows[2000:].mean(axis=0)])
    assert np.abs(np.sort(centroids, axis=0) - np.sort(means, axis=0)).max() < 1e-3


def test_training_refuses_what_faiss_would_break_on() -> None:
    rows = random_unit(10, 8)
    with pytest.raises(ValueError, match="at least 1 cluster and 1 iteration, but got 0 and 5"):
        train_centroids(rows, 0, seed=0, iterations=5, spherical=True, device="cpu")
    rows[4, 2] = np.nan
    with pytest.raises(ValueError, match="row 4 of the vectors is not finite"):
        train_centroids(rows, 2, seed=0, iterations=5, spherical=True, device="cpu")


@pytest.mark.parametrize("device", ["cpu", TORCH])
@pytest.mark.parametrize("block", [64, 128, 8192])
@pytest.mark.parametrize("clusters", [1, 5, 64, 65, 200])
def test_the_nearest_clusters_come_best_first_and_ties_by_lowest_id(
    monkeypatch: pytest.MonkeyPatch, clusters: int, block: int, device: str
) -> None:
    monkeypatch.setattr(clustering, "BLOCK_CENTROIDS", block)
    vectors, centroids = whole_numbers(1100, 6, seed=1), whole_numbers(clusters, 6, seed=2)
    for probe in (1, 3, 70):
        ids, products = nearest_clusters(vectors, centroids, probe, device=device)
        assert ids.dtype == np.int32
        assert np.array_equal(ids, best_by_sorting(vectors, centroids, probe))
        assert np.array_equal(products, np.take_along_axis(vectors @ centroids.T, ids.astype(np.int64), 1))
    cluster, product = assign(vectors, centroids, spherical=False, device=device)
    assert np.array_equal(cluster, best_by_sorting(vectors, centroids, 1)[:, 0])
    assert np.array_equal(product, (vectors * centroids[cluster]).sum(axis=1))


@pytest.mark.parametrize("width", [10, 64, 512, 768])
def test_a_row_is_assigned_alike_whichever_rows_stand_beside_it(width: int) -> None:
    vectors, centroids = random_unit(2500, width, seed=1), random_unit(300, width, seed=2)
    cluster, cosine = assign(vectors, centroids, spherical=True, device="cpu")
    order = np.random.default_rng(3).permutation(2500)
    for step in (1, 7, 1024, 1500):
        shown = order[: 20 * step]
        for start in range(0, len(shown), step):
            some = shown[start : start + step]
            alone = assign(vectors[some], centroids, spherical=True, device="cpu")
            assert np.array_equal(alone[0], cluster[some])
            assert np.array_equal(alone[1], cosine[some])


def test_equal_centroids_tie_across_blocks_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "BLOCK_CENTROIDS", 128)
    centroids = random_unit(300, 512)
    centroids[[77, 130, 299]] = centroids[5]
    vectors = unit_rows(centroids[5] + 0.01 * random_unit(3000, 512, seed=1))[0]
    ids, cosine = nearest_clusters(vectors, centroids, 4, device="cpu")
    assert (ids == [5, 77, 130, 299]).all()
    assert (cosine == cosine[:, :1]).all()


def test_a_longer_centroid_attracts_more() -> None:
    """DataComp's image_based assigns by the raw centroid: neither its direction nor L2 decides."""
    row = unit_rows(np.array([[1.0, 0.2]], np.float32))[0]
    centroids = np.array([[0.5, 0.0], [0.8, 0.4]], np.float32)
    assert assign(row, centroids, spherical=False, device="cpu")[0].tolist() == [1]
    assert assign(row, unit_rows(centroids)[0], spherical=True, device="cpu")[0].tolist() == [0]


def test_a_cosine_is_never_above_one() -> None:
    rows = random_unit(2000, 512)
    cosine = assign(rows, rows[:1500], spherical=True, device="cpu")[1][:1500]
    assert cosine.dtype == np.float32
    assert cosine.max() == 1.0
    assert cosine.min() > 1 - 2e-6


def test_zero_rows_go_to_the_first_cluster_and_no_rows_to_none() -> None:
    cluster, cosine = assign(np.zeros((2, 8), np.float32), random_unit(5, 8), spherical=True, device="cpu")
    assert cluster.tolist() == [0, 0]
    assert cosine.tolist() == [0, 0]
    assert len(assign(np.zeros((0, 8), np.float32), random_unit(5, 8), spherical=True, device="cpu")[0]) == 0


def test_assigning_refuses_what_has_no_answer() -> None:
    rows = random_unit(10, 8)
    with pytest.raises(ValueError, match="a centroid and a probe of at least 1, but got 0 and 1"):
        assign(rows, rows[:0], spherical=True, device="cpu")
    with pytest.raises(ValueError, match="but got 10 and 0"):
        nearest_clusters(rows, rows, 0, device="cpu")
    broken = rows.copy()
    broken[3] = np.inf
    with pytest.raises(ValueError, match="row 3 of the vectors is not finite"):
        assign(broken, rows, spherical=True, device="cpu")
    with pytest.raises(ValueError, match="row 3 of the centroids is not finite"):
        assign(rows, broken, spherical=True, device="cpu")


def test_the_original_s_assignment_of_generated_points_is_reproduced(shared: Path) -> None:
    fixture = np.load(shared / "parity" / "semdedup.npz")
    cluster, _ = assign(fixture["embeddings"], fixture["centroids"], spherical=True, device="cpu")
    assert np.array_equal(cluster, fixture["cluster"])
