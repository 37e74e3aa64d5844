"""kNN agreement as a measure of the pool: what the cores say of a pool in memory, whatever the partition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from filters.core.errors import RecipeError
from filters.core.uids import parse_uids
from tests.relating import compared, cut, relate, scope_of
from tests.transforms.relations.labelled import CLIP, NAMES, Labelled, labelled, rank
from transforms.clustering import unit_rows
from transforms.measures.label_agreement import LabelAgreement
from transforms.noise.agreement import agreement, credibility, neighbours_among, votes
from transforms.noise.nearest import Neighbours
from transforms.relations.label_agreement import label_credibility, near_labels
from transforms.vocabulary import class_embeddings, load_vocabulary, model_temperature

COLUMNS = ("step", "step_rank", "step_outvoted", "step_credibility")


def in_order(pool: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """The rows by uid, as ties are broken, and each row's label in this order."""
    uids = parse_uids(pa.array(pool.rows["uid"]))
    order = np.lexsort((uids[:, 1], uids[:, 0]))
    label = np.array([NAMES.index(caption.removeprefix("a ")) for caption in pool.rows["caption"]])
    return order, label[order]


def values(found: dict[str, list[Any]], name: str, order: np.ndarray) -> np.ndarray:
    return np.array(found[name], np.float64)[order]


@pytest.mark.parametrize("vocabulary", [False, True])
def test_it_is_the_cores_answer_over_the_whole_pool(tmp_path: Path, vocabulary: bool) -> None:  # noqa: FBT001
    pool = labelled(tmp_path, 300)
    rule = LabelAgreement(labels=pool.labels if vocabulary else None, voters=6)
    (found,) = compared(tmp_path / "store", rule, [pool.rows], clip=CLIP)
    order, label = in_order(pool)
    images = pool.rows["image"][order]
    near, _ = neighbours_among(images, 5)
    expected = agreement(votes(near, label, label, 5), label)
    assert values(found, "step", order) == pytest.approx(expected.margin, abs=1e-5)
    assert values(found, "step_rank", order) == pytest.approx(expected.rank, abs=1e-4)
    assert (values(found, "step_outvoted", order) == expected.outvoted).all()
    shares = np.eye(5, dtype=np.float32)[label]
    if vocabulary:
        prompts = class_embeddings(load_vocabulary(pool.labels), CLIP)
        logits = unit_rows(images)[0] @ prompts.T / model_temperature(CLIP)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    believed = credibility(near, shares, np.eye(5, dtype=np.float32)[label])
    assert values(found, "step_credibility", order) == pytest.approx(believed, abs=1e-4)
    assert rank(np.array(found["step"]), pool.wrong) > 0.95
    assert rank(-np.array(found["step_credibility"]), pool.wrong) > 0.95


@pytest.mark.parametrize("vocabulary", [False, True])
def test_parts_workers_and_order_do_not_matter(tmp_path: Path, vocabulary: bool) -> None:  # noqa: FBT001
    pool = labelled(tmp_path, 400)
    rows = pool.rows
    rows["failure"] = ["timeout" if number % 40 == 0 else None for number in range(400)]
    rows["image"][3], rows["image"][5, 2] = 0, np.nan
    for values in rows.values():  # one sample that two shards hold
        values[201] = values[21]
    rows["caption"][7], rows["caption"][9], rows["caption"][11] = "", "a star and a heart", None
    rule = LabelAgreement(labels=pool.labels if vocabulary else None, reference=250)
    (whole,) = compared(tmp_path / "one", rule, [rows], clip=CLIP)
    null = [number for number, value in enumerate(whole["step"]) if value is None]
    assert null == sorted({3, 5, 7, 9, 11, *range(0, 400, 40)})
    for name in COLUMNS:
        assert [number for number, value in enumerate(whole[name]) if value is None] == null
    pieces = [range(300, 400), range(0), range(130), range(130, 300)]
    parts = compared(tmp_path / "four", rule, cut(rows, pieces), workers=3, seed=4, clip=CLIP)
    for name in COLUMNS:
        assert [value for part in (parts[2], parts[3], parts[0]) for value in part[name]] == whole[name]


def test_a_caption_that_occurs_once_is_no_label(tmp_path: Path) -> None:
    pool = labelled(tmp_path, 60)
    pool.rows["caption"][4] = "something else"
    pool.rows["caption"][6] = f" {pool.rows['caption'][6]} "
    scope, parts = scope_of(tmp_path / "store", LabelAgreement(), [pool.rows])
    relate(scope, parts)
    found = scope.store.read_part(scope.group, parts[0].part)["step"].to_pylist()
    assert [number for number, value in enumerate(found) if value is None] == [4]
    summary = scope.folder.read_json(f"{scope.group}/summary.json")
    assert (summary["drawn"], summary["reference"], summary["labels"]) == (60, 59, 5)
    assert (summary["judged"], summary["without_label"], summary["temperature"]) == (59, 1, None)


