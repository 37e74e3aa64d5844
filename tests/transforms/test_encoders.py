"""Texts of a loaded model alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.vocabularies import CLIP
from transforms.encoders import ClipEncoder, load_encoder

TEXTS = ["a circle", "a photo of a red star at night", "", "a square"] * 3


@pytest.fixture
def encoder() -> ClipEncoder:
    return load_encoder(CLIP.model, None, "cpu", "fp32")


def test_texts_are_embedded_as_the_captions_of_pairs_are(encoder: ClipEncoder) -> None:
    found = encoder.encode_texts(TEXTS, batch_size=5)
    assert found.shape == (12, 64)
    assert found.dtype == np.float16
    assert np.allclose(np.linalg.norm(found.astype(np.float32), axis=1), 1, atol=1e-3)
    picture = Image.new("RGB", (64, 64))
    _, _, paired = encoder.encode([encoder.prepare(picture, text) for text in TEXTS])
    assert np.allclose(found, paired, atol=2e-3)


def test_a_batch_that_memory_can_t_hold_is_halved(
    encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, whole, sizes = encoder.encode_texts(TEXTS), ClipEncoder._forward_texts, []

    def scarce(self: ClipEncoder, texts: list[str]) -> object:
        sizes.append(len(texts))
        if len(texts) > 3:
            raise torch.cuda.OutOfMemoryError
        return whole(self, texts)

    monkeypatch.setattr(ClipEncoder, "_forward_texts", scarce)
    assert np.allclose(encoder.encode_texts(TEXTS, batch_size=12), expected, atol=2e-3)
    assert sizes == [12, 6, 3, 3, 3, 3]


def test_one_text_too_much_is_an_error(encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: ClipEncoder, texts: list[str]) -> object:  # noqa: ARG001
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(ClipEncoder, "_forward_texts", full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        encoder.encode_texts(["a"], batch_size=4)


def test_the_scale_is_the_model_s(encoder: ClipEncoder) -> None:
    assert encoder.logit_scale == pytest.approx(float(encoder.model.logit_scale.exp()))
    assert encoder.logit_scale > 1
