from __future__ import annotations

import numpy as np
import pytest

from filters.core.uids import uid_fraction
from transforms.clustering import unit_rows
from transforms.noise.class_density import ClassDensity, class_references


def identities(count: int) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 2**64, (count, 2), dtype=np.uint64)


def cloud(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return unit_rows((generator.normal(size=(count, 8)) * 0.4 + np.eye(8)[0]).astype(np.float32))[0]


def test_references_are_those_of_the_smallest_hash_sorted_by_class() -> None:
    uids, labels = identities(40), np.arange(40) % 4 - 1
    found = class_references(labels, uids, 3, most=5)
    assert labels[found].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    order = np.argsort(uid_fraction(uids, 3))
    for label in range(3):
        expected = [row for row in order.tolist() if labels[row] == label][:5]
        assert found[labels[found] == label].tolist() == expected
    assert class_references(labels[:0], uids[:0], 0).tolist() == []


def test_the_score_is_the_distance_over_that_of_the_median_member() -> None:
    images, uids = cloud(90), identities(90)
    labels = np.repeat([0, 1, 1], 30)
    density = ClassDensity(images, labels, uids, 4)
    medians = density.medians(3)
    cosines = (images @ images.T).astype(np.float64)
    np.fill_diagonal(cosines, -9)
    cosines[labels[:, None] != labels] = -9
    likeness = np.sort(cosines, axis=1)[:, -4:].mean(axis=1)
    expected = [np.median(likeness[labels == label]) for label in (0, 1)]
    assert medians == pytest.approx([*expected, np.nan], nan_ok=True, abs=1e-6)
    found = density.scores(images, labels, uids, medians)
    assert found == pytest.approx((1 - likeness) / (1 - medians[labels]), abs=1e-4)
    assert np.median(found[labels == 1]) == pytest.approx(1, abs=1e-4)
    strangers = density.scores(-images[:2], labels[:2], identities(92)[90:], medians)
    assert (strangers > found[labels == 0].max()).all()


def test_a_row_has_the_same_bits_whoever_stands_beside_it() -> None:
    images, uids = cloud(300), identities(300)
    labels = np.sort(np.arange(300) % 3)
    density = ClassDensity(images, labels, uids, 5)
    medians = density.medians(3)
    whole = density.scores(images, labels, uids, medians)
    order = np.random.default_rng(0).permutation(300)
    moved = np.concatenate(
        [density.scores(images[rows], labels[rows], uids[rows], medians) for rows in np.array_split(order, 7)]
    )
    assert np.array_equal(moved, whole[order])


def test_a_class_with_less_than_two_references_has_no_score() -> None:
    images, uids = cloud(4), identities(4)
    density = ClassDensity(images[:3], np.array([0, 0, 1]), uids[:3], 5)
    medians = density.medians(3)
    assert np.isnan(medians).tolist() == [False, True, True]
    found = density.scores(images, np.array([0, -1, 1, 2]), uids, medians)
    assert np.isnan(found).tolist() == [False, True, True, True]


def test_copies_of_one_picture_do_not_divide_by_zero() -> None:
    images = np.tile(cloud(1), (4, 1))
    density = ClassDensity(images[:3], np.zeros(3, np.int64), identities(3), 2)
    found = density.scores(images, np.zeros(4, np.int64), identities(4), density.medians(1))
    assert (found < 0.01).all()


def test_no_references_and_no_rows() -> None:
    nothing = ClassDensity(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), identities(0), 3)
    medians = nothing.medians(2)
    assert np.isnan(nothing.scores(cloud(3), np.array([0, 1, -1]), identities(3), medians)).all()
    assert nothing.scores(cloud(0), np.zeros(0, np.int64), identities(0), medians).shape == (0,)
