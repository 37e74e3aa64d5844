"""What the demonstration's model can do, measured on scenes that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import open_clip
import torch
from PIL import Image

from curate.demo.captions import wrong_caption
from curate.demo.world import Scene, draw_scene
from curate.evaluate.score import recall_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HELD_OUT_SEED = 20_002
CANDIDATES = 100
KEPT_CLEAN_FRACTION = 0.99
_BATCH = 250


@dataclass(frozen=True, slots=True)
class Encoder:
    """An open_clip model with its own preprocessing and tokenizer, on the CPU."""

    model: open_clip.CLIP
    preprocess: Callable[[Image.Image], torch.Tensor]
    tokenize: Callable[[Sequence[str]], torch.Tensor]

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """Load a model folder as any user of open_clip would: through its `local-dir:` name."""
        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        return cls(model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{folder}"))

    def images(self, pictures: Sequence[Image.Image]) -> Floats:
        """Return (n, dimensions) float64 unit rows."""
        rows = []
        with torch.inference_mode():
            for start in range(0, len(pictures), _BATCH):
                batch = torch.stack(
                    [self.preprocess(picture) for picture in pictures[start : start + _BATCH]]
                )
                rows.append(self.model.encode_image(batch, normalize=True).double().numpy())
        return np.concatenate(rows)

    def texts(self, captions: Sequence[str]) -> Floats:
        """Return (n, dimensions) float64 unit rows."""
        with torch.inference_mode():
            return np.asarray(
                self.model.encode_text(self.tokenize(captions), normalize=True).double().numpy()
            )


def auroc(higher: Floats, lower: Floats) -> float:
    """Return the share of pairs in which the first is above the second; ties count half."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left")
    up_to = np.searchsorted(ordered, higher, "right")
    return float((below + up_to).mean() / 2 / len(lower))


def other_captions(scenes: Sequence[Scene]) -> list[str]:
    """Return, for each scene, the next scene's caption whose main object is not in the picture."""
    captions = []
    for place, scene in enumerate(scenes):
        shown = {thing.kind for thing in scene.facts.things}
        around = [*scenes[place + 1 :], *scenes[:place]]
        captions.append(next(other.caption for other in around if other.concept not in shown))
    return captions


def retrieval_at_1(images: Floats, texts: Floats, captions: Sequence[str]) -> float:
    """Return the share of images whose own caption, or one of the same words, is nearest among CANDIDATES.

    Args:
        images, texts: (n, dimensions) unit rows; n is a multiple of CANDIDATES.
    """
    found = []
    for start in range(0, len(captions), CANDIDATES):
        pool = slice(start, start + CANDIDATES)
        found.append(recall_at(images[pool], texts[pool], captions[pool], 1))
    return float(np.mean(found))


def measure_figures(folder: Path, *, scenes: int = 1000, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Return the figures of the model in `folder` on held-out scenes, rounded to four digits."""
    encoder = Encoder.load(folder)
    drawn = [draw_scene(seed, index) for index in range(scenes)]
    rng = np.random.default_rng([seed, scenes])
    captions = [scene.caption for scene in drawn]
    images, texts = encoder.images([scene.image for scene in drawn]), encoder.texts(captions)
    true = (images * texts).sum(axis=1)
    mismatched = (images * encoder.texts(other_captions(drawn))).sum(axis=1)
    wrong = [wrong_caption(scene.facts, scene.wording, rng) for scene in drawn]
    hard = (images * encoder.texts(wrong)).sum(axis=1)
    colours = rng.integers(0, 256, (scenes, 3)).tolist()
    blanks = [
        Image.new("RGB", scene.image.size, (r, g, b)) for scene, (r, g, b) in zip(drawn, colours, strict=True)
    ]
    blank = (encoder.images(blanks) * texts).sum(axis=1)
    threshold = float(np.quantile(true, 1 - KEPT_CLEAN_FRACTION))
    figures = {
        "held_out_scenes": scenes,
        "image_to_text_recall_at_1_of_100": retrieval_at_1(images, texts, captions),
        "auroc_true_over_mismatched": auroc(true, mismatched),
        "auroc_true_over_hard_mismatch": auroc(true, hard),
        "own_caption_above_its_hard_mismatch": float((true > hard).mean()),
        "mean_cosine_true": float(true.mean()),
        "mean_cosine_mismatched": float(mismatched.mean()),
        "mean_cosine_hard_mismatch": float(hard.mean()),
        "mean_cosine_blank": float(blank.mean()),
        "suggested_min_clip_cosine": threshold,
        "clean_kept_fraction": float((true >= threshold).mean()),
        "mismatched_below_fraction": float((mismatched < threshold).mean()),
        "hard_mismatch_below_fraction": float((hard < threshold).mean()),
        "blank_below_fraction": float((blank < threshold).mean()),
    }
    return {name: round(value, 4) for name, value in figures.items()}
