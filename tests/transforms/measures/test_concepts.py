"""Tags of pictures: present, unknown or absent, and what a caption says that the picture lacks."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.core.errors import RecipeError
from tests.vocabularies import CLIP, DEEP, pictures, written
from transforms.clustering import unit_rows
from transforms.measures.concepts import Concepts
from transforms.measures.datacomp_embeddings import DatacompEmbeddings
from transforms.noise.zero_shot import concept_probabilities, leaf_directions, leaf_logits, softmax
from transforms.vocabulary import class_embeddings, load_vocabulary

CIRCLE, SQUARE, STAR, RING = range(4)
Row = dict[str, Any]


def tagged(rule: Concepts, captions: list[str | None], embeddings: Any) -> list[Row]:
    found = rule.bound(CLIP).derive(
        "tags", {"caption": pa.array(captions, pa.string())}, np.asarray(embeddings, np.float16)
    )
    assert list(found) == [column.name for column in rule.columns("tags")]
    for column in rule.columns("tags"):
        assert found[column.name].type == column.type
    rows: list[Row] = pa.table(dict(found)).to_pylist()
    return [{name.removeprefix("tags_"): value for name, value in row.items()} for row in rows]


def test_a_clear_picture_has_its_concept_and_lacks_the_others(tmp_path: Path) -> None:
    path = written(tmp_path)
    shown = pictures(load_vocabulary(path), [STAR, STAR, STAR], 0.0)
    right, wrong, both = tagged(Concepts(labels=path), ["a star", "two rings", "a star in a ring"], shown)
    assert right["present"] == ["star"]
    assert right["top"] == "star"
    assert right["top_p"] == right["alignment"] > 0.5
    assert (right["caption"], right["ungrounded"]) == (["star"], [])
    assert (wrong["caption"], wrong["ungrounded"]) == (["ring"], ["ring"])
    assert wrong["alignment"] < 0.05
    assert (both["caption"], both["ungrounded"]) == (["star", "ring"], ["ring"])
    assert both["alignment"] == wrong["alignment"]


def test_the_three_answers_are_cut_at_the_bounds(tmp_path: Path) -> None:
    path = written(tmp_path, DEEP)
    vocabulary = load_vocabulary(path)
    images = pictures(vocabulary, np.arange(40) % 5, 0.2, seed=3)
    rule = Concepts(labels=path, temperature=0.3, present_above=0.6, absent_below=0.2)
    directions = leaf_directions(class_embeddings(vocabulary, CLIP), vocabulary)
    logits = np.concatenate([some for _, some in leaf_logits(unit_rows(images)[0], directions)])
    expected = concept_probabilities(softmax(logits, 0.3), vocabulary)
    unknown = 0
    for row, shares in zip(tagged(rule, ["a shape"] * 40, images), expected, strict=True):
        by_name = dict(zip(vocabulary.names, shares, strict=True))
        assert row["present"] == [name for name, share in by_name.items() if share >= 0.6]
        assert row["unknown"] == [name for name, share in by_name.items() if 0.2 <= share < 0.6]
        assert row["alignment"] == np.float32(by_name["shape"])
        leaves = {name: share for name, share in by_name.items() if name != "shape"}
        assert row["top"] == max(leaves, key=lambda name: leaves[name])
        assert row["top_p"] == np.float32(max(leaves.values()))
        unknown += len(row["unknown"])
    assert unknown > 20


def test_what_is_missing_is_null_and_not_empty(tmp_path: Path) -> None:
    path = written(tmp_path)
    images = pictures(load_vocabulary(path), [STAR] * 4, 0.0)
    images[1], images[2] = np.nan, 0
    found = tagged(Concepts(labels=path), [None, "a star", "nothing of it", "nothing of it"], images)
    assert (found[0]["caption"], found[0]["ungrounded"], found[0]["alignment"]) == (None, None, None)
    assert found[0]["present"] == ["star"]
    for row in found[1:3]:
        assert {row[name] for name in ("present", "unknown", "top", "top_p", "ungrounded", "alignment")} == {
            None
        }
    assert [row["caption"] for row in found[1:]] == [["star"], [], []]
    assert (found[3]["ungrounded"], found[3]["alignment"]) == ([], None)


@pytest.mark.parametrize("shape", [(0, 64), (0, 0), (2, 0)])
def test_a_part_without_rows_or_embeddings(tmp_path: Path, shape: tuple[int, int]) -> None:
    found = tagged(Concepts(labels=written(tmp_path)), ["a star"] * shape[0], np.zeros(shape))
    assert [(row["caption"], row["present"], row["top"]) for row in found] == [
        (["star"], None, None)
    ] * shape[0]


def test_rows_are_independent_of_one_another(tmp_path: Path) -> None:
    path = written(tmp_path)
    images = pictures(load_vocabulary(path), np.arange(9) % 4, 0.3)
    captions: list[str | None] = ["a circle"] * 9
    whole = tagged(Concepts(labels=path), captions, images)
    assert whole == [tagged(Concepts(labels=path), captions[:1], images[at : at + 1])[0] for at in range(9)]


def test_the_model_survives_pickling_and_copying(tmp_path: Path) -> None:
    rule = Concepts(labels=written(tmp_path)).bound(CLIP)
    copied = pickle.loads(pickle.dumps(rule)).model_copy(update={"temperature": 0.5})  # noqa: S301  (ours)
    found = copied.derive("t", {"caption": pa.array(["a star"])}, np.ones((1, 64), np.float16))
    assert found["t_caption"].to_pylist() == [["star"]]
    with pytest.raises(ValueError, match="the model that made them"):
        Concepts(labels=written(tmp_path)).derive(
            "t", {"caption": pa.array(["a"])}, np.ones((1, 64), np.float16)
        )


def test_embeddings_of_no_clip_measure_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match="concepts embeds prompts with the model of 'b32_image', which no clip"
    ):
        Concepts(labels=written(tmp_path), encoder="b32").bound(DatacompEmbeddings(model="b32"))


def test_its_name_depends_on_the_vocabulary_s_content(tmp_path: Path) -> None:
    before = Concepts(labels=written(tmp_path)).identity()
    assert Concepts(labels=written(tmp_path / "other")).identity() == before
    assert Concepts(labels=written(tmp_path, DEEP)).identity() != before
    assert Concepts(labels=written(tmp_path), absent_below=0.1).identity() != before
    with pytest.raises(RecipeError, match="does not exist"):
        Concepts(labels=str(tmp_path / "none.yaml")).check()


def test_the_file_lies_beside_the_recipe(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert Concepts(labels="concepts.yaml").located(tmp_path).labels == path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"absent_below": 0.6}, "absent_below 0.6 is above present_above 0.5"),
        ({"temperature": 0}, "temperature 0 must be above 0, or `model`"),
        ({"temperature": "hot"}, "temperature"),
        ({"labels": " "}, "name at least one file"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Concepts(**{"labels": "concepts.yaml", **options})
