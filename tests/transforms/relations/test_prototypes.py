"""Prototypes with text matching as a measure of the pool: the cores' answer, whatever the partition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.core import prototypes
from filters.core.errors import RecipeError
from filters.core.uids import parse_uids
from tests.relating import compared, cut, relate, scope_of
from tests.transforms.relations.labelled import CLIP, NAMES, labelled, rank
from transforms.clustering import unit_rows
from transforms.measures.prototypes import Prototypes
from transforms.noise.agreement import neighbours_among
from transforms.vocabulary import class_embeddings, load_vocabulary, model_temperature

COLUMNS = ("step", "step_clean", "step_relabel", "step_density")


def said_by(rows: dict[str, Any]) -> np.ndarray:
    return np.array([NAMES.index(caption.removeprefix("a ")) for caption in rows["caption"]])


def summary_of(scope: Any) -> dict[str, Any]:
    found: dict[str, Any] = scope.folder.read_json(f"{scope.group}/summary.json")
    return found


def test_it_is_the_cores_answer_over_the_whole_pool(tmp_path: Path) -> None:
    pool = labelled(tmp_path, 300)
    rule = Prototypes(labels=pool.labels, anchors=12, neighbours=6)
    (found,) = compared(tmp_path / "store", rule, [pool.rows], clip=CLIP)
    uids = parse_uids(pa.array(pool.rows["uid"]))
    order = np.lexsort((uids[:, 1], uids[:, 0]))
    images, texts = (unit_rows(pool.rows[side][order])[0] for side in ("image", "text"))
    label = said_by(pool.rows)[order]
    prompts = class_embeddings(load_vocabulary(pool.labels), CLIP).astype(np.float64)
    near, _ = neighbours_among(pool.rows["image"][order], 6)
    smoothed = prototypes.smoothed_texts(texts, near.place, images)
    likeness = prototypes.similarities(smoothed, label, prototypes.text_prototypes(prompts))
    anchors = prototypes.choose_anchors(likeness, label, uids[order], 12)
    visual = prototypes.visual_prototypes(prototypes.image_sums(images, label, anchors, 5))
    predicted = prototypes.class_probabilities(images, prompts, 1 / model_temperature(CLIP))
    expected = prototypes.judge(images, label, visual, predicted)
    assert np.array(found["step"])[order] == pytest.approx(expected.score, abs=1e-4)
    sure = np.abs(expected.score - 0.2) > 1e-3
    assert (np.array(found["step_clean"])[order] == expected.clean)[sure].all()
    relabel = [None if at < 0 else NAMES[at] for at in expected.relabel.tolist()]
    assert [found["step_relabel"][at] for at in order] == relabel
    assert rank(-np.array(found["step"]), pool.wrong) > 0.95
    assert rank(np.array(found["step_density"]), pool.wrong) > 0.8
    right = [NAMES[shown] for shown in pool.shown[pool.wrong]]
    given = [name for name, wrong in zip(found["step_relabel"], pool.wrong, strict=True) if wrong]
    assert np.mean([one == other for one, other in zip(given, right, strict=True)]) > 0.8


def test_parts_workers_and_order_do_not_matter(tmp_path: Path) -> None:
    pool = labelled(tmp_path, 400)
    rows = pool.rows
    rows["failure"] = ["timeout" if number % 40 == 0 else None for number in range(400)]
    rows["image"][3], rows["image"][5, 2], rows["text"][6] = 0, np.nan, np.nan
    for values in rows.values():  # one sample that two shards hold
        values[201] = values[21]
    rows["caption"][7], rows["caption"][9], rows["caption"][11] = "", "a star and a heart", None
    examples = tmp_path / "examples.csv"
    lines = [f"{rows['uid'][at]},{NAMES[pool.shown[at]]}" for at in (0, 3, 17, 230)]
    examples.write_text("\n".join(["uid,concept", *lines, f"{'e' * 32},star"]), encoding="utf-8")
    rule = Prototypes(labels=pool.labels, examples=str(examples), reference=250, anchors=5)
    (whole,) = compared(tmp_path / "one", rule, [rows], clip=CLIP)
    null = [number for number, value in enumerate(whole["step"]) if value is None]
    assert null == sorted({3, 5, 7, 9, 11, *range(0, 400, 40)})  # row 6 lacks the text alone
    for name in ("step_clean", "step_density"):
        assert [number for number, value in enumerate(whole[name]) if value is None] == null
    pieces = [range(300, 400), range(0), range(130), range(130, 300)]
    parts = compared(tmp_path / "four", rule, cut(rows, pieces), workers=3, seed=4, clip=CLIP)
    for name in COLUMNS:
        assert [value for part in (parts[2], parts[3], parts[0]) for value in part[name]] == whole[name]


def test_examples_alone_make_prototypes(tmp_path: Path) -> None:
    """Also of rows that are not in the sample, and whatever their captions say."""
    pool = labelled(tmp_path, 300)
    chosen = [int(np.flatnonzero(pool.wrong & (pool.shown == concept))[0]) for concept in range(4)]
    examples = tmp_path / "examples.csv"
    lines = [f"{pool.rows['uid'][at]},{NAMES[pool.shown[at]]}" for at in chosen]
    examples.write_text("\n".join(["uid,concept", *lines, f"{'e' * 32},heart"]), encoding="utf-8")
    rule = Prototypes(labels=pool.labels, examples=str(examples), anchors=0, reference=20, mixing=0)
    scope, parts = scope_of(tmp_path / "store", rule, [pool.rows], clip=CLIP)
    relate(scope, parts)
    found = np.array(scope.store.read_part(scope.group, parts[0].part)["step"].to_pylist(), np.float64)
    label = said_by(pool.rows)
    assert (np.isnan(found) == (label == NAMES.index("heart"))).all()
    known = ~np.isnan(found)
    assert rank(-found[known], pool.wrong[known]) > 0.9
    summary = summary_of(scope)
    assert (summary["anchors"], summary["examples"], summary["examples_found"]) == (0, 5, 4)
    assert summary["concepts_without_prototype"] == ["heart"]
    assert summary["without_prototype"] == int((~known).sum())
    assert summary["reason"] is None


def test_rows_of_a_concept_without_examples_are_null_and_it_is_named(tmp_path: Path) -> None:
    pool = labelled(tmp_path, 200)
    label = said_by(pool.rows)
    pool.rows["text"][label == 1] = np.nan  # so circles have no anchor
    scope, parts = scope_of(tmp_path / "store", Prototypes(labels=pool.labels), [pool.rows], clip=CLIP)
    relate(scope, parts)
    found = scope.store.read_part(scope.group, parts[0].part).to_pydict()
    assert [value is None for value in found["step"]] == (label == 1).tolist()
    assert [value is None for value in found["step_density"]] == (label == 1).tolist()
    assert summary_of(scope)["concepts_without_prototype"] == ["circle"]


@pytest.mark.parametrize(("caption", "said"), [("a star", "one concept has"), ("a tree", "no concept has")])
def test_with_one_prototype_at_most_all_rows_are_null_with_the_reason(
    tmp_path: Path, caption: str, said: str
) -> None:
    pool = labelled(tmp_path, 20)
    pool.rows["caption"] = [caption] * 20
    scope, parts = scope_of(tmp_path / "store", Prototypes(labels=pool.labels), [pool.rows], clip=CLIP)
    relate(scope, parts)
    found = scope.store.read_part(scope.group, parts[0].part)
    assert [found[name].null_count for name in COLUMNS] == [20] * 4
    assert found["step_relabel"].type == pa.string()
    assert summary_of(scope)["reason"].startswith(f"{said} a prototype, and there is nothing to tell apart")


def test_an_empty_pool_a_single_pair_and_failures(tmp_path: Path) -> None:
    pool = labelled(tmp_path, 8)
    rule = Prototypes(labels=pool.labels)
    dead = {**pool.rows, "failure": ["timeout"] * 8}
    for number, parts in enumerate([cut(pool.rows, [range(0)]), cut(pool.rows, [range(1)]), [dead], []]):
        found = compared(tmp_path / str(number), rule, parts, clip=CLIP)
        assert [part["step"] for part in found] == [[None] * len(part["uid"]) for part in parts]


def test_a_measure_names_its_columns_after_itself_and_its_content(tmp_path: Path) -> None:
    pool = labelled(tmp_path, 2)
    examples = tmp_path / "examples.csv"
    examples.write_text(f"uid,concept\n{'0' * 32},star\n", encoding="utf-8")
    rule = Prototypes(labels="concepts.yaml", examples="examples.csv", encoder="dfn")
    names = [column.name for column in rule.columns("looks")]
    assert names == ["looks", "looks_clean", "looks_relabel", "looks_density"]
    assert rule.embeddings() == ("dfn_image", "dfn_text")
    located = rule.located(tmp_path)
    assert (located.labels, located.examples) == (pool.labels, str(examples))
    located.check()
    before = located.identity()
    examples.write_text(f"uid,concept\n{'0' * 32},heart\n{'1' * 32},star\n", encoding="utf-8")
    assert located.identity() != before
    examples.write_text("uid,concept\n7,heart\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="line 2: a uid is 32 hex digits"):
        located.check()


def test_no_anchors_and_no_examples_are_refused() -> None:
    with pytest.raises(ValidationError, match="anchors 0 needs examples"):
        Prototypes(labels="concepts.yaml", anchors=0)
