"""Every measure declares what it writes, and its name changes with its meaning."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from filters.core.errors import RecipeError
from tests.transforms.reading import named
from transforms.fingerprints import file_fingerprint, fingerprint, weights_fingerprint
from transforms.measure import Measure, beside, find_measure, measure_names
from transforms.measures.image_facts import ImageFacts

OPTIONS: dict[str, dict[str, Any]] = {
    "alignment_level": {"preset": "cc3m"},
    "clip": {"model": "ViT-B-32", "pretrained": "openai"},
    "concepts": {"labels": "concepts.yaml"},
    "datacomp_embeddings": {"model": "b32"},
    "label_errors": {"labels": "concepts.yaml"},
    "norm_sim": {"target": "target.npy"},
    "prototypes": {"labels": "concepts.yaml"},
    "score_head": {"checkpoint": "head.pth"},
}


@pytest.mark.parametrize("kind", measure_names())
def test_every_measure_describes_its_columns(kind: str) -> None:
    measure = named(kind, "mine", **OPTIONS.get(kind, {}))
    columns = measure.columns()
    assert columns
    assert len({column.name for column in columns}) == len(columns)
    for column in columns:
        assert isinstance(column.type, pa.DataType)
        assert column.meaning
    assert find_measure(kind).__doc__
    assert pickle.loads(pickle.dumps(measure)) == measure  # noqa: S301  (our own bytes)


def test_an_unknown_measure_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"unknown measure 'image_fact'; did you mean image_facts"):
        find_measure("image_fact")


def test_measures_are_their_own_classes() -> None:
    assert find_measure("image_facts") is ImageFacts
    assert all(issubclass(find_measure(kind), Measure) for kind in measure_names())


def test_the_name_changes_with_version_name_and_what_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = named("image_facts").folder
    assert before.startswith("image_facts-")
    assert named("image_facts").folder == before
    assert (
        named("image_facts", depends=("samples-1",)).folder
        != named("image_facts", depends=("samples-2",)).folder
    )
    assert named("image_facts", "other").folder != before
    monkeypatch.setattr(ImageFacts, "version", 99)
    assert named("image_facts").folder != before


def test_where_things_lie() -> None:
    measure = named("clip", "big", model="ViT-B-32", pretrained="openai")
    assert measure.group == f"signals/{measure.folder}"
    assert measure.embeddings("txt", "p") == f"embeddings/{measure.folder}/txt/p.npy"


def test_fingerprints_name_values() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert len({fingerprint(value) for value in (1, "1", [1], None, {"a": 1}, {"a": 2})}) == 6
    assert len(fingerprint(1)) == 16


def test_fingerprints_name_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 1000)
    monkeypatch.setattr("transforms.fingerprints.CHUNK_BYTES", 64)
    assert file_fingerprint(path) == weights_fingerprint(path)
    before = weights_fingerprint(path)
    path.write_bytes(b"y" * 1001)
    assert weights_fingerprint(path) == file_fingerprint(path) != before


def test_paths_lie_beside_the_recipe_where_a_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"")
    assert beside(tmp_path, "a.bin") == str(tmp_path / "a.bin")
    assert beside(tmp_path, "b.bin") == "b.bin"
    assert beside(tmp_path, "/x/a.bin") == "/x/a.bin"
    assert beside(tmp_path, None) is None
