from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.clustering import Floats, unit_rows
from transforms.noise import nearest
from transforms.noise.nearest import NearestRows


def random_unit(count: int, width: int = 32, seed: int = 0) -> Floats:
    values = np.random.default_rng(seed).standard_normal((count, width))
    return unit_rows(values.astype(np.float32))[0]


def sign_rows(count: int, seed: int) -> Floats:
    """Unit rows of sixteen numbers +-1/4: their products are exact, and many are equal."""
    return np.random.default_rng(seed).choice([-0.25, 0.25], (count, 16)).astype(np.float32)


def concept_rows(count: int, seed: int, width: int = 64) -> Floats:
    directions = np.random.default_rng(9).standard_normal((200, width))
    generator = np.random.default_rng(seed)
    rows = directions[generator.integers(0, 200, count)] + 0.5 * generator.standard_normal((count, width))
    return unit_rows(rows.astype(np.float32))[0]


def by_sorting(
    asked: Floats, known: Floats, k: int, own: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """By cosine, then by where the vector comes first, then by place."""
    products = asked.astype(np.float64) @ known.astype(np.float64).T
    first = np.array([np.flatnonzero((known == row).all(axis=1))[0] for row in known])
    found = np.full((len(asked), k), -1, np.int64)
    for at, line in enumerate(products):
        order = np.lexsort((np.arange(len(known)), first, -line))
        order = order[order != (-1 if own is None else own[at])][:k]
        found[at, : len(order)] = order
    return found


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize(("asked", "known"), [(1, 1), (3, 700), (1100, 30), (5, 0), (0, 5)])
def test_equal_cosines_go_to_the_vector_that_comes_first(asked: int, known: int, k: int) -> None:
    rows, there = sign_rows(asked, 1), sign_rows(known, 2)
    found = NearestRows(there, device="cpu").search(rows, k)
    expected = by_sorting(rows, there, k)
    assert np.array_equal(found.place, expected)
    assert (found.cosine.dtype, found.place.dtype) == (np.float32, np.int64)
    products = (
        np.take_along_axis(rows @ there.T, np.maximum(expected, 0), 1) if known else np.zeros((asked, k))
    )
    assert np.array_equal(found.cosine, np.where(expected < 0, 0, products))


def test_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_KNOWN", 128)
    rows, there = sign_rows(50, 1), sign_rows(700, 2)
    assert np.array_equal(
        NearestRows(there, device="cpu").search(rows, 20).place, by_sorting(rows, there, 20)
    )


@pytest.mark.parametrize("copies", [1, 3, 50])
def test_a_row_is_left_out_by_its_place_and_not_by_its_rank(copies: int) -> None:
    there = np.repeat(sign_rows(20, 3), copies, axis=0)
    own = np.random.default_rng(1).permutation(len(there))
    own[::4] = -1
    asked = there[own]
    found = NearestRows(there, device="cpu").search(asked, 12, own)
    assert np.array_equal(found.place, by_sorting(asked, there, 12, own))
    assert not (found.place == np.where(own < 0, -2, own)[:, None]).any()


def test_answers_do_not_depend_on_the_rows_beside_them() -> None:
    asked, there = concept_rows(2100, 1), concept_rows(9000, 2)
    index = NearestRows(there, device="cpu")
    whole = index.search(asked, 7)
    for rows in (slice(0, 1), slice(1000, 1100), slice(2050, None)):
        some = index.search(asked[rows], 7)
        assert np.array_equal(some.place, whole.place[rows])
        assert np.array_equal(some.cosine, whole.cosine[rows])


def test_the_fast_index_finds_most_and_answers_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FAST_FROM": 1000, "LISTS": 32, "PROBED": 8}.items():
        monkeypatch.setattr(nearest, name, value)
    asked, there = concept_rows(1500, 1), concept_rows(6000, 2)
    exact = NearestRows(there, device="cpu").search(asked, 10)
    index = NearestRows(there, exact=False, device="cpu")
    whole = index.search(asked, 10)
    common = [np.isin(one, other).mean() for one, other in zip(exact.place, whole.place, strict=True)]
    assert np.mean(common) > 0.85
    assert (np.diff(whole.cosine, axis=1) <= 0).all()
    order = np.random.default_rng(3).permutation(1500)
    moved = index.search(asked[order], 10)
    assert np.array_equal(moved.place, whole.place[order])
    assert np.array_equal(index.search(asked[700:701], 10).cosine, whole.cosine[700:701])
    again = NearestRows(there, exact=False, device="cpu").search(asked, 10)
    assert np.array_equal(again.place, whole.place)


def test_rows_of_another_width_are_an_error() -> None:
    with pytest.raises(ValueError, match="rows are 16 wide, but the set is 32"):
        NearestRows(random_unit(5)).search(random_unit(5, 16), 3)
