from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.keep_target_clusters import KeepTargetClusters
from tests.filters.judging import answers


def relation(cluster_id: list[int | None], in_target: list[bool | None]) -> dict[str, pa.Array]:
    return {"cluster_id": pa.array(cluster_id, pa.int32()), "in_target": pa.array(in_target, pa.bool_())}


def test_rows_of_target_clusters_are_kept() -> None:
    judgement = KeepTargetClusters(examples="a.npy").judge(relation([3, 4, 3], [True, False, True]))
    assert answers(judgement) == [True, False, True]
    assert judgement.value.tolist() == [3, 4, 3]
    assert judgement.bound == "a cluster that holds examples"


def test_a_row_that_was_not_compared_is_null() -> None:
    judgement = KeepTargetClusters(examples="a.npy").judge(relation([None, 1, None], [None, None, True]))
    assert answers(judgement) == [None, None, None]


@pytest.mark.parametrize("option", ["clusters", "training_samples"])
def test_centroids_are_ready_or_trained(option: str) -> None:
    with pytest.raises(ValidationError, match="centroids are ready"):
        KeepTargetClusters.model_validate({"examples": "a.npy", "centroids": "c.npy", option: 5})


@pytest.mark.parametrize("wrong", ["", " ", [], ["a.npy", ""]])
def test_no_examples_are_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="name at least one file"):
        KeepTargetClusters.model_validate({"examples": wrong})


@pytest.mark.parametrize("option", ["examples", "centroids"])
@pytest.mark.parametrize("url", ["s3://key:secret@bucket/a.npy", "https://host/a.npy?token=secret"])
def test_a_url_with_a_secret_is_refused(option: str, url: str) -> None:
    with pytest.raises(ValidationError, match="give credentials in the environment"):
        KeepTargetClusters.model_validate({"examples": "a.npy", option: url})


def test_relative_files_lie_beside_the_recipe_where_they_are_there(tmp_path: Path) -> None:
    (tmp_path / "in1k").mkdir()
    (tmp_path / "in1k" / "0.npy").touch()
    (tmp_path / "c.npy").touch()
    rule = KeepTargetClusters(examples=("in1k/*.npy", "in1k/{0..1}.npy", "none/*.npy"), centroids="c.npy")
    located = rule.located(tmp_path)
    assert located.examples == (f"{tmp_path}/in1k/*.npy", f"{tmp_path}/in1k/{{0..1}}.npy", "none/*.npy")
    assert located.centroids == f"{tmp_path}/c.npy"
    named = KeepTargetClusters(examples="s3://bucket/a.npy", centroids="/abs/c.npy")
    assert named.located(tmp_path) == named


def test_what_is_read() -> None:
    rule = KeepTargetClusters(examples="a.npy", embedding="dino_image")
    assert rule.embeddings() == ("dino_image",)
    assert rule.reads() == ("uid",)
