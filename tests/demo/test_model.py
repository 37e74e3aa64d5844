"""The packaged model: loads through open_clip and tells true captions from others on unseen scenes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from curate.demo.figures import HELD_OUT_SEED, Encoder, auroc, other_captions, retrieval_at_1
from curate.demo.train import MODEL_CONFIG, MODEL_FOLDER, TRAIN_SEED
from curate.demo.world import Scene, draw_scene

UNSEEN_SEED = 31_337
Vectors = np.ndarray


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """Load the packaged model once."""
    return Encoder.load(MODEL_FOLDER)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Return 100 scenes of a world that neither training nor the figures used."""
    assert UNSEEN_SEED not in {TRAIN_SEED, HELD_OUT_SEED}
    return [draw_scene(UNSEEN_SEED, index) for index in range(100)]


@pytest.fixture(scope="module")
def images(encoder: Encoder, scenes: list[Scene]) -> Vectors:
    """Return (100, dimensions) unit rows."""
    return encoder.images([scene.image for scene in scenes])


@pytest.fixture(scope="module")
def texts(encoder: Encoder, scenes: list[Scene]) -> Vectors:
    """Return (100, dimensions) unit rows."""
    return encoder.texts([scene.caption for scene in scenes])


def test_it_separates_true_from_mismatched_captions(
    encoder: Encoder, scenes: list[Scene], images: Vectors, texts: Vectors
) -> None:
    """The true caption is nearly always the closer one."""
    true = (images * texts).sum(axis=1)
    mismatched = (images * encoder.texts(other_captions(scenes))).sum(axis=1)
    assert auroc(true, mismatched) > 0.98


def test_it_finds_the_caption_among_100(scenes: list[Scene], images: Vectors, texts: Vectors) -> None:
    """Most images have their own caption nearest."""
    assert retrieval_at_1(images, texts, [scene.caption for scene in scenes]) > 0.8


def test_the_suggested_threshold_keeps_clean_pairs(encoder: Encoder, images: Vectors, texts: Vectors) -> None:
    """On other scenes it keeps about what the figures promise, and drops most blank pictures."""
    figures = json.loads((MODEL_FOLDER / "figures.json").read_text(encoding="utf-8"))
    threshold = figures["suggested_min_clip_cosine"]
    assert ((images * texts).sum(axis=1) >= threshold).mean() >= 0.95
    blank = encoder.images([Image.new("RGB", (120, 100), (value, 128, 128)) for value in range(0, 250, 25)])
    assert (blank @ texts.T < threshold).mean() > 0.8


def test_rows_have_unit_length(images: Vectors, texts: Vectors) -> None:
    """Cosines are plain products."""
    width = MODEL_CONFIG["model_cfg"]["embed_dim"]
    assert images.shape == texts.shape == (100, width)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([images, texts]), axis=1), 1, atol=1e-5)


def test_the_files_are_those_open_clip_expects_and_small() -> None:
    """Configuration as in the training script; weights of about 6 MB."""
    config = json.loads((MODEL_FOLDER / "open_clip_config.json").read_text(encoding="utf-8"))
    assert config == MODEL_CONFIG
    assert (MODEL_FOLDER / "open_clip_model.safetensors").stat().st_size < 6.3e6


def test_auroc_counts_ties_half() -> None:
    """Equal scores are a coin toss; complete order is 1."""
    assert auroc(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0.5
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert auroc(np.array([0.0]), np.array([1.0])) == 0.0
