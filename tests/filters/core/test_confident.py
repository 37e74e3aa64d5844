from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from filters.core import confident
from filters.core.confident import (
    Counts,
    Floats,
    Rule,
    calibrated_joint,
    confident_classes,
    ema,
    find_issues,
    joint_counts,
    multi_label_scores,
    normalised_margin,
    p_mislabelled,
    self_confidence,
    softmin,
    threshold_sums,
    thresholds,
)

RULES: tuple[Rule, ...] = get_args(Rule)
LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.85, 0.15]])


def numbered(count: int) -> NDArray[np.uint64]:
    return np.column_stack([np.zeros(count, np.uint64), np.arange(count, dtype=np.uint64)])


def simulated(seed: int, count: int = 400, classes: int = 4) -> tuple[Counts, Floats]:
    """Labels of which a seventh are wrong, and probabilities that mostly know the true class."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, classes, count)
    wrong = generator.random(count) < 1 / 7
    labels = np.where(wrong, (true + generator.integers(1, classes, count)) % classes, true)
    logits = generator.normal(0, 1, (count, classes))
    logits[np.arange(count), true] += 2.5
    weights = np.exp(logits)
    return labels, weights / weights.sum(axis=1, keepdims=True)


def calibrated(labels: Counts, probabilities: Floats) -> Counts:
    sums = threshold_sums(labels, probabilities)
    counted = confident_classes(probabilities, thresholds(sums))
    return calibrated_joint(joint_counts(labels, counted, probabilities.shape[1]), sums[1])


def test_six_rows_worked_by_hand() -> None:
    sums = threshold_sums(LABELS, PROBABILITIES)
    assert sums.dtype == np.int64
    assert sums[1].tolist() == [3, 3]
    assert thresholds(sums) == pytest.approx([0.6, 0.55], abs=1e-8)
    counted = confident_classes(PROBABILITIES, thresholds(sums))
    assert counted.tolist() == [0, 0, 1, 1, 1, 0]
    assert joint_counts(LABELS, counted, 2).tolist() == [[2, 1], [1, 2]]
    assert self_confidence(LABELS, PROBABILITIES) == pytest.approx([0.9, 0.8, 0.1, 0.8, 0.7, 0.15])
    assert normalised_margin(LABELS, PROBABILITIES) == pytest.approx([0.9, 0.8, 0.1, 0.8, 0.7, 0.15])
    for rule in RULES:
        assert np.flatnonzero(find_issues(LABELS, PROBABILITIES, numbered(6), rule)).tolist() == [2, 5]
    joint = np.array([[2, 1], [1, 2]])
    assert p_mislabelled(LABELS, PROBABILITIES, joint)[2] == pytest.approx(0.9 / (0.9 + 0.1 * 2))


def test_an_item_exactly_at_the_threshold_is_confident_and_the_likeliest_class_counts() -> None:
    bounds = np.array([0.5, 0.3, 0.2])
    rows = np.array([[0.5, 0.3, 0.2], [0.45, 0.35, 0.2], [0.49, 0.29, 0.22], [0.8, 0.1, 0.1]])
    assert confident_classes(rows, bounds).tolist() == [0, 1, 2, 0]
    assert confident_classes(np.array([[0.3, 0.3, 0.4]]), np.array([0.5, 0.5, 0.5])).tolist() == [-1]


@pytest.mark.parametrize("seed", range(5))
def test_parts_in_any_order_add_up_to_the_whole(seed: int) -> None:
    labels, probabilities = simulated(seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = np.array_split(order, 7)
    whole = threshold_sums(labels, probabilities)
    assert np.array_equal(sum(threshold_sums(labels[p], probabilities[p]) for p in parts), whole)
    counted = confident_classes(probabilities, thresholds(whole))
    joint = joint_counts(labels, counted, 4)
    assert np.array_equal(sum(joint_counts(labels[p], counted[p], 4) for p in parts), joint)
    for rule in RULES:
        found = find_issues(labels, probabilities, numbered(len(labels)), rule)
        again = find_issues(labels[order], probabilities[order], numbered(len(labels))[order], rule)
        assert np.array_equal(found[order], again)


@pytest.mark.parametrize("seed", range(50))
def test_the_calibrated_joint_is_whole_and_keeps_its_sums(seed: int) -> None:
    generator = np.random.default_rng(seed)
    classes = int(generator.integers(1, 12))
    joint = generator.integers(0, 50, (classes, classes)) * (generator.random((classes, classes)) < 0.5)
    counts = generator.integers(0, 1000, classes)
    found = calibrated_joint(joint, counts)
    assert found.sum(axis=1).tolist() == counts.tolist()
    assert (found >= 0).all()
    raised = np.maximum(joint, np.eye(classes, dtype=np.int64))
    assert np.abs(found - raised / raised.sum(axis=1, keepdims=True) * counts[:, None]).max() < 1


def test_equal_margins_are_told_apart_by_uid() -> None:
    labels = np.array([0] * 6 + [1] * 4)
    probabilities = np.array([[0.4, 0.6]] * 4 + [[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 4)
    joint = np.array([[4, 2], [0, 4]])
    uids = numbered(10)
    for order in (np.arange(10), np.arange(10)[::-1]):
        found = confident._by_cell(labels[order], probabilities[order], uids[order], joint)
        assert sorted(order[found].tolist()) == [0, 1]


def test_a_class_without_examples_has_no_threshold_and_no_cells() -> None:
    labels, probabilities = simulated(1)
    wider = np.column_stack([probabilities[:, :2], np.full(len(labels), 0.0), probabilities[:, 2:]])
    moved = np.where(labels >= 2, labels + 1, labels)
    bounds = thresholds(threshold_sums(moved, wider))
    assert np.isnan(bounds[2])
    joint = calibrated(moved, wider)
    assert joint[2].sum() == joint[:, 2].sum() == 0
    for rule in RULES:
        found = find_issues(moved, wider, numbered(len(labels)), rule)
        assert np.array_equal(found, find_issues(labels, probabilities, numbered(len(labels)), rule))


def test_labels_of_one_class_only_and_a_single_class() -> None:
    some = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    zeros = np.zeros(3, np.int64)
    assert calibrated(zeros, some).tolist() == [[3, 0], [0, 0]]
    for rule in RULES:
        assert not find_issues(zeros, some, numbered(3), rule).any()
    ones = np.ones((3, 1))
    assert self_confidence(zeros, ones).tolist() == normalised_margin(zeros, ones).tolist() == [1, 1, 1]
    assert calibrated(zeros, ones).tolist() == [[3]]
    assert p_mislabelled(zeros, ones, np.array([[3]])).tolist() == [0, 0, 0]
    assert not find_issues(zeros, ones, numbered(3)).any()


def test_rows_without_label_or_with_nan_are_null_and_change_nothing() -> None:
    labels, probabilities = simulated(2)
    dirty = np.concatenate([labels, [0, -1, 2]])
    rows = np.concatenate([probabilities, [[np.nan, 0.5, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1], [np.nan] * 4]])
    assert np.array_equal(threshold_sums(dirty, rows), threshold_sums(labels, probabilities))
    assert np.array_equal(calibrated(dirty, rows), calibrated(labels, probabilities))
    assert np.isnan(self_confidence(dirty, rows)[-3:]).all()
    assert np.isnan(normalised_margin(dirty, rows)[-3:]).all()
    assert np.isnan(p_mislabelled(dirty, rows, calibrated(dirty, rows))[-3:]).all()
    for rule in RULES:
        found = find_issues(dirty, rows, numbered(len(dirty)), rule)
        assert not found[-3:].any()
        clean = find_issues(labels, probabilities, numbered(len(labels)), rule)
        assert np.array_equal(found[:-3], clean)


def test_nothing_at_all_gives_nothing() -> None:
    labels, none = np.zeros(0, np.int64), np.zeros((0, 3))
    assert threshold_sums(labels, none).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert calibrated(labels, none).tolist() == np.zeros((3, 3)).tolist()
    for rule in RULES:
        assert len(find_issues(labels, none, numbered(0), rule)) == 0


def test_what_cannot_be_probabilities_or_labels_is_refused_by_row() -> None:
    good = np.array([[0.5, 0.5], [0.1, 0.9]])
    with pytest.raises(ValueError, match=r"row 1: probabilities .* sum to 1.1, not to 1"):
        threshold_sums(np.array([0, 1]), np.array([[0.5, 0.5], [0.2, 0.9]]))
    with pytest.raises(ValueError, match="row 0: probabilities"):
        self_confidence(np.array([0, 1]), np.array([[1.5, -0.5], [0.1, 0.9]]))
    with pytest.raises(ValueError, match=r"row 1 has label 2: labels are 0..1, or -1 for none"):
        threshold_sums(np.array([0, 2]), good)
    with pytest.raises(ValueError, match=r"must be \(n,\) and \(n, K\)"):
        threshold_sums(np.array([0]), good)
    with pytest.raises(ValueError, match=r"row 0: probabilities .* must lie in \[0, 1\]"):
        multi_label_scores(np.ones((1, 2), bool), np.array([[0.5, 1.5]]))
    with pytest.raises(ValueError, match="must have one shape"):
        multi_label_scores(np.ones((1, 3), bool), np.array([[0.5, 0.5]]))


def test_float16_probabilities_of_many_classes_are_accepted() -> None:
    labels, probabilities = simulated(3, classes=50)
    assert len(self_confidence(labels, probabilities.astype(np.float16))) == len(labels)


def test_several_labels_are_judged_class_by_class_and_brought_together() -> None:
    scores = multi_label_scores(np.array([[True, False, True]]), np.array([[0.9, 0.8, 0.7]]))
    assert scores[0] == pytest.approx([0.9, 0.2, 0.7])
    assert ema(scores)[0] == pytest.approx(0.308)
    weights = np.exp((1 - scores[0]) / 0.1)
    assert softmin(scores)[0] == pytest.approx((weights * scores[0]).sum() / weights.sum())
    assert np.isnan(ema(np.array([[np.nan, 0.5]]))[0])
    assert np.isnan(softmin(np.array([[np.nan, 0.5]]))[0])
    assert ema(np.array([[0.4]]))[0] == softmin(np.array([[0.4]]))[0] == pytest.approx(0.4)


def test_frequent_confusions_are_blamed_more_than_rare_ones() -> None:
    joint = np.array([[80, 20, 0], [2, 98, 0], [0, 0, 100]])
    rows = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    frequent, rare = p_mislabelled(np.array([0, 1]), rows, joint)
    assert frequent > rare


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_cleanlab(seed: int) -> None:
    """As cleanlab 2.9.0: thresholds, both joints, scores, all four issue sets.

    Cells whose real values have equal remainders are rounded differently: theirs depend on the sort.
    """
    count = pytest.importorskip("cleanlab.count")
    found_by = pytest.importorskip("cleanlab.filter").find_label_issues
    rank = pytest.importorskip("cleanlab.rank")
    labels, probabilities = simulated(seed, classes=2 + seed % 5)
    sums = threshold_sums(labels, probabilities)
    theirs = count.get_confident_thresholds(labels, probabilities)
    assert thresholds(sums) == pytest.approx(theirs, abs=1e-8)
    plain = count.compute_confident_joint(labels, probabilities, calibrate=False)
    counted = confident_classes(probabilities, thresholds(sums))
    mine = joint_counts(labels, counted, probabilities.shape[1])
    assert np.array_equal(np.maximum(mine, np.eye(len(mine), dtype=np.int64)), plain)
    joint = calibrated(labels, probabilities)
    theirs = count.compute_confident_joint(labels, probabilities)
    real = plain / plain.sum(axis=1, keepdims=True) * sums[1][:, None]
    assert np.array_equal(joint.sum(axis=1), theirs.sum(axis=1))
    for remainders, differs in zip(np.round(real % 1, 9), joint != theirs, strict=True):
        assert np.unique(remainders[differs]).size <= 1
    self_scores = rank.get_self_confidence_for_each_label(labels, probabilities)
    assert self_confidence(labels, probabilities) == pytest.approx(self_scores)
    margins = rank.get_normalized_margin_for_each_label(labels, probabilities)
    assert normalised_margin(labels, probabilities) == pytest.approx(margins)
    for rule in RULES:
        # They take no joint for this rule, which counts with the thresholds alone.
        given = {} if rule == "confident_learning" else {"confident_joint": joint}
        theirs = found_by(labels, probabilities, filter_by=rule, n_jobs=1, **given)
        assert np.array_equal(find_issues(labels, probabilities, numbered(len(labels)), rule), theirs), rule


def test_several_labels_are_brought_together_as_by_cleanlab() -> None:
    """As cleanlab 2.9.0: exponential_moving_average and softmin."""
    scorer = pytest.importorskip("cleanlab.internal.multilabel_scorer")
    scores = np.random.default_rng(0).random((50, 6))
    assert ema(scores) == pytest.approx(scorer.exponential_moving_average(scores, alpha=0.8))
    assert softmin(scores) == pytest.approx(scorer.softmin(scores, temperature=0.1))


def reviewed(shared: Path) -> tuple[Counts, Floats, NDArray[np.int64], NDArray[np.bool_]]:
    """Labels, probabilities, the reviewed rows, and whether people found the label wrong."""
    folder = shared / "data" / "label-errors-mnist"
    review = json.loads((folder / "human_review.json").read_text())
    rows = np.array([entry["id"] for entry in review])
    wrong = np.array([entry["mturk"]["given"] < 3 for entry in review])
    labels = np.load(folder / "labels.npy").astype(np.int64)
    return labels, np.load(folder / "predicted_probabilities.npy"), rows, wrong


def test_the_published_label_errors_of_mnist_are_found(shared: Path) -> None:
    labels, probabilities, rows, wrong = reviewed(shared)
    assert (len(rows), int(wrong.sum())) == (100, 15)
    found = {rule: find_issues(labels, probabilities, numbered(len(labels)), rule) for rule in RULES}
    figures = {
        rule: (int(f.sum()), int(f[rows].sum()), int(f[rows[wrong]].sum())) for rule, f in found.items()
    }
    assert figures == FIGURES
    worst = np.argsort(normalised_margin(labels, probabilities), kind="stable")[:100]
    assert np.array_equal(np.sort(worst), np.sort(rows))


def test_the_label_errors_of_mnist_are_those_of_cleanlab(shared: Path) -> None:
    """As cleanlab 2.9.0 on the published probabilities: the joint and the four issue sets."""
    pytest.importorskip("cleanlab")
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    labels, probabilities, _, _ = reviewed(shared)
    assert np.array_equal(calibrated(labels, probabilities), compute_confident_joint(labels, probabilities))
    for rule in RULES:
        theirs = find_label_issues(labels, probabilities, filter_by=rule, n_jobs=1)
        assert np.array_equal(find_issues(labels, probabilities, numbered(len(labels)), rule), theirs), rule


# Candidates, those of them that people reviewed, and those whose label they found wrong.
FIGURES = dict.fromkeys(RULES, (15, 15, 7))
