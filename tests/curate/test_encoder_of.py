"""Questions are embedded by the model that measured, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate import encoder_of
from curate.encoder_of import query_encoder, stored_embeddings
from curate.query import Decision, open_decision
from filters.core.errors import ModelError, QueryError
from tests.compared import MODEL
from tests.pools import metadata_shard, photo, sample, write_tar
from tests.running import EVERYDAY, curate
from transforms.decode import decode
from transforms.pool import PoolOptions, RawSample
from transforms.store import Store

RECIPE = """\
name: own
pool: {{retry_seconds: []}}
measures:
  first: {{measure: clip, model: "local-dir:{model}"}}
  clip: {{model: "local-dir:{model}", batch_size: 3}}
filters: [caption_words: 1]
output: {{report: false, shards: false}}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


@pytest.fixture
def decision(tmp_path: Path, model: Path) -> Decision:
    write_tar(tmp_path / "pool" / "0.tar", sample("a", photo(1), "a small picture"))
    curate(RECIPE.format(model=model), tmp_path / "pool", tmp_path / "store")
    return open_decision(Store.at(str(tmp_path / "store")))


def test_embeddings_of_images_come_before_those_of_texts(decision: Decision) -> None:
    found = stored_embeddings(decision)
    assert list(found) == ["first_image", "clip_image", "first_text", "clip_text"]
    assert found["clip_text"].folder.endswith("/txt")


@pytest.mark.parametrize("measure", ["clip", "first"])
def test_what_was_measured_is_embedded_as_it_was(decision: Decision, measure: str) -> None:
    encoder = query_encoder(decision, measure)
    part = decision.manifest["parts"][0]["part"]
    stored = {
        kind: np.load(
            decision.store.folder.path(
                f"{stored_embeddings(decision)[f'{measure}_{word}'].folder}/{part}.npy"
            )
        )
        for kind, word in (("img", "image"), ("txt", "text"))
    }
    raw = RawSample(row=0, key="", offset=0, image=photo(1), caption=b"")
    picture = decode(raw, PoolOptions()).picture
    assert picture is not None
    image = encoder.encode_pictures([picture.rgb])
    text = encoder.encode_texts(["a small picture"])
    assert image.dtype == text.dtype == np.float16
    assert np.allclose(image, stored["img"], atol=2e-3)
    assert np.allclose(text, stored["txt"], atol=2e-3)


def test_other_weights_than_those_that_measured_are_refused(decision: Decision, model: Path) -> None:
    config = model / "open_clip_config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(ModelError, match="are not those that measured own-"):
        query_encoder(decision)


def test_weights_that_are_gone_are_told(decision: Decision, model: Path) -> None:
    shutil.rmtree(model)
    with pytest.raises(ModelError, match="does not exist"):
        query_encoder(decision)


def test_what_another_version_measured_is_told(decision: Decision) -> None:
    manifest = json.loads(json.dumps(decision.manifest))
    for item in manifest["measures"]:
        item["version"] += 1
        if item["embeddings"]:
            item["embeddings"] += "0"
    with pytest.raises(ModelError, match="another version of Curate"):
        query_encoder(Decision(decision.store, manifest))


def test_an_unknown_measure_is_answered_with_the_nearest(decision: Decision) -> None:
    with pytest.raises(QueryError, match=r"no measure 'clipp' of own-.*did you mean clip"):
        query_encoder(decision, "clipp")
    with pytest.raises(QueryError, match="no measure 'image_facts'"):
        query_encoder(decision, "image_facts")


def test_a_recipe_without_embeddings_is_told(tmp_path: Path, small_pool: Path) -> None:
    curate(EVERYDAY, small_pool, tmp_path / "other")
    with pytest.raises(QueryError, match="its recipe has no measure that stores embeddings"):
        query_encoder(open_decision(Store.at(str(tmp_path / "other"))))


@pytest.mark.parametrize(
    ("name", "model_name"), [("b32", "ViT-B-32-quickgelu"), ("l14", "ViT-L-14-quickgelu")]
)
def test_ready_embeddings_of_datacomp_are_asked_with_openai_s_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, model_name: str
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(encoder_of, "load_encoder", lambda *options: asked.append(options))
    metadata_shard(tmp_path / "pool" / "0.parquet", [{}])
    unit = np.full((1, 4), 0.5, np.float16)
    np.savez(tmp_path / "pool" / "0.npz", **{f"{name}_img": unit, f"{name}_txt": unit})
    text = (
        "name: ready\npool: {format: datacomp}\nmeasures: {clip: {measure: datacomp_embeddings, model: %s}}\n"
        "filters: [caption_words: 1]\noutput: {report: false}\n"
    )
    curate(text % name, tmp_path / "pool", tmp_path / "store")
    query_encoder(open_decision(Store.at(str(tmp_path / "store"))))
    assert asked == [(model_name, "openai", "auto", "auto")]


def test_open_clip_knows_openai_s_models_by_these_names() -> None:
    import open_clip

    for name, tag in encoder_of.DATACOMP_MODELS.values():
        assert tag in open_clip.list_pretrained_tags_by_model(name)
