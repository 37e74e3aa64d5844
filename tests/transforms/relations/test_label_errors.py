"""Confident learning over a pool is that of one table, whatever the parts; what can't be judged says why."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from filters.core.confident import (
    Rule,
    calibrated_joint,
    confident_classes,
    find_issues,
    joint_counts,
    normalised_margin,
    p_mislabelled,
    self_confidence,
    threshold_sums,
    thresholds,
)
from filters.core.errors import RecipeError
from filters.core.label_options import LabelOptions
from filters.core.prototypes import calibrated_scale
from filters.core.uids import parse_uids
from filters.drop_label_errors import DropLabelErrors
from tests.relating import compared
from tests.vocabularies import CLIP, DEEP, FLAT, labelled_rows, pictures, written
from transforms import labelling
from transforms.clustering import unit_rows
from transforms.measures.label_errors import LabelErrors
from transforms.noise.zero_shot import leaf_directions, leaf_logits, softmax
from transforms.relations import label_errors
from transforms.relations.label_errors import LabelErrors as Relation
from transforms.vocabulary import class_embeddings, load_vocabulary

RULES: tuple[Rule, ...] = get_args(Rule)
CUTS: tuple[list[int], ...] = ([], [1, 40, 40, 190])
Found = dict[str, list[Any]]


def run(folder: Path, rule: Any, rows: dict[str, Any], cuts: list[int] | None = None, **more: Any) -> Found:
    """The columns of all rows, in their order, from a pool of parts cut there, the last one first."""
    ends = [0, *(cuts or []), len(rows["uid"])]
    pieces = [slice(*pair) for pair in pairwise(ends)][::-1]
    parts = [{name: values[piece] for name, values in rows.items()} for piece in pieces]
    found = compared(folder, rule, parts, clip=CLIP, **more)[::-1]
    return {name: [value for part in found for value in part[name]] for name in found[0]}


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "relations/r/summary.json").read_text())
    return found


def zero_shot(path: str, rows: dict[str, Any], temperature: float) -> tuple[Any, Any, list[str]]:
    """Labels and probabilities of rows whose captions name one leaf each."""
    vocabulary = load_vocabulary(path)
    directions = leaf_directions(class_embeddings(vocabulary, CLIP), vocabulary)
    pieces = leaf_logits(unit_rows(rows["vectors"])[0], directions)
    logits = np.concatenate([logits for _, logits in pieces])
    labels = vocabulary.named_in(rows["caption"])[:, vocabulary.leaves].argmax(axis=1)
    names = [vocabulary.names[leaf] for leaf in vocabulary.leaves]
    return labels, softmax(logits, temperature).astype(np.float32), names


def uids_of(rows: dict[str, Any]) -> NDArray[np.uint64]:
    return parse_uids(pa.array(rows["uid"]))


def test_the_name_of_a_wrong_label_is_found(tmp_path: Path) -> None:
    rows = labelled_rows(written(tmp_path), 300, wrong=0)
    rows["caption"][7] = "a photo of a star"
    rows["vectors"][7] = pictures(load_vocabulary(written(tmp_path)), [3], 0.0)[0]
    found = run(tmp_path, DropLabelErrors(labels=written(tmp_path)), rows)
    assert (found["label"][7], found["suggested"][7]) == ("star", "ring")
    assert found["issue"][7]
    assert found["p_mislabelled"][7] == max(found["p_mislabelled"]) > 0.9
    assert found["margin"][7] < 0.1
    assert set(found["reason"]) == {None}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cuts", CUTS, ids=["one part", "parts"])
@pytest.mark.parametrize("text", [FLAT, DEEP], ids=["flat", "deep"])
def test_all_columns_are_those_of_one_table(tmp_path: Path, rule: Rule, cuts: list[int], text: str) -> None:
    path = written(tmp_path, text)
    rows = labelled_rows(path, 300)
    found = run(tmp_path, DropLabelErrors(labels=path, method=rule, temperature=0.2), rows, cuts, workers=3)
    labels, probabilities, names = zero_shot(path, rows, 0.2)
    assert found["label"] == [names[label] for label in labels]
    assert found["suggested"] == [names[place] for place in probabilities.argmax(axis=1)]
    issues = find_issues(labels, probabilities, uids_of(rows), rule)
    assert 5 < issues.sum() < 150
    assert found["issue"] == issues.tolist()
    sums = threshold_sums(labels, probabilities)
    confident = confident_classes(probabilities, thresholds(sums))
    joint = calibrated_joint(joint_counts(labels, confident, 4), sums[1])
    for name, expected in (
        ("self_confidence", self_confidence(labels, probabilities)),
        ("margin", normalised_margin(labels, probabilities)),
        ("p_mislabelled", p_mislabelled(labels, probabilities, joint)),
    ):
        assert found[name] == expected.astype(np.float32).tolist(), name
    about = summary(tmp_path)
    assert about["labelled"] == 300
    assert about["issues"] == issues.sum()
    assert about["temperature"] == 0.2
    assert about["not_judged"] == {}
    assert [item["labelled"] for item in about["classes"]] == sums[1].tolist()
    assert [item["threshold"] for item in about["classes"]] == thresholds(sums).tolist()
    cells = {(names.index(given), names.index(other)): many for given, other, many in about["joint"]}
    assert cells == {tuple(cell): joint[tuple(cell)] for cell in np.argwhere(joint).tolist()}


@pytest.mark.parametrize("cuts", CUTS, ids=["one part", "parts"])
def test_the_temperature_is_the_one_that_makes_labels_likeliest(tmp_path: Path, cuts: list[int]) -> None:
    path = written(tmp_path)
    rows = labelled_rows(path, 250)
    run(tmp_path, LabelErrors(labels=path), rows, cuts)
    order = np.lexsort(uids_of(rows).T[::-1])
    images, labels = rows["vectors"][order], zero_shot(path, rows, 1)[0][order]
    vocabulary = load_vocabulary(path)
    scale = calibrated_scale(unit_rows(images)[0], labels, class_embeddings(vocabulary, CLIP).astype(float))
    assert summary(tmp_path)["temperature"] == 1 / scale


def test_a_drawn_share_of_the_labels_calibrates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    rows = labelled_rows(path, 400)
    run(tmp_path / "all", LabelErrors(labels=path), rows)
    monkeypatch.setattr(label_errors, "CALIBRATION_ROWS", 100)
    drawn = [run(tmp_path / str(len(cuts)), LabelErrors(labels=path), rows, cuts) for cuts in CUTS]
    assert drawn[0] == drawn[1]
    about = [summary(tmp_path / name)["temperature"] for name in ("all", "0", "4")]
    assert about[1] == about[2] == pytest.approx(about[0], rel=0.5)


def test_the_model_s_temperature(tmp_path: Path) -> None:
    path = written(tmp_path)
    run(tmp_path, LabelErrors(labels=path, temperature="model"), labelled_rows(path, 20))
    assert 0 < summary(tmp_path)["temperature"] < 0.1


def test_what_can_t_be_judged_says_why(tmp_path: Path) -> None:
    path = written(tmp_path)
    rows = labelled_rows(path, 60)
    rows["caption"][:4] = ["a photo", "a star and a ring", None, "a star"]
    rows["vectors"][3] = np.nan
    rows["failure"] = [None] * 60
    rows["failure"][4] = "timeout"
    found = run(tmp_path, LabelErrors(labels=path), rows, [2])
    none, several, embedding = (labelling.REASONS[at] for at in (1, 2, 3))
    assert found["step_reason"][:6] == [none, several, none, embedding, None, None]
    for name in ("self_confidence", "margin", "p_mislabelled", "issue", "label"):
        assert found[f"step_{name}"][:5] == [None] * 5
        assert None not in found[f"step_{name}"][5:]
    assert found["step_suggested"][3:5] == [None, None]
    assert None not in found["step_suggested"][:3]
    about = summary(tmp_path)
    assert about["labelled"] == 55
    assert about["not_judged"] == {none: 2, several: 1, embedding: 1}


def test_a_wider_concept_is_no_label(tmp_path: Path) -> None:
    path = written(tmp_path, DEEP)
    rows = labelled_rows(path, 40)
    rows["caption"][:2] = ["a shape", "a shape that is a circle"]
    found = run(tmp_path, LabelErrors(labels=path), rows)
    assert found["step_label"][:2] == [None, "circle"]


@pytest.mark.parametrize(
    ("captions", "judged"), [(["a star"] * 30, False), (["a star", "a ring"] * 15, True)]
)
def test_a_single_class_can_t_be_judged(tmp_path: Path, captions: list[str], judged: bool) -> None:  # noqa: FBT001
    path = written(tmp_path)
    rows = {**labelled_rows(path, 30), "caption": captions}
    found = run(tmp_path, LabelErrors(labels=path), rows)
    assert found["step_label"] == [caption.removeprefix("a ") for caption in captions]
    if judged:
        assert None not in found["step_p_mislabelled"]
        assert [one["threshold"] for one in summary(tmp_path)["classes"]][:2] == [None, None]
    else:
        assert found["step_p_mislabelled"] == found["step_issue"] == [None] * 30
        assert set(found["step_reason"]) == {"only one class has examples"}
        assert summary(tmp_path)["issues"] == 0


def test_no_label_and_no_row_is_no_answer(tmp_path: Path) -> None:
    path = written(tmp_path)
    rows = {**labelled_rows(path, 5), "caption": [None] * 5}
    found = run(tmp_path / "none", LabelErrors(labels=path), rows)
    assert found["step_issue"] == [None] * 5
    assert summary(tmp_path / "none")["not_judged"] == {"the caption names no class": 5}
    rows = {**rows, "vectors": np.zeros((5, 0)), "failure": ["timeout"] * 5}
    found = run(tmp_path / "dead", LabelErrors(labels=path), rows, [2])
    assert found["step_reason"] == [None] * 5
    assert summary(tmp_path / "dead")["labelled"] == 0


def test_a_bound_on_the_probability(tmp_path: Path) -> None:
    """The measure applies it; the filter can change it without comparing again."""
    path = written(tmp_path)
    rows = labelled_rows(path, 200)
    options: Any = {"labels": path, "method": "p_mislabelled", "p_above": 0.7}
    measured = run(tmp_path / "measure", LabelErrors(**options), rows, [70])
    p = np.array(measured["step_p_mislabelled"], np.float32)
    assert measured["step_issue"] == (p > 0.7).tolist()
    assert 0 < np.mean(p > 0.7) < 0.5
    judged = run(tmp_path / "filter", DropLabelErrors(**options), rows)
    assert judged["issue"] == [None] * 200
    assert judged["p_mislabelled"] == measured["step_p_mislabelled"]


# --- probabilities of files


def probability_file(folder: Path, rows: dict[str, Any], probabilities: Any, **more: Any) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(5).permutation(len(rows["uid"]))
    given = {"uid": np.array(rows["uid"]), "p": pa.array(list(probabilities[order])), **more}
    columns = {name: values if name == "p" else np.asarray(values)[order] for name, values in given.items()}
    pq.write_table(pa.table(columns), folder / "p.parquet", row_group_size=100)
    return str(folder / "p.parquet")


@pytest.mark.parametrize("cuts", CUTS, ids=["one part", "parts"])
@pytest.mark.parametrize("given", ["numbers", "names", "captions"])
def test_probabilities_of_a_file(tmp_path: Path, cuts: list[int], given: str) -> None:
    path = written(tmp_path)
    rows = labelled_rows(path, 250)
    labels, probabilities, names = zero_shot(path, rows, 0.3)
    labelled = {"numbers": labels, "names": np.array(names)[labels]}
    more = {} if given == "captions" else {"label": labelled[given]}
    rule = LabelErrors(
        probabilities=probability_file(tmp_path, rows, probabilities, **more),
        labels=None if given == "numbers" else path,
    )
    bare = {name: values for name, values in rows.items() if name != "vectors"}
    found = run(tmp_path, rule, bare, cuts, workers=2)
    assert found["step_issue"] == find_issues(labels, probabilities, uids_of(rows)).tolist()
    expected = self_confidence(labels, probabilities).astype(np.float32)
    assert found["step_self_confidence"] == expected.tolist()
    known = list("0123") if given == "numbers" else names
    assert found["step_label"] == [known[label] for label in labels]
    assert summary(tmp_path)["temperature"] is None
    assert summary(tmp_path)["unknown_uids"] == 0


def test_rows_that_a_file_lacks_are_null_and_others_counted(tmp_path: Path) -> None:
    path = written(tmp_path)
    rows = labelled_rows(path, 120)
    labels, probabilities, _ = zero_shot(path, rows, 0.3)
    probabilities[0] = np.nan
    given = [None if row == 1 else int(label) for row, label in enumerate(labels)]
    file = probability_file(tmp_path, rows, probabilities, label=np.array(given, object))
    mine = {name: values[:100] for name, values in rows.items() if name != "vectors"}
    mine["uid"] = [*mine["uid"][:2], "f" * 32, *mine["uid"][3:]]
    found = run(tmp_path, LabelErrors(probabilities=file), mine, [30, 60])
    number, label, unknown = (
        labelling.REASONS[at] for at in (labelling.NO_NUMBER, labelling.NO_LABEL, labelling.UNKNOWN)
    )
    assert found["step_reason"][:4] == [number, label, unknown, None]
    assert found["step_p_mislabelled"][:3] == [None] * 3
    assert found["step_suggested"][1] is not None
    about = summary(tmp_path)
    assert about["not_judged"] == {number: 1, label: 1, unknown: 1}
    assert about["unknown_uids"] == 21


def test_probabilities_that_don_t_sum_to_1_stop_the_run(tmp_path: Path) -> None:
    rows = labelled_rows(written(tmp_path), 20)
    file = probability_file(tmp_path, rows, np.full((20, 2), 0.6), label=[0, 1] * 10)
    with pytest.raises(RecipeError, match=r"p.parquet, from row 0: row 0: .* sum to 1.2, not to 1"):
        run(tmp_path, LabelErrors(probabilities=file), rows)


def test_a_uid_that_stands_twice_stops_the_run(tmp_path: Path) -> None:
    rows = labelled_rows(written(tmp_path), 20)
    twice = {**rows, "uid": [rows["uid"][0]] * 2 + rows["uid"][2:]}
    file = probability_file(tmp_path, twice, np.full((20, 2), 0.5), label=[0, 1] * 10)
    with pytest.raises(RecipeError, match=f"the uid {rows['uid'][0]} stands there twice"):
        run(tmp_path, LabelErrors(probabilities=file), rows)


# --- before any work


def check(**options: Any) -> None:
    rule = LabelErrors(**options)
    assert isinstance(rule, LabelOptions)
    Relation.check(rule)


def test_files_that_can_t_serve_are_errors(tmp_path: Path) -> None:
    path = written(tmp_path)
    rows = labelled_rows(path, 10)
    file = probability_file(tmp_path, rows, np.full((10, 2), 0.5))
    with pytest.raises(RecipeError, match="no column `label`: write one, or give `labels`"):
        check(probabilities=file)
    with pytest.raises(
        RecipeError, match="`p` has 2 numbers, but the vocabulary 4 concepts without children"
    ):
        check(probabilities=file, labels=path)
    single = probability_file(tmp_path / "single", rows, np.ones((10, 1)), label=[0] * 10)
    with pytest.raises(RecipeError, match="name at least two concepts without children"):
        check(probabilities=single)
    with pytest.raises(RecipeError, match="name at least two concepts without children"):
        check(labels=written(tmp_path / "one", "concepts: {animal: {children: [dog]}}"))
    with pytest.raises(RecipeError, match=r"labels: .*none.yaml' does not exist"):
        check(labels=str(tmp_path / "none.yaml"))


def test_there_may_be_too_many_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "MOST_CLASSES", 3)
    with pytest.raises(RecipeError, match="4 classes, but at most 3 can be compared"):
        check(labels=written(tmp_path))


def test_the_content_of_files_counts_and_not_their_names(tmp_path: Path) -> None:
    before = Relation.identity(LabelErrors(labels=written(tmp_path)))
    assert Relation.identity(LabelErrors(labels=written(tmp_path / "other"))) == before
    assert Relation.identity(LabelErrors(labels=written(tmp_path, DEEP))) != before
    rows = labelled_rows(written(tmp_path), 10)
    files = [
        probability_file(tmp_path / name, rows, np.full((10, 2), 0.5), label=[0, last] * 5)
        for name, last in (("a", 1), ("b", 1), ("c", 0))
    ]
    first, same, other = (Relation.identity(LabelErrors(probabilities=file)) for file in files)
    assert first == same != other
