"""What a model can do with pairs that it has not seen: retrieval both ways, and zero-shot classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from curate.evaluate.held_out import HeldOut
from curate.evaluate.training import as_images, normalised

_BATCH = 250

Rows = NDArray[np.floating[Any]]


def recall_at(queries: Rows, answers: Rows, captions: Sequence[str], best: int) -> float:
    """The share of queries whose own answer, or one of the same caption, is among the `best` nearest.

    queries, answers: (n, d) unit rows, row i of one belonging to row i of the other.
    """
    groups = np.unique(np.asarray(captions), return_inverse=True)[1]
    nearest = np.argsort(-(queries @ answers.T), axis=1, kind="stable")[:, :best]
    return float((groups[nearest] == groups[:, None]).any(axis=1).mean())


def scores(
    model: open_clip.CLIP, tokenize: Any, held_out: HeldOut, preprocessing: Mapping[str, Any]
) -> dict[str, float]:
    """Metric -> share in [0, 1]; zero-shot accuracy only where pairs have classes."""
    model.eval()
    captions = held_out.pairs.captions
    with torch.inference_mode():
        batches = torch.split(as_images(held_out.pairs.pixels), _BATCH)
        images = np.concatenate(
            [
                model.encode_image(normalised(batch, preprocessing), normalize=True).numpy()
                for batch in batches
            ]
        )
        texts = _texts(model, tokenize, captions)
        found = {
            f"{name}_recall_at_{best}": recall_at(asked, answers, captions, best)
            for name, asked, answers in (("image_to_text", images, texts), ("text_to_image", texts, images))
            for best in (1, 5)
        }
        if held_out.labelled:
            classes = np.stack(
                [_texts(model, tokenize, prompts).mean(axis=0) for prompts in held_out.prompts]
            )
            classes /= np.linalg.norm(classes, axis=1, keepdims=True)
            known = held_out.labels >= 0
            guessed = (images[known] @ classes.T).argmax(axis=1)
            found["zero_shot_accuracy"] = float((guessed == held_out.labels[known]).mean())
    return found


def _texts(model: open_clip.CLIP, tokenize: Any, texts: Sequence[str]) -> NDArray[np.float32]:
    rows = [
        model.encode_text(tokenize(list(texts[start : start + _BATCH])), normalize=True).numpy()
        for start in range(0, len(texts), _BATCH)
    ]
    return np.concatenate(rows)
