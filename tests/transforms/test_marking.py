from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms import marking
from transforms.clustering import Floats, assign, unit_rows
from transforms.marking import Nearest, combine, nearest_earlier, nearest_in, nothing, tile_of

TORCH = "cpu:0"  # goes through torch, as a GPU does, but on the processor


def random_unit(count: int, width: int, seed: int = 0) -> Floats:
    values = np.random.default_rng(seed).standard_normal((count, width))
    return unit_rows(values.astype(np.float32))[0]


def sign_rows(count: int, seed: int) -> Floats:
    """Unit rows of sixteen numbers +-1/4: their products are exact, and many are equal."""
    signs = np.random.default_rng(seed).choice([-0.25, 0.25], (count, 16))
    return signs.astype(np.float32)


def similar_rows(count: int, width: int, seed: int = 0) -> Floats:
    """Rows near others at all distances, exact copies among them."""
    generator = np.random.default_rng(seed)
    rows = random_unit(max(count // 4, 1), width, seed)[generator.integers(0, max(count // 4, 1), count)]
    noise = generator.choice([0, 0.01, 0.1, 1], (count, 1)) * generator.standard_normal((count, width))
    return unit_rows((rows + noise / np.sqrt(width)).astype(np.float32))[0]


def by_definition(products: NDArray[np.floating]) -> Nearest:
    """The nearest of the columns that count, of exact products; columns that do not count hold 0."""
    best = np.maximum(products.max(axis=1, initial=0), 0)
    first = products.argmax(axis=1) if products.shape[1] else np.zeros(len(products), np.int64)
    return Nearest(best.astype(np.float32), np.where(best > 0, first, -1))


def assert_same(one: Nearest, other: Nearest) -> None:
    assert one.cosine.dtype == other.cosine.dtype == np.float32
    assert one.original.dtype == other.original.dtype == np.int64
    assert np.array_equal(one.cosine, other.cosine)
    assert np.array_equal(one.original, other.original)


def test_a_chain_collapses_because_removed_rows_still_remove() -> None:
    angles = np.deg2rad([0, 10, 20, 30, 90])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = nearest_earlier(rows, device="cpu")
    assert found.cosine == pytest.approx([0, 0.98481, 0.98481, 0.98481, 0.5], abs=1e-5)
    assert found.original.tolist() == [-1, 0, 1, 2, 3]
    assert np.flatnonzero(found.cosine <= 1 - 0.02).tolist() == [0, 4]


@pytest.mark.parametrize("device", ["cpu", TORCH])
@pytest.mark.parametrize("tile", [None, 64, 128])
@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 128, 500])
def test_the_earliest_of_the_nearest_earlier_rows_is_found(count: int, tile: int | None, device: str) -> None:
    rows = sign_rows(count, seed=count)
    found = nearest_earlier(rows, tile=tile, device=device)
    assert_same(found, by_definition(np.tril(rows @ rows.T, k=-1)))


@pytest.mark.parametrize("device", ["cpu", TORCH])
@pytest.mark.parametrize("tile", [None, 64, 192])
@pytest.mark.parametrize(("queries", "earlier"), [(1, 1), (64, 65), (5, 400), (400, 5), (3, 0), (0, 3)])
def test_the_first_of_the_nearest_rows_of_another_array_is_found(
    queries: int, earlier: int, tile: int | None, device: str
) -> None:
    asked, known = sign_rows(queries, seed=1), sign_rows(earlier, seed=2)
    found = nearest_in(asked, known, tile=tile, device=device)
    expected = by_definition(asked @ known.T)
    assert_same(found, expected)
    placed = nearest_in(asked, known, first=1000, tile=tile, device=device)
    assert np.array_equal(placed.original, np.where(expected.cosine > 0, expected.original + 1000, -1))


@pytest.mark.parametrize("width", [16, 64, 512, 768])
def test_any_pieces_of_a_cluster_combine_to_the_bits_of_the_whole(width: int) -> None:
    rows, tile = similar_rows(1400, width), 128
    whole = nearest_earlier(rows, tile=tile, device="cpu")
    generator = np.random.default_rng(width)
    for _ in range(3):
        cuts = sorted(generator.choice(np.arange(tile, 1400, tile), generator.integers(1, 6), replace=False))
        pieces = list(itertools.pairwise([0, *cuts, 1400]))
        found = []
        for start, stop in pieces:
            parts = [nearest_earlier(rows[start:stop], tile=tile, device="cpu")]
            parts[0].original[parts[0].original >= 0] += start
            parts += [
                nearest_in(rows[start:stop], rows[first:last].copy(), first=first, tile=tile, device="cpu")
                for first, last in pieces
                if last <= start
            ]
            found.append(combine(*[parts[at] for at in generator.permutation(len(parts))]))
        assert_same(Nearest(*map(np.concatenate, zip(*found, strict=True))), whole)


@pytest.mark.parametrize("width", [64, 512])
def test_a_query_is_answered_alike_whichever_queries_stand_beside_it(width: int) -> None:
    asked, known = similar_rows(700, width, seed=1), similar_rows(900, width, seed=1)
    whole = nearest_in(asked, known, tile=256, device="cpu")
    for step in (1, 100, 333):
        for start in range(0, 700 if step > 1 else 10, step):
            some = slice(start, start + step)
            alone = nearest_in(asked[some], known, tile=256, device="cpu")
            assert_same(alone, Nearest(whole.cosine[some], whole.original[some]))


