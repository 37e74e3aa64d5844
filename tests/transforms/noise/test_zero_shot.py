"""Probabilities of concepts, alone and in a hierarchy."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.clustering import unit_rows
from transforms.noise.zero_shot import concept_probabilities, leaf_directions, leaf_logits, softmax
from transforms.vocabulary import Concept, Vocabulary

# animal: (dog: (beagle, poodle), cat); car
TREE = Vocabulary(
    tuple(
        Concept(name, (name,), None, parent)
        for name, parent in (
            ("animal", -1),
            ("dog", 0),
            ("beagle", 1),
            ("poodle", 1),
            ("cat", 0),
            ("car", -1),
        )
    )
)
FLAT = Vocabulary(tuple(Concept(name, (name,)) for name in "abc"))


def vectors(count: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return unit_rows(np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32))[0]


def logits_of(images: np.ndarray, classes: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    pieces = list(leaf_logits(images, leaf_directions(classes, vocabulary)))
    assert [rows.start for rows, _ in pieces] == list(range(0, len(images), 1024))
    return np.concatenate([logits for _, logits in pieces])


def test_a_flat_vocabulary_is_the_softmax_of_cosines() -> None:
    images, classes = vectors(7, 0), vectors(3, 1)
    cosines = images @ classes.T
    assert np.allclose(logits_of(images, classes, FLAT), cosines, atol=1e-6)
    expected = np.exp(cosines / 0.1) / np.exp(cosines / 0.1).sum(axis=1, keepdims=True)
    assert np.allclose(softmax(cosines, 0.1), expected)
    assert np.allclose(concept_probabilities(softmax(cosines, 0.1), FLAT), expected)


def test_a_leaf_s_probability_is_multiplied_with_those_of_its_ancestors() -> None:
    """CHiLS, computed as it is defined: softmax over each depth, then the product, normalised."""
    images, classes, temperature = vectors(20, 2), vectors(6, 3), 0.3
    cosines = (images @ classes.T).astype(np.float64)
    leaves = TREE.leaves.tolist()
    assert leaves == [2, 3, 4, 5]
    # The concept that each leaf belongs to, depth by depth; a leaf stands for itself below its own.
    depths = [[0, 0, 0, 5], [1, 1, 4, 5], [2, 3, 4, 5]]
    product = np.ones((20, 4))
    for members in depths:
        present = sorted(set(members))
        shares = softmax(cosines[:, present], temperature)
        product *= shares[:, [present.index(member) for member in members]]
    expected = product / product.sum(axis=1, keepdims=True)
    found = softmax(logits_of(images, classes, TREE), temperature)
    assert np.allclose(found, expected, atol=1e-6)
    every = concept_probabilities(found, TREE)
    assert np.allclose(every[:, leaves], expected, atol=1e-6)
    assert np.allclose(every[:, 1], every[:, 2] + every[:, 3])
    assert np.allclose(every[:, 0], every[:, 1] + every[:, 4])
    assert np.allclose(every[:, 0] + every[:, 5], 1)


def test_two_equal_children_are_told_apart_by_their_parents() -> None:
    same = np.eye(4, dtype=np.float32)
    classes = np.stack([same[0], same[2], same[1], same[2]])
    tree = Vocabulary(
        tuple(
            Concept(name, (name,), None, parent) for name, parent in zip("pqrs", (-1, 0, -1, 2), strict=True)
        )
    )
    picture = unit_rows((0.5 * same[0] + same[2])[None])[0]
    found = softmax(logits_of(picture, classes, tree), 0.1)[0]
    assert found[0] > 0.9


@pytest.mark.parametrize("count", [1, 3, 1000, 1030])
def test_which_rows_stand_together_changes_no_bit(count: int) -> None:
    images, directions = vectors(1030, 4), leaf_directions(vectors(6, 5), TREE)
    whole = np.concatenate([logits for _, logits in leaf_logits(images, directions)])
    some = np.concatenate([logits for _, logits in leaf_logits(images[-count:], directions)])
    assert np.array_equal(whole[-count:], some)
    assert np.array_equal(softmax(whole, 0.05)[-count:], softmax(some, 0.05))


def test_no_row_has_no_logits() -> None:
    assert list(leaf_logits(vectors(0, 0), leaf_directions(vectors(3, 1), FLAT))) == []
    assert softmax(np.zeros((0, 3)), 1.0).shape == (0, 3)
