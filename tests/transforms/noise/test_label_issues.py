"""Label issues found part by part are those of the whole pool."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest

from filters.core.confident import (
    Rule,
    calibrated_joint,
    confident_classes,
    find_issues,
    joint_counts,
    threshold_sums,
    thresholds,
)
from transforms.noise.label_issues import RECORD, Bounds, candidates, issues, lowest, quotas


def simulated(rows: int, classes: int, seed: int) -> tuple[Any, Any, Any]:
    """Labels, some of them none or wrong; probabilities with many equal ones; uids in no order."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes)).round(1) + 2 * np.eye(classes)[true]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = generator.random(rows) < 0.2
    labels = np.where(wrong, generator.integers(0, classes, rows), true)
    labels[generator.random(rows) < 0.05] = -1
    uids = generator.permutation(rows).astype(np.uint64)[:, None] * np.array([0, 1], np.uint64)
    return labels, probabilities.astype(np.float32), uids


def found_in_parts(labels: Any, probabilities: Any, uids: Any, rule: Rule, cuts: list[int]) -> Any:
    classes = probabilities.shape[1]
    sums = threshold_sums(labels, probabilities)
    confident = confident_classes(probabilities, thresholds(sums))
    joint = calibrated_joint(joint_counts(labels, confident, classes), sums[1])
    wanted = quotas(joint, rule)
    parts = [slice(*ends) for ends in pairwise([0, *cuts, len(labels)])]
    lists = [candidates(labels[part], probabilities[part], uids[part], wanted) for part in parts]
    bounds = Bounds.of(lowest(np.concatenate(lists[::-1]), wanted), classes)
    flags = [
        issues(
            labels[part],
            probabilities[part],
            uids[part],
            rule=rule,
            confident=confident[part],
            bounds=bounds,
        )
        for part in parts
    ]
    return np.concatenate(flags)


@pytest.mark.parametrize("rule", get_args(Rule))
@pytest.mark.parametrize("cuts", [[], [1, 2, 100], [250, 250, 260]], ids=str)
@pytest.mark.parametrize("classes", [2, 5])
def test_issues_of_parts_are_those_of_the_whole(rule: Rule, cuts: list[int], classes: int) -> None:
    labels, probabilities, uids = simulated(400, classes, seed=classes)
    expected = find_issues(labels, probabilities, uids, rule)
    assert 0 < expected.sum() < 200
    assert (found_in_parts(labels, probabilities, uids, rule, cuts) == expected).all()


@pytest.mark.parametrize("rule", get_args(Rule))
def test_a_class_without_rows_and_a_pool_without_labels_have_no_issue(rule: Rule) -> None:
    labels, probabilities, uids = simulated(60, 3, seed=1)
    labels[labels == 2] = 0
    expected = find_issues(labels, probabilities, uids, rule)
    assert (found_in_parts(labels, probabilities, uids, rule, [30]) == expected).all()
    labels[:] = -1
    assert not found_in_parts(labels, probabilities, uids, rule, [30]).any()


def test_copies_of_one_uid_are_judged_alike() -> None:
    labels = np.zeros(4, np.int64)
    probabilities = np.array([[0.2, 0.8]] * 3 + [[0.9, 0.1]])
    uids = np.array([[0, 7], [0, 7], [0, 8], [0, 1]], np.uint64)
    wanted = np.array([[0, 1], [0, 0]])
    records = lowest(candidates(labels, probabilities, uids, wanted), wanted)
    assert records.dtype == RECORD
    assert len(records) == 1
    taken = Bounds.of(records, 2).taken(labels, probabilities, uids)
    assert taken.tolist() == [[False] * 4, [True, True, False, False]]
