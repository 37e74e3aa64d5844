"""Captions that name several concepts: each concept is judged on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filters.core.confident import confident_classes, ema, multi_label_scores, threshold_sums, thresholds
from filters.drop_label_errors import DropLabelErrors
from tests.transforms.relations.test_label_errors import CUTS, run, summary
from tests.vocabularies import CLIP, DEEP, FLAT, labelled_rows, pictures, written
from transforms import labelling
from transforms.clustering import unit_rows
from transforms.measures.label_errors import LabelErrors
from transforms.noise.platt import count_scores, fit_platt, log_odds, platt
from transforms.noise.zero_shot import leaf_directions, leaf_logits, softmax
from transforms.vocabulary import class_embeddings, load_vocabulary

SEVERAL: Any = {"multi_label": True, "method": "confident_learning"}


def several(path: str, count: int, seed: int = 0) -> dict[str, Any]:
    """Pictures between two concepts, of which captions name both, one or a third."""
    rows = labelled_rows(path, count, wrong=0.1, seed=seed)
    vocabulary = load_vocabulary(path)
    generator = np.random.default_rng(seed)
    for row in range(0, count, 3):
        one, other = generator.choice(vocabulary.leaves, 2, replace=False)
        rows["vectors"][row] = pictures(vocabulary, [one], 0.1)[0] + pictures(vocabulary, [other], 0.1)[0]
        names = [vocabulary.names[one], vocabulary.names[other]]
        rows["caption"][row] = " and ".join(names[: 1 + row % 2])
    return rows


@pytest.mark.parametrize("temperature", ["calibrated", "model", 0.1])
@pytest.mark.parametrize("cuts", CUTS, ids=["one part", "parts"])
@pytest.mark.parametrize("text", [FLAT, DEEP], ids=["flat", "deep"])
def test_all_columns_are_those_of_one_table(
    tmp_path: Path, cuts: list[int], text: str, temperature: Any
) -> None:
    path = written(tmp_path, text)
    rows = several(path, 240)
    found = run(tmp_path, DropLabelErrors(labels=path, temperature=temperature, **SEVERAL), rows, cuts)
    vocabulary, about = load_vocabulary(path), summary(tmp_path)
    directions = leaf_directions(class_embeddings(vocabulary, CLIP), vocabulary)
    logits = np.concatenate([some for _, some in leaf_logits(unit_rows(rows["vectors"])[0], directions)])
    named = vocabulary.named_in(rows["caption"])[:, vocabulary.leaves]
    scores = log_odds(softmax(logits, about["temperature"]))
    fitted = fit_platt(count_scores(scores, named)) if temperature == "calibrated" else (1.0, 0.0)
    assert (about["slope"], about["intercept"]) == fitted
    shares = platt(scores, *fitted)
    fits = multi_label_scores(named, shares)
    assert found["self_confidence"] == ema(fits).astype(np.float32).tolist()
    assert found["margin"] == fits.min(axis=1).astype(np.float32).tolist()
    assert found["p_mislabelled"] == (1 - ema(fits)).astype(np.float32).tolist()
    names = np.array([vocabulary.names[leaf] for leaf in vocabulary.leaves])
    assert found["label"] == [", ".join(names[row]) for row in named]
    assert found["suggested"] == [", ".join(names[row]) or None for row in shares > 0.5]
    # Each concept is a problem of two classes for the core, which is tested beside cleanlab.
    issues = np.zeros(len(named), np.bool_)
    for given, share, item in zip(named.T, shares.T, about["classes"], strict=True):
        two = np.stack([1 - share, share], axis=1)
        bounds = thresholds(threshold_sums(given.astype(int), two))
        counted = confident_classes(two, bounds)
        wrong = (counted >= 0) & (counted != given) & (two.argmax(axis=1) != given)
        issues |= wrong
        assert [item["threshold_absent"], item["threshold"]] == pytest.approx(bounds.tolist())
        assert [item["labelled"], item["not_labelled"]] == [given.sum(), (~given).sum()]
        assert item["counted_absent"] == (wrong & given).sum()
        assert item["counted_present"] == (wrong & ~given).sum()
    assert found["issue"] == issues.tolist()
    assert about["issues"] == issues.sum()
    assert 3 < issues.sum() < 200
    assert about["labelled"] == 240


def test_what_can_t_be_judged_says_why(tmp_path: Path) -> None:
    path = written(tmp_path)
    rows = several(path, 60)
    rows["caption"][:3] = ["a photo", None, "a star and a ring"]
    rows["vectors"][2] = np.nan
    rows["failure"] = [None] * 60
    rows["failure"][3] = "timeout"
    found = run(tmp_path, LabelErrors(labels=path, **SEVERAL), rows, [2])
    none, embedding = (labelling.REASONS[at] for at in (labelling.NO_CLASS, labelling.NO_EMBEDDING))
    assert found["step_reason"][:5] == [none, none, embedding, None, None]
    for name in ("self_confidence", "margin", "p_mislabelled", "issue"):
        assert found[f"step_{name}"][:4] == [None] * 4
        assert None not in found[f"step_{name}"][4:]
    assert found["step_label"][:4] == [None, None, "star, ring", None]
    assert found["step_suggested"][2:4] == [None, None]
    about = summary(tmp_path)
    assert (about["labelled"], about["not_judged"]) == (56, {none: 2, embedding: 1})


def test_a_bound_on_the_score(tmp_path: Path) -> None:
    path = written(tmp_path)
    rows = several(path, 90)
    options: Any = {"labels": path, "multi_label": True, "method": "p_mislabelled", "p_above": 0.6}
    measured = run(tmp_path / "measure", LabelErrors(**options), rows)
    p = np.array(measured["step_p_mislabelled"], np.float32)
    assert measured["step_issue"] == (p > 0.6).tolist()
    assert 0 < np.mean(p > 0.6) < 1
    assert run(tmp_path / "filter", DropLabelErrors(**options), rows)["issue"] == [None] * 90


def test_a_single_class_and_no_row_are_no_answer(tmp_path: Path) -> None:
    path = written(tmp_path)
    rows = {**labelled_rows(path, 12), "caption": ["a star"] * 12}
    found = run(tmp_path / "single", LabelErrors(labels=path, **SEVERAL), rows)
    assert set(found["step_reason"]) == {"only one class has examples"}
    assert found["step_issue"] == found["step_p_mislabelled"] == [None] * 12
    dead = {**rows, "failure": ["timeout"] * 12}
    found = run(tmp_path / "dead", LabelErrors(labels=path, **SEVERAL), dead, [3])
    assert found["step_reason"] == found["step_suggested"] == [None] * 12
    assert summary(tmp_path / "dead")["labelled"] == 0
