from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from filters.core import prototypes as module
from filters.core.prototypes import (
    REASONS,
    Counts,
    Floats,
    calibrated_scale,
    choose_anchors,
    class_probabilities,
    image_sums,
    judge,
    moved,
    reciprocal,
    similarities,
    smoothed_texts,
    text_prototypes,
    visual_prototypes,
)


def unit(rows: NDArray[np.floating]) -> Floats:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def numbered(count: int) -> NDArray[np.uint64]:
    return np.column_stack([np.zeros(count, np.uint64), np.arange(count, dtype=np.uint64)])


def pictures(seed: int, scale: float = 12.0, count: int = 6000) -> tuple[Floats, Counts, Counts, Floats]:
    """Images whose true class follows softmax(scale x cosine); true, given (20 % wrong), prototypes."""
    generator = np.random.default_rng(seed)
    centers = np.eye(5, 8)
    images = unit(centers[generator.integers(0, 5, count)] + generator.normal(0, 0.35, (count, 8)))
    weights = np.exp(scale * images @ centers.T)
    running = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    true = (generator.random((count, 1)) > running).sum(axis=1)
    wrong = generator.random(count) < 0.2
    return images, true, np.where(wrong, (true + generator.integers(1, 5, count)) % 5, true), centers


def test_text_prototypes_are_the_direction_of_the_mean_wording() -> None:
    wordings = np.array([[[1.0, 0], [0, 1]], [[0, 1.0], [np.nan, 0]], [[np.nan, 0], [0, 1]]])
    found = text_prototypes(wordings)
    assert found == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [0, 1]]))
    assert text_prototypes(wordings[0]).tolist() == [[1, 0], [0, 1]]
    assert np.isnan(text_prototypes(np.array([[[1.0, 0]], [[-1.0, 0]]]))).all()


def test_only_mutual_neighbours_are_reciprocal() -> None:
    found = reciprocal(np.array([[1, 2], [0, 3], [1, 3], [1, -1]]))
    assert found.tolist() == [[True, False], [True, True], [False, False], [True, False]]


def test_texts_move_towards_those_of_mutual_neighbours_only() -> None:
    texts, images = np.eye(3), unit(np.array([[1.0, 0], [1, 1], [1, 0]]))
    found = smoothed_texts(texts, np.array([[1], [0], [0]]), images)
    expected = unit(np.array([[1.0, 0.5**0.5, 0], [0.5**0.5, 1, 0], [0, 0, 1]]))
    assert found == pytest.approx(expected)
    texts[1] = np.nan
    found = smoothed_texts(texts, np.array([[1], [0], [0]]), images)
    assert found[0].tolist() == [1, 0, 0]
    assert np.isnan(found[1]).all()


def test_anchors_are_the_nearest_texts_of_each_class_with_ties_by_uid() -> None:
    classes = np.array([0, 0, 0, 1, 1, -1, 0])
    similarity = np.array([0.5, 0.9, 0.5, 0.1, np.nan, 0.9, 0.4])
    uids = numbered(7)[::-1]
    assert np.flatnonzero(choose_anchors(similarity, classes, uids, top=2)).tolist() == [1, 2, 3]
    assert not choose_anchors(similarity[:0], classes[:0], uids[:0]).any()


def test_anchors_and_sums_of_parts_are_those_of_the_whole() -> None:
    generator = np.random.default_rng(0)
    images, classes = unit(generator.standard_normal((500, 6))), generator.integers(-1, 4, 500)
    similarity, uids = generator.integers(0, 20, 500) / 20, numbered(500)
    whole = choose_anchors(similarity, classes, uids, top=7)
    some = np.zeros(500, bool)
    for part in np.array_split(generator.permutation(500), 4):
        some[part] = choose_anchors(similarity[part], classes[part], uids[part], top=7)
    merged = np.zeros(500, bool)
    merged[some] = choose_anchors(similarity[some], classes[some], uids[some], top=7)
    assert np.array_equal(merged, whole)
    sums = image_sums(images, classes, whole, 4)
    assert sums[:, -1].tolist() == [7] * 4
    order = generator.permutation(500)
    parts = [image_sums(images[p], classes[p], whole[p], 4) for p in np.array_split(order, 5)]
    assert np.array_equal(np.sum(parts, axis=0), sums)
    expected = unit(np.stack([images[whole & (classes == at)].sum(axis=0) for at in range(4)]))
    assert visual_prototypes(sums) == pytest.approx(expected, abs=1e-8)


def test_similarity_is_null_without_class_prototype_or_text() -> None:
    texts = np.array([[1.0, 0], [1, 0], [1, 0], [np.nan, 0]])
    found = similarities(texts, np.array([0, 1, -1, 0]), np.array([[0.6, 0.8], [np.nan, np.nan]]))
    assert found == pytest.approx([0.6, np.nan, np.nan, np.nan], nan_ok=True)