@pytest.mark.parametrize(
    ("caption", "vocabulary", "reason"),
    [
        ("a star", True, "all pictures of the reference have one label"),
        ("a star", False, "all pictures of the reference have one label"),
        ("a tree", True, "no picture of the reference has a label: no caption names just one concept"),
        ("a star {}", False, "no picture of the reference has a label: no caption repeats"),
    ],
)
def test_with_one_label_at_most_all_rows_are_null_with_the_reason(
    tmp_path: Path,
    caption: str,
    vocabulary: bool,  # noqa: FBT001
    reason: str,
) -> None:
    pool = labelled(tmp_path, 20)
    pool.rows["caption"] = [caption.format(number) for number in range(20)]
    rule = LabelAgreement(labels=pool.labels if vocabulary else None)
    scope, parts = scope_of(tmp_path / "store", rule, [pool.rows], clip=CLIP)
    relate(scope, parts)
    found = scope.store.read_part(scope.group, parts[0].part)
    assert [found[name].null_count for name in COLUMNS] == [20] * 4
    assert scope.folder.read_json(f"{scope.group}/summary.json")["reason"] == reason


def test_an_empty_pool_a_single_pair_and_failures(tmp_path: Path) -> None:
    pool = labelled(tmp_path, 8)
    for number, parts in enumerate([cut(pool.rows, [range(0)]), cut(pool.rows, [range(1)]), []]):
        found = compared(tmp_path / str(number), LabelAgreement(labels=pool.labels), parts, clip=CLIP)
        assert [part["step"] for part in found] == [[None] * len(part["uid"]) for part in parts]
    dead = {**pool.rows, "failure": ["timeout"] * 8}
    assert compared(tmp_path / "dead", LabelAgreement(), [dead])[0]["step"] == [None] * 8


def test_votes_of_few_labels_are_those_of_all(tmp_path: Path) -> None:
    """Numbering labels anew for each row changes neither votes nor credibility."""
    pool = labelled(tmp_path, 200, spread=2.0)
    order, label = in_order(pool)
    label = label * 1000 + np.arange(200) % 3
    names, small = np.unique(label, return_inverse=True)
    near, _ = neighbours_among(pool.rows["image"][order], 7)
    near.place[0, 3:], near.cosine[0, 3:] = -1, 0
    theirs = np.where(near.place >= 0, label[near.place], -1)
    found = near_labels(near, theirs, label)
    expected = agreement(votes(near, small, small, len(names)), small)
    assert found.margin == pytest.approx(expected.margin, abs=1e-6)
    assert found.rank == pytest.approx(expected.rank, abs=1e-5)
    assert np.array_equal(found.outvoted, expected.outvoted)
    shares = np.random.default_rng(0).dirichlet(np.ones(len(names)), 200).astype(np.float32)
    own = np.eye(len(names), dtype=np.float32)[small]
    alike = label_credibility(near, shares.astype(np.float64)[near.place, small[:, None]])
    assert alike == pytest.approx(credibility(near, shares, own), abs=1e-5)
    alone = Neighbours(np.zeros((1, 2), np.float32), np.full((1, 2), -1))
    assert np.isnan(label_credibility(alone, np.zeros((1, 2)))).all()


def test_a_measure_names_its_columns_after_itself_and_its_content(tmp_path: Path) -> None:
    pool = labelled(tmp_path, 2)
    rule = LabelAgreement(labels="concepts.yaml", encoder="dfn")
    assert [column.name for column in rule.columns("knn")] == [
        "knn",
        "knn_rank",
        "knn_outvoted",
        "knn_credibility",
    ]
    assert rule.embeddings() == ("dfn_image",)
    located = rule.located(tmp_path)
    assert located.labels == pool.labels
    before = located.identity()
    (tmp_path / "other.yaml").write_bytes((tmp_path / "concepts.yaml").read_bytes())
    assert rule.model_copy(update={"labels": str(tmp_path / "other.yaml")}).identity() == before
    (tmp_path / "concepts.yaml").write_text("concepts: [star]", encoding="utf-8")
    assert located.identity() != before
    assert LabelAgreement().located(tmp_path) == LabelAgreement()


def test_a_vocabulary_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml"):
        LabelAgreement(labels=str(tmp_path / "none.yaml")).check()
    LabelAgreement().check()
