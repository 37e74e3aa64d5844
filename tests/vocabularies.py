"""A small vocabulary and pictures of its concepts, in the embeddings of the demo model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from filters.core.uids import format_uids
from transforms.measures.clip import Clip
from transforms.vocabulary import Vocabulary, class_embeddings, load_vocabulary

CLIP = Clip(model=f"local-dir:{Path(__file__).parents[1] / 'curate' / 'demo' / 'model'}")
FLAT = "concepts: [circle, square, star, ring]\n"
DEEP = "concepts: {shape: {children: [circle, square]}, star: , ring: }\n"


def written(folder: Path, text: str = FLAT) -> str:
    """The path of a vocabulary file with this text."""
    path = folder / "concepts.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def pictures(vocabulary: Vocabulary, shown: Any, noise: float, seed: int = 0) -> Any:
    """(n, d) float16: the embeddings of the concepts shown, and so much noise."""
    classes = class_embeddings(vocabulary, CLIP)[shown]
    return (classes + noise * np.random.default_rng(seed).normal(size=classes.shape)).astype(np.float16)


def labelled_rows(path: str, count: int, *, wrong: float = 0.2, seed: int = 0) -> dict[str, Any]:
    """A part: pictures of concepts without children, some with the name of another one as caption."""
    vocabulary = load_vocabulary(path)
    generator = np.random.default_rng(seed)
    shown = generator.choice(vocabulary.leaves, count)
    said = np.where(generator.random(count) < wrong, generator.choice(vocabulary.leaves, count), shown)
    words = generator.integers(0, 2**64, (count, 2), dtype=np.uint64)
    return {
        "uid": format_uids(words),
        "caption": [f"a photo of two {vocabulary.concepts[place].name}s" for place in said],
        "vectors": pictures(vocabulary, shown, 0.15, seed),
    }
