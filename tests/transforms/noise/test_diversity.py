from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.clustering import unit_rows
from transforms.noise.diversity import Gram, gram, rank_me, vendi


def random_rows(count: int, width: int = 32, seed: int = 0) -> NDArray[np.float32]:
    """Rows with a few strong directions and many weak ones."""
    values = np.random.default_rng(seed).standard_normal((count, width)) / np.arange(1, width + 1)
    return values.astype(np.float32)


def by_singular_values(rows: NDArray[np.floating]) -> float:
    sigma = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    shares = sigma / sigma.sum() + 1e-7
    return float(np.exp(-np.sum(shares * np.log(shares))))


def by_kernel(rows: NDArray[np.floating], order: float = 1.0) -> float:
    """Of the n x n cosine kernel."""
    unit = unit_rows(rows.astype(np.float32))[0].astype(np.float64)
    values = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    shares = values[values > 1e-12]
    if order == 1:
        return float(np.exp(-np.sum(shares * np.log(shares))))
    return float(np.sum(shares**order) ** (1 / (1 - order)))


def test_orthonormal_rows_count_each() -> None:
    found = gram(np.eye(8, dtype=np.float32))
    assert rank_me(found) == pytest.approx(8.0000069, abs=5e-8)
    assert vendi(found) == pytest.approx(8, abs=1e-12)


def test_identical_rows_count_as_one() -> None:
    found = gram(np.tile(random_rows(1, 8), (4, 1)))
    assert rank_me(found) == pytest.approx(1.0000047, abs=5e-8)
    assert vendi(found) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("count", [5, 32, 500, 9000])
def test_the_stream_gives_what_singular_values_and_the_kernel_give(count: int) -> None:
    rows = random_rows(count)
    assert rank_me(gram(rows, normalise=False)) == pytest.approx(by_singular_values(rows), rel=1e-6)
    assert rank_me(gram(rows)) == pytest.approx(by_singular_values(unit_rows(rows)[0]), rel=1e-6)
    if count <= 500:
        for order in (1.0, 0.5, 2.0):
            assert vendi(gram(rows), order) == pytest.approx(by_kernel(rows, order), rel=1e-5)
        assert vendi(gram(rows), np.inf) == pytest.approx(vendi(gram(rows), 500.0), rel=0.01)


def test_pieces_add_up_to_the_whole() -> None:
    rows = random_rows(3000)
    pieces = [gram(rows[start : start + 700]) for start in range(0, 3000, 700)]
    added = sum(pieces[1:], start=pieces[0])
    assert added.rows == 3000
    assert rank_me(added) == pytest.approx(rank_me(gram(rows)), rel=1e-9)
    assert vendi(added) == pytest.approx(vendi(gram(rows)), rel=1e-9)


def test_copying_the_data_set_changes_nothing() -> None:
    once, twice = gram(random_rows(400)), gram(np.tile(random_rows(400), (2, 1)))
    assert rank_me(twice) == pytest.approx(rank_me(once), rel=1e-9)
    assert vendi(twice) == pytest.approx(vendi(once), rel=1e-9)


@pytest.mark.parametrize("normalise", [True, False])
def test_rows_without_a_direction_change_nothing(*, normalise: bool) -> None:
    rows = random_rows(400)
    broken = np.insert(rows, [3, 9, 20], 0, axis=0)
    broken[10, 0], broken[22, 5] = np.nan, np.inf
    expected = gram(np.delete(broken, [3, 10, 22], axis=0), normalise=normalise)
    found = gram(broken, normalise=normalise)
    assert found.rows == 400
    assert rank_me(found) == pytest.approx(rank_me(expected), rel=1e-12)


def test_one_row_counts_as_one_and_none_as_nothing() -> None:
    one, none = gram(random_rows(1)), gram(np.zeros((0, 32), np.float16))
    assert (rank_me(one), vendi(one)) == (pytest.approx(1, abs=1e-5), pytest.approx(1))
    assert np.isnan([rank_me(none), vendi(none), vendi(gram(np.zeros((3, 4), np.float32)))]).all()


def test_what_cannot_be_compared_is_an_error() -> None:
    with pytest.raises(ValueError, match="8 and 4 wide"):
        gram(random_rows(2, 8)) + gram(random_rows(2, 4))
    with pytest.raises(ValueError, match="is positive, but got 0"):
        vendi(Gram(np.eye(2), 2), 0)