def test_combining_does_not_depend_on_order_and_prefers_the_earliest_row() -> None:
    parts = [
        Nearest(np.array(cosine, np.float32), np.array(original))
        for cosine, original in (
            ([0.5, 0.5, 0.0, 1.0], [7, 2, -1, 4]),
            ([0.5, 0.9, 0.0, 1.0], [3, 9, -1, 8]),
            ([0.4, 0.9, 0.2, 1.0], [1, 5, 6, 0]),
        )
    ]
    for order in itertools.permutations(parts):
        first, second, third = order
        for found in (combine(*order), combine(first, combine(second, third)), combine(*order, nothing(4))):
            assert found.cosine.tolist() == np.array([0.5, 0.9, 0.2, 1.0], np.float32).tolist()
            assert found.original.tolist() == [3, 5, 6, 0]
    assert parts[0].original.tolist() == [7, 2, -1, 4]


@pytest.mark.parametrize("width", [3, 16, 64, 512, 768, 1024])
def test_identical_rows_have_cosine_one_exactly(width: int) -> None:
    generator = np.random.default_rng(width)
    some = np.concatenate(
        [generator.standard_normal((60, width)), generator.random((60, width)) + 0.01, np.eye(width)[:3]]
    )
    halves = unit_rows(some.astype(np.float32))[0].astype(np.float16)
    found = nearest_in(halves, halves, device="cpu")
    assert (found.cosine == 1.0).all()
    twice = nearest_earlier(np.concatenate([halves, halves]), device="cpu")
    removed = twice.cosine.astype(np.float64) > min(1 - 0.0, np.nextafter(1, 0))
    assert removed[len(some) :].all()
    if width > 3:  # three numbers at random can be as near to others
        assert not removed[: len(some)].any()
        assert twice.original[len(some) :].tolist() == list(range(len(some)))


def test_cosines_within_two_millionths_of_one_count_as_one() -> None:
    angles = np.arccos([1.0, 1 - 1.5e-6, 1 - 3e-6, 0.99])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = nearest_in(rows[1:], rows[:1], device="cpu").cosine
    assert found[0] == 1.0
    assert found[1:].tolist() == (rows[2:] @ rows[0]).tolist()
    assert found[1] < 1.0


@pytest.mark.parametrize("tile", [64, 128])
def test_among_many_copies_each_names_the_first(tile: int) -> None:
    rows = np.concatenate([random_unit(70, 512), np.repeat(random_unit(1, 512, seed=1), 300, axis=0)])
    found = nearest_earlier(rows.astype(np.float16), tile=tile, device="cpu")
    assert (found.cosine[71:] == 1.0).all()
    assert (found.original[71:] == 70).all()
    assert found.cosine[70] < 0.5


def test_rows_that_point_away_have_no_nearest() -> None:
    rows = np.array([[1, 0], [-1, 0], [0, 1]], np.float32)
    found = nearest_earlier(rows, device="cpu")
    assert found.cosine.tolist() == [0, 0, 0]
    assert found.original.tolist() == [-1, -1, -1]


def test_no_rows_have_no_result() -> None:
    assert_same(nearest_earlier(np.zeros((0, 8), np.float16), device="cpu"), nothing(0))


def test_float16_rows_are_normalised_as_unit_rows_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = similar_rows(600, 96).astype(np.float16) * np.float16(3)
    np.save(tmp_path / "rows.npy", halves)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    expected = nearest_earlier(unit_rows(halves)[0], tile=128, device="cpu")
    assert_same(nearest_earlier(mapped, tile=128, device="cpu"), expected)
    monkeypatch.setattr(marking, "_KEPT_BYTES", 0)
    assert_same(nearest_earlier(mapped, tile=128, device="cpu"), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_rows_without_a_direction_are_the_caller_s_to_leave_out(dtype: type, value: float) -> None:
    rows = random_unit(300, 8).astype(dtype)
    rows[200] = value
    with pytest.raises(ValueError, match="row 200 is zero, not finite or not a unit row"):
        nearest_earlier(rows, tile=64, device="cpu")
    with pytest.raises(ValueError, match="row 200 is zero"):
        nearest_in(rows[:10], rows, device="cpu")


def test_float32_rows_must_be_unit_rows_and_tiles_multiples_of_64() -> None:
    rows = random_unit(10, 8)
    with pytest.raises(ValueError, match="row 0 is zero, not finite or not a unit row"):
        nearest_earlier(rows * np.float32(2), device="cpu")
    with pytest.raises(ValueError, match="a multiple of 64 rows, but got 100"):
        nearest_earlier(rows, tile=100, device="cpu")
    counts = (0, 1, 64, 65, 1024, 5000, 10**6)
    assert [tile_of(count) for count in counts] == [64, 64, 64, 128, 1024, 1024, 2048]
    assert [tile_of(count, "cuda:0") for count in (1, 10**6)] == [64, 8192]


def test_the_original_marks_the_same_rows(shared: Path) -> None:
    """Outputs of the original on generated points: no difference at any eps."""
    fixture = np.load(shared / "parity" / "semdedup.npz")
    rows, cluster = fixture["embeddings"], fixture["cluster"]
    found = np.zeros(len(rows), np.float32)
    for number, centroid in enumerate(fixture["centroids"]):
        members = np.flatnonzero(cluster == number)
        _, cosine = assign(rows[members], centroid[None], spherical=True, device="cpu")
        order = members[np.lexsort((members, cosine))]
        found[order] = nearest_earlier(rows[order], tile=64, device="cpu").cosine
    for column, eps in enumerate(fixture["eps"]):
        assert np.array_equal(found.astype(np.float64) > 1 - eps, fixture["removed"][:, column])