def test_a_class_without_images_has_no_prototype_and_its_samples_a_reason() -> None:
    images = np.array([[1.0, 0], [0, 1], [np.nan, 0], [1, 0]], np.float16)
    classes = np.array([0, 2, 0, -1])
    sums = image_sums(images, classes, np.array([True, False, True, True]), 3)
    assert sums[:, -1].tolist() == [1, 0, 0]
    prototypes = visual_prototypes(sums)
    assert np.isnan(prototypes[1:]).all()
    found = judge(images, classes, prototypes)
    assert [REASONS[at] for at in found.reason] == ["", "class_without_prototype", "no_embedding", "no_class"]
    assert np.isnan(found.score).tolist() == [False, True, True, True]
    assert found.clean.tolist() == [True, False, False, False]
    assert (found.relabel == -1).all()
    without = judge(images, classes, np.full((3, 2), np.nan))
    assert np.isnan(without.score).all()
    assert not without.clean.any()


def test_a_score_exactly_at_chance_is_clean() -> None:
    diagonal = np.full((1, 2), 0.5**0.5)
    found = judge(diagonal, np.array([0]), np.eye(2))
    assert found.score[0] == 0.5
    assert found.clean[0]


def test_classifier_and_prototypes_are_mixed_and_another_class_is_suggested() -> None:
    images, prototypes = np.array([[1.0, 0], [0, 1], [0.8, 0.6]]), np.eye(2)
    predicted = np.array([[0.5, 0.5], [0.9, 0.1], [0.4, 0.6]])
    classes = np.array([1, 0, 0])
    found = judge(images, classes, prototypes, predicted)
    near, far = 1 / (1 + np.exp(-10)), 1 / (1 + np.exp(10))
    alone = 1 / (1 + np.exp(-2))
    assert found.score == pytest.approx([0.25 + far / 2, 0.45 + far / 2, 0.2 + alone / 2])
    assert found.clean.tolist() == [False, False, True]
    assert found.relabel.tolist() == [0, -1, -1]
    assert judge(images, classes, prototypes).score[0] == pytest.approx(1 - near)


def test_prototypes_move_slowly_and_appear_where_there_was_none() -> None:
    old = np.array([[1.0, 0], [np.nan, np.nan], [0, 1], [np.nan, np.nan]])
    new = np.array([[0.0, 1], [0, 1], [np.nan, np.nan], [np.nan, np.nan]])
    found = moved(old, new)
    assert found[0] == pytest.approx(unit(np.array([[0.999, 0.001]]))[0])
    assert found[1].tolist() == found[2].tolist() == [0, 1]
    assert np.isnan(found[3]).all()


def test_probabilities_leave_out_classes_without_prototype() -> None:
    prototypes = np.array([[1.0, 0], [np.nan, np.nan], [0, 1]])
    found = class_probabilities(np.array([[1.0, 0], [np.nan, 0]]), prototypes, scale=2)
    assert found[0] == pytest.approx([1 / (1 + np.exp(-2)), 0, 1 / (1 + np.exp(2))])
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize("scale", [6.0, 12.0, 25.0])
def test_the_scale_is_found_from_noisy_labels(scale: float) -> None:
    images, _, given, prototypes = pictures(1, scale)
    assert calibrated_scale(images, given, prototypes) == pytest.approx(scale, rel=0.2)


def test_a_scale_needs_labels_of_two_classes() -> None:
    images, _, given, prototypes = pictures(2, count=20)
    for classes, held in ((np.full(20, -1), prototypes), (given, prototypes[:1])):
        with pytest.raises(ValueError, match="at least two classes that have prototypes"):
            calibrated_scale(images, np.minimum(classes, len(held) - 1), held)


def test_the_scale_of_a_class_without_prototype_is_that_of_the_others() -> None:
    images, _, given, prototypes = pictures(3)
    wider = np.concatenate([prototypes, np.full((1, 8), np.nan)])
    dirty = np.concatenate([images, np.full((1, 8), np.nan), images[:2]])
    labels = np.concatenate([given, [0, 5, -1]])
    assert calibrated_scale(dirty, labels, wider) == calibrated_scale(images, given, prototypes)


@pytest.mark.parametrize("seed", range(3))
def test_wrong_captions_score_lower_than_right_ones(seed: int) -> None:
    images, true, given, definitions = pictures(seed, count=2000)
    texts = definitions[given]
    cosine = images @ images.T
    np.fill_diagonal(cosine, -1)
    neighbours = np.argsort(-cosine, axis=1, kind="stable")[:, :10]
    smooth = smoothed_texts(texts, neighbours, images)
    chosen = choose_anchors(similarities(smooth, given, definitions), given, numbered(len(given)))
    assert chosen.sum() == 5 * module.ANCHORS
    assert (true == given)[chosen].mean() > 0.9
    found = judge(images, given, visual_prototypes(image_sums(images, given, chosen, 5)))
    assert np.median(found.score[true == given]) > 0.5 > 2 * np.median(found.score[true != given])
    assert (true == given)[found.clean].mean() > 0.9
    suggested = found.relabel >= 0
    assert (found.relabel == true)[suggested].mean() > 0.75
