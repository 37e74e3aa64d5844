from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from filters.core import selection
from filters.core.declaration import Artefact

SPECIAL = np.array(
    [0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, -1.1754944e-38, np.inf, -np.inf, 3.4e38, -3.4e38, 1.0, -1.0],
    np.float32,
)
Ties = NDArray[np.uint64]


def select(keys: NDArray[np.uint32], ties: Ties, wanted: int, parts: int = 1) -> Artefact:
    """The finished selection, counted over `parts` interleaved parts."""
    artefact = selection.begin(wanted)
    for _ in range(14):
        counts = sum(
            (
                selection.count_digit(artefact["prefix"], keys[start::parts], ties[start::parts])
                for start in range(parts)
            ),
            start=np.zeros(selection.BUCKETS, np.int64),
        )
        artefact = selection.fix_digit(artefact, counts)
        if artefact["complete"]:
            return artefact
    msg = "fourteen digits did not tell the rows apart"
    raise AssertionError(msg)


def random_rows(generator: np.random.Generator, count: int) -> tuple[NDArray[np.float32], Ties]:
    """Scores with many ties, every special value and any bits; uids with many ties."""
    scores = generator.integers(0, 2**32, count, dtype=np.uint32).view(np.float32)
    scores = np.where(np.isnan(scores), np.float32(1), scores)
    scores = np.where(generator.random(count) < 0.6, generator.choice(SPECIAL, count), scores)
    words = generator.integers(0, 2**64, (count, 2), dtype=np.uint64)
    shift = np.uint64(16 * int(generator.integers(0, 4)))
    few = generator.integers(0, 3, (count, 2)).astype(np.uint64) << shift
    words = np.where(generator.random((count, 1)) < 0.7, few, words)
    return scores, selection.tie_keys(words, np.arange(count) % 5, np.arange(count))


@pytest.mark.parametrize("seed", range(25))
def test_any_pool_is_selected_as_by_a_plain_sort(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 200))
    scores, ties = random_rows(generator, count)
    keys = selection.order_keys(scores)
    order = np.lexsort((ties[:, 2], ties[:, 1], ties[:, 0], -(scores + np.float32(0)).astype(np.float64)))
    for wanted in {1, count, int(generator.integers(1, count + 1)), int(generator.integers(1, count + 1))}:
        expected = np.zeros(count, bool)
        expected[order[:wanted]] = True
        artefact = select(keys, ties, wanted)
        assert artefact == select(keys, ties, wanted, parts=7)
        needed = ties if selection.needs_ties(artefact) else None
        assert np.array_equal(selection.selected(artefact, keys, needed), expected)
        assert scores[expected].min() == selection.bound_score(artefact)


def test_larger_scores_have_larger_keys() -> None:
    ascending = np.array(
        [-np.inf, -3.4e38, -1, -1.1754944e-38, -1e-45, 0, 1e-45, 1.1754944e-38, 1, 3.4e38, np.inf], np.float32
    )
    keys = selection.order_keys(ascending)
    assert keys.dtype == np.uint32
    assert (np.diff(keys.astype(np.int64)) > 0).all()
    assert [selection.score_of_key(int(key)) for key in keys] == ascending.tolist()


def test_minus_zero_equals_zero_and_nan_equals_minus_infinity() -> None:
    zero, minus_zero, nan, negative_nan, lowest = selection.order_keys(
        np.array([0.0, -0.0, np.nan, -np.nan, -np.inf], np.float32)
    )
    assert zero == minus_zero
    assert nan == negative_nan == lowest


def test_making_keys_leaves_the_scores_alone() -> None:
    scores = np.array([np.nan, -0.0, 1e300])
    selection.order_keys(scores)
    assert np.isnan(scores[0])
    assert np.signbit(scores[1])
    same = np.array([np.nan, np.inf], np.float32)
    selection.order_keys(same)
    assert np.isnan(same[0])


def test_a_cut_between_distinct_scores_needs_no_uids() -> None:
    keys = selection.order_keys(np.array([0.1, 0.2, 0.3], np.float32))
    ties = selection.tie_keys(np.zeros((3, 2), np.uint64), np.zeros(3, np.int64), np.arange(3))
    assert not selection.needs_ties(select(keys, ties, 2))


def test_a_cut_among_ties_needs_the_uids_and_says_so() -> None:
    keys = selection.order_keys(np.ones(3, np.float32))
    ties = selection.tie_keys(np.zeros((3, 2), np.uint64), np.zeros(3, np.int64), np.arange(3))
    artefact = select(keys, ties, 2)
    assert len(artefact["prefix"]) == 14
    assert selection.bound_score(artefact) == 1.0
    with pytest.raises(ValueError, match="breaks ties by uid: pass the tie keys"):
        selection.selected(artefact, keys, None)


def test_tie_keys_hold_the_largest_shard_and_row() -> None:
    largest = np.array([2**32 - 1])
    uid = np.array([[2**64 - 1, 1]], np.uint64)
    assert selection.tie_keys(uid, largest, largest).tolist() == [[2**64 - 1, 1, 2**64 - 1]]


def test_minus_infinity_can_be_the_bound() -> None:
    keys = selection.order_keys(np.array([1.0, -np.inf], np.float32))
    ties = selection.tie_keys(np.zeros((2, 2), np.uint64), np.zeros(2, np.int64), np.arange(2))
    assert selection.bound_score(select(keys, ties, 2)) == -np.inf
