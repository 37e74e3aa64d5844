"""Pairs whose captions name a concept, a fifth of them the wrong one, in the demonstration's CLIP space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from filters.core.uids import format_uids
from tests.compared import MODEL
from transforms.measures.clip import Clip
from transforms.vocabulary import class_embeddings, load_vocabulary

CLIP = Clip(model=f"local-dir:{MODEL}", device="cpu")
NAMES = ("star", "circle", "square", "triangle", "heart")
VOCABULARY = "templates: ['a {}']\nconcepts: [star, circle, square, triangle, heart]\n"


@dataclass(frozen=True)
class Labelled:
    """A pool, the file of its vocabulary, and what its pictures show.

    Attributes:
        shown: (n,) int64 concept of the picture; wrong: (n,) bool, the caption names another.
    """

    rows: dict[str, Any]
    labels: str
    shown: np.ndarray
    wrong: np.ndarray


def labelled(folder: Path, count: int, seed: int = 0, *, spread: float = 0.5) -> Labelled:
    """`count` pairs; every picture is its concept's prompt and some noise."""
    path = folder / "concepts.yaml"
    path.write_text(VOCABULARY, encoding="utf-8")
    generator = np.random.default_rng(seed)
    centres = class_embeddings(load_vocabulary(str(path)), CLIP)
    shown = generator.integers(0, len(NAMES), count)
    wrong = generator.random(count) < 0.2
    said = np.where(wrong, (shown + generator.integers(1, len(NAMES), count)) % len(NAMES), shown)
    noise = generator.normal(size=(count, centres.shape[1])) / np.sqrt(centres.shape[1])
    rows = {
        "uid": format_uids(generator.integers(0, 2**64, (count, 2), dtype=np.uint64)),
        "image": (centres[shown] + spread * noise).astype(np.float16),
        "text": (centres[said] + 0.1 * noise[::-1]).astype(np.float16),
        "caption": [f"a {NAMES[concept]}" for concept in said],
        "failure": [None] * count,
    }
    return Labelled(rows, str(path), shown, wrong)


def rank(scores: np.ndarray, wrong: np.ndarray) -> float:
    """The share of (wrong, right) pairs in the right order; ties count half."""
    apart = scores[wrong][:, None] - scores[~wrong]
    return float(((apart > 0) + 0.5 * (apart == 0)).mean())
