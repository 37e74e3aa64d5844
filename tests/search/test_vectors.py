"""Exact search: who is in the answer, and in which order, is what float64 says."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from curate.encoder_of import find_embedding
from curate.search.vectors import ROUGH_ERROR, Vectors
from filters.core.errors import StoreError
from tests.search.conftest import PER_PART, all_embeddings, opened


@pytest.fixture(scope="module")
def vectors(embedded: Path) -> Vectors:
    decision = opened(embedded)
    return Vectors(decision, find_embedding(decision))


def by_hand(rows: np.ndarray, query: np.ndarray, k: int, among: np.ndarray | None = None) -> list[int]:
    """The k best rows by float64 cosines, equal ones by row number."""
    cosines = (rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    allowed = np.arange(len(rows)) if among is None else among
    allowed = allowed[~np.isnan(cosines[allowed])]
    return [int(at) for at in allowed[np.lexsort((allowed, -cosines[allowed]))][:k]]


@pytest.mark.parametrize("k", [1, 10, 699, 5000])
def test_the_answer_is_that_of_float64(vectors: Vectors, k: int) -> None:
    rows = all_embeddings(vectors.decision)
    for at in (0, 8, 1500):
        found, cosines = vectors.nearest(rows[at], k)
        assert found.tolist() == by_hand(rows, rows[at], k)
        assert np.all(np.diff(cosines) <= 0)


@pytest.mark.parametrize("count", [0, 1, 40, 400, 2000])
def test_among_some_rows_the_answer_is_the_same_whether_they_are_few_or_many(
    vectors: Vectors, count: int
) -> None:
    rows = all_embeddings(vectors.decision)
    among = np.sort(np.random.default_rng(count).permutation(len(rows))[:count])
    found, _ = vectors.nearest(rows[20], 30, among)
    assert found.tolist() == by_hand(rows, rows[20], 30, among)


def test_rough_cosines_are_within_their_error(vectors: Vectors) -> None:
    rows = all_embeddings(vectors.decision)
    rough = vectors.rough(rows[1])
    exact = vectors.exact(rows[1], np.arange(len(rows)))
    known = ~np.isnan(exact)
    assert np.array_equal(np.isfinite(rough), known)
    assert np.abs(rough[known] - exact[known]).max() < ROUGH_ERROR


def test_rough_cosines_of_wide_rows_are_within_their_error() -> None:
    """What torch says of 2048 numbers, the most that a CLIP model has."""
    generator = np.random.default_rng(0)
    wide = generator.standard_normal((2000, 2048))
    rows = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float16)
    query = rows[7]
    rough = torch.mv(torch.from_numpy(rows), torch.from_numpy(query)).float().numpy()
    exact = rows.astype(np.float64) @ query.astype(np.float64)
    assert np.abs(rough - exact).max() < ROUGH_ERROR


def test_equal_embeddings_are_in_the_order_of_their_uids(vectors: Vectors) -> None:
    rows = all_embeddings(vectors.decision)
    assert np.array_equal(rows[3], rows[7])
    names = {3: "f" * 32, 7: "0" * 32}

    def uids(numbers: np.ndarray) -> list[str]:
        return [names.get(int(number), "5" * 32) for number in numbers]

    found, cosines = vectors.nearest(rows[3], 2, uids=uids)
    assert found.tolist() == [7, 3]
    assert cosines[0] == cosines[1]
    first, _ = vectors.nearest(rows[3], 1, uids=uids)
    assert first.tolist() == [7]


def test_rows_are_taken_across_parts_and_without_an_embedding_they_are_nan(vectors: Vectors) -> None:
    rows = all_embeddings(vectors.decision)
    numbers = np.array([0, 5, PER_PART - 1, PER_PART, 2 * PER_PART + 9])
    taken = vectors.take(numbers)
    assert np.array_equal(taken, rows[numbers], equal_nan=True)
    assert np.isnan(taken[1]).all()
    assert np.flatnonzero(~vectors.usable()).tolist() == [5, PER_PART + 5, 2 * PER_PART + 5]


def test_nothing_is_copied_from_a_local_store(vectors: Vectors) -> None:
    assert all(isinstance(array, np.memmap) for array in vectors._arrays)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "can't read the embeddings"),
        (lambda path: path.write_bytes(b"nonsense"), "can't read the embeddings"),
        (lambda path: np.save(path, np.zeros((3, 32), np.float16)), "not 700 rows of float16"),
        (lambda path: np.save(path, np.zeros((700, 32), np.float32)), "not 700 rows of float16"),
        (lambda path: np.save(path, np.zeros((700, 16), np.float16)), "of 16 and of 32 numbers"),
    ],
)
def test_embeddings_that_cannot_be_read_are_told(
    embedded: Path, tmp_path: Path, spoil: object, message: str
) -> None:
    store = tmp_path / "store"
    shutil.copytree(embedded, store)
    spoil(next(store.glob("embeddings/clip-*/img/*.npy")))  # type: ignore[operator]
    decision = opened(store)
    with pytest.raises(StoreError, match=message):
        Vectors(decision, find_embedding(decision))
