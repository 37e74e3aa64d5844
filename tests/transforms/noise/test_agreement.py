from __future__ import annotations

import numpy as np
import pytest

from transforms.clustering import Floats, unit_rows
from transforms.noise.agreement import agreement, credibility, neighbours_among, votes
from transforms.noise.nearest import Neighbours


def blobs(count: int, seed: int = 0) -> tuple[Floats, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Rows around four directions, and which one each is around."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, count)
    rows = np.eye(4, 24)[labels] + 0.1 * generator.standard_normal((count, 24))
    return unit_rows(rows.astype(np.float32))[0], labels


def near(cosines: list[list[float]], places: list[list[int]]) -> Neighbours:
    return Neighbours(np.array(cosines, np.float32), np.array(places, np.int64))


def test_votes_are_cosines_and_the_row_s_own_is_extrapolated() -> None:
    found = votes(near([[0.9, 0.8, 0.6]], [[0, 1, 2]]), np.array([0, 1, 1]), np.array([2]), 3)
    # The row's own distance is 2 x 0.1 - 0.2 = 0, its weight 1.
    expected = np.array([0.9, 0.8 + 0.6, 1.0])
    assert found[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("cosines", "places", "own"), [([0.7, 0.0], [0, -1], 0.7), ([0.0, 0.0], [-1, -1], 1.0)]
)
def test_with_few_neighbours_the_row_s_own_weight_is_what_is_known(
    cosines: list[float], places: list[int], own: float
) -> None:
    found = votes(near([cosines], [places]), np.array([0]), np.array([1]), 2)
    expected = np.array([cosines[0], own])
    assert found[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)


def test_wrong_labels_are_outvoted() -> None:
    rows, labels = blobs(600)
    given = labels.copy()
    wrong = np.arange(600) % 10 == 0
    given[wrong] = (given[wrong] + 1) % 4
    neighbours, usable = neighbours_among(rows, 9, device="cpu")
    assert usable.all()
    found = agreement(votes(neighbours, given, given, 4), given)
    assert (found.outvoted == wrong).mean() > 0.99
    assert found.rank[wrong].min() > np.median(found.rank[~wrong])
    assert np.array_equal(found.margin > 0, found.outvoted)


def test_a_label_that_ties_is_right() -> None:
    cast = np.array([[0.5, 0.5], [0.5, 0.5], [0.4, 0.6], [1, 0]], np.float32)
    found = agreement(cast, np.array([0, 1, 0, 1]))
    assert found.outvoted.tolist() == [False, False, True, True]
    assert found.rank == pytest.approx([-np.log(0.5), -np.log(0.5), -np.log(0.4), -np.log(1e-8)], abs=1e-4)
    assert found.margin == pytest.approx([0, 0, 0.2, 1], abs=1e-6)


def test_rows_without_a_label_have_no_score_and_no_vote() -> None:
    neighbours = near([[0.9, 0.8]] * 2, [[0, 1]] * 2)
    own = np.array([1, -1])
    cast = votes(neighbours, np.array([-1, 0]), own, 2)
    assert cast[0, 0] < cast[0, 1]
    assert cast[1].tolist() == [1, 0]
    found = agreement(cast, own)
    assert np.isnan(found.rank).tolist() == np.isnan(found.margin).tolist() == [False, True]
    assert not found.outvoted[1]


def test_rows_that_point_away_have_no_vote() -> None:
    found = votes(near([[-0.2, -0.5]], [[0, 1]]), np.array([0, 0]), np.array([1]), 2)
    assert found[0, 0] == 0


def test_rows_without_a_direction_have_no_neighbours() -> None:
    rows, _ = blobs(50)
    rows[7], rows[20, 0] = 0, np.nan
    found, usable = neighbours_among(rows, 5, device="cpu")
    assert np.flatnonzero(~usable).tolist() == [7, 20]
    assert (found.place[[7, 20]] == -1).all()
    assert not np.isin(found.place, [7, 20]).any()
    assert not (found.place == np.arange(50)[:, None]).any()
    nothing, _ = neighbours_among(np.zeros((0, 8), np.float16), 5, device="cpu")
    assert nothing.place.shape == (0, 5)


def test_no_rows_have_no_votes() -> None:
    none = np.zeros(0, np.int64)
    cast = votes(Neighbours(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64)), none, none, 4)
    assert cast.shape == (0, 4)
    assert [len(part) for part in agreement(cast, none)] == [0, 0, 0]


def test_labels_outside_of_the_classes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"lie in \[0, 2\), or are -1 for none, but got 0 to 2"):
        votes(near([[0.5]], [[0]]), np.array([0]), np.array([0, 2]), 2)


def test_a_row_like_its_neighbours_is_credible_and_one_unlike_all_is_not() -> None:
    shares = np.eye(3, dtype=np.float32)
    neighbours = near([[0.9, 0.3]] * 4, [[0, 0], [1, 1], [0, 1], [-1, -1]])
    own = shares[[0, 0, 0, 0]]
    found = credibility(neighbours, shares, own)
    assert found[:2].tolist() == [1, 0]
    # The neighbours' mean is 3/4 and 1/4.
    one, other = np.array([1, 0]), np.array([0.75, 0.25])
    middle = (one + other) / 2
    divergence = (np.log2(1 / middle[0]) + (other * np.log2(other / middle)).sum()) / 2
    assert found[2] == pytest.approx(1 - divergence, abs=1e-6)
    assert np.isnan(found[3])


def test_neighbours_without_a_distribution_say_nothing() -> None:
    shares = np.array([[1, 0], [np.nan, np.nan]], np.float32)
    neighbours = near([[0.5, 0.9], [0.9, 0.0], [0.5, 0.5]], [[0, 1], [1, -1], [0, 0]])
    own = np.array([[1, 0], [1, 0], [np.nan, np.nan]], np.float32)
    found = credibility(neighbours, shares, own)
    assert found[0] == 1
    assert np.isnan(found[1:]).all()
    assert np.isnan(credibility(neighbours, shares[:0], own)).all()
