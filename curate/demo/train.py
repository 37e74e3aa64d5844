"""Train the demonstration's small CLIP on drawn scenes.

    python -m curate.demo.train [--out DIR] [--steps N] [--scenes N]

The loss has two parts. The contrastive one (Radford et al. 2021, section 2.3) ranks the captions of a batch
for each image; every image also brings one hard negative, its own caption with one fact made false, which all
images see. The pairwise one is a logistic loss with one scale and one offset for all pairs (as in Zhai et al.
2023, section 3.2, but with true, false and hard pairs weighted equally): it makes cosines comparable between
images, so that a single threshold is meaningful.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch.nn import functional

from curate.demo.captions import Facts, describe, wrong_caption
from curate.demo.figures import measure_figures
from curate.demo.world import draw_scene
from curate.evaluate.training import Schedule, augmented, shrunk, train_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAIN_SEED = 20_001  # the pool's default seed is 0, the held-out seed is 20 002: no scene is in two of them
MODEL_FOLDER = Path(__file__).parent / "model"
SCHEDULE = Schedule(steps=1300, batch=256)
IMAGE_PIXELS = 64
MODEL_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": IMAGE_PIXELS, "layers": [1, 1, 1, 1], "width": 14, "head_width": 32},
        # The standard vocabulary has 49 408 tokens: the width of the text tower decides the size of the file.
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 40, "heads": 4, "layers": 3},
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How the model is trained; the defaults gave the packaged model."""

    scenes: int = 32_000
    schedule: Schedule = SCHEDULE
    threads: int = 2


def _small(index: int) -> tuple[NDArray[np.uint8], Facts]:
    """Return one training scene as the model will see it, (64, 64, 3) uint8, and its facts."""
    scene = draw_scene(TRAIN_SEED, index)
    return shrunk(scene.image, IMAGE_PIXELS), scene.facts


def draw_training_set(scenes: int, processes: int) -> tuple[NDArray[np.uint8], list[Facts]]:
    """Return (scenes, 64, 64, 3) uint8 pictures and their facts."""
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        drawn = list(pool.map(_small, range(scenes), chunksize=500))
    return np.stack([pixels for pixels, _ in drawn]), [facts for _, facts in drawn]


def _captions(shown: list[Facts], rng: np.random.Generator) -> list[str]:
    """Return a newly worded true caption for each picture, then each of these made false."""
    wordings = rng.integers(2**31, size=len(shown)).tolist()
    true = [describe(facts, wording) for facts, wording in zip(shown, wordings, strict=True)]
    return true + [wrong_caption(facts, wording, rng) for facts, wording in zip(shown, wordings, strict=True)]


class PairLoss(torch.nn.Module):
    """The training loss; its scale and offset for the pairwise part are learnt and not saved."""

    def __init__(self) -> None:
        """Start with a soft boundary at a cosine of 0.3."""
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.tensor(math.log(10.0)))
        self.offset = torch.nn.Parameter(torch.tensor(0.3))

    def forward(
        self, images: torch.Tensor, texts: torch.Tensor, wrong: torch.Tensor, logit_scale: torch.Tensor
    ) -> torch.Tensor:
        """Return the scalar loss of (n, d) unit rows: images, their captions, these captions made false."""
        own = torch.arange(len(images))
        cosines = images @ texts.T
        against_wrong = images @ wrong.T
        ranked = functional.cross_entropy(logit_scale * torch.cat([cosines, against_wrong], dim=1), own)
        ranked = (ranked + functional.cross_entropy(logit_scale * cosines.T, own)) / 2
        scale = self.log_scale.exp()
        true = functional.softplus(-scale * (cosines.diagonal() - self.offset)).mean()
        hard = functional.softplus(scale * (against_wrong.diagonal() - self.offset)).mean()
        others = functional.softplus(scale * (cosines - self.offset))
        false = (others.sum() - others.diagonal().sum()) / (len(images) * (len(images) - 1))
        return ranked + (true + hard + false) / 3


def train(settings: Settings) -> open_clip.CLIP:
    """Return the trained model; the same settings and library versions give the same weights."""
    torch.manual_seed(TRAIN_SEED)
    torch.set_num_threads(settings.threads)
    schedule = settings.schedule
    rng = np.random.default_rng([TRAIN_SEED, schedule.steps])
    started = time.monotonic()
    pixels, facts = draw_training_set(settings.scenes, settings.threads)
    print(f"{settings.scenes} scenes drawn after {time.monotonic() - started:.0f} s")
    model = open_clip.CLIP(**MODEL_CONFIG["model_cfg"]).train()
    context_length = MODEL_CONFIG["model_cfg"]["text_cfg"]["context_length"]
    tokenize = open_clip.SimpleTokenizer(context_length=context_length)
    loss = PairLoss()

    def step_loss() -> torch.Tensor:
        chosen = rng.choice(len(pixels), schedule.batch, replace=False)
        shown = augmented(pixels[chosen], schedule, MODEL_CONFIG["preprocess_cfg"], rng)
        images = model.encode_image(shown, normalize=True)
        captions = _captions([facts[index] for index in chosen], rng)
        texts, wrong = model.encode_text(tokenize(captions), normalize=True).chunk(2)
        total: torch.Tensor = loss(images, texts, wrong, model.logit_scale.exp())
        return total

    recent = 0.0

    def heard(step: int, value: float) -> None:
        nonlocal recent
        recent = value if step == 0 else 0.98 * recent + 0.02 * value
        if step % 50 == 0 or step == schedule.steps - 1:
            print(f"step {step:5d}  loss {recent:.3f}  {time.monotonic() - started:.0f} s", flush=True)

    train_model(model, step_loss, schedule, heard, tuple(loss.parameters()))
    return model


def save_model(model: torch.nn.Module, folder: Path) -> None:
    """Write open_clip's `local-dir:` layout with float16 weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    overflowing = [
        name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if overflowing:
        message = f"{overflowing} do not fit in float16; train again with a lower learning rate"
        raise ValueError(message)
    path = folder / "open_clip_model.safetensors"
    save_file(weights, path)
    path.chmod(0o644)  # safetensors lets only the owner read what it writes
    config = json.dumps(MODEL_CONFIG, indent=2) + "\n"
    (folder / "open_clip_config.json").write_text(config, encoding="utf-8")


def _readme(figures: dict[str, float], settings: Settings, minutes: float) -> str:
    schedule = settings.schedule
    rows = "\n".join(f"| {name} | {value:g} |" for name, value in figures.items())
    return f"""# The demonstration's CLIP

A small open_clip model that knows the drawn world of `curate/demo/world.py` and nothing else: a
ModifiedResNet for pictures of {IMAGE_PIXELS} x {IMAGE_PIXELS} pixels and a text tower over the standard
49 408 tokens, in float16. It exists so that the demonstration and the tests can compute real CLIP scores
within seconds on a CPU. Do not use it on photographs.

Load it with `open_clip.create_model_and_transforms("local-dir:curate/demo/model")`.

## Training

`python -m curate.demo.train` made these files from nothing: {settings.scenes} clean scenes of the world
{TRAIN_SEED}, {schedule.steps} steps of {schedule.batch} pairs, each with one hard negative caption; float32,
AdamW, cosine schedule, fixed seeds. It took {minutes:.0f} minutes on {settings.threads} CPU cores. No scene
is shared with the demonstration's pool or with the held-out scenes below.

## Figures

Measured by the script on held-out scenes with the saved float16 weights (also in `figures.json`).
A mismatched caption is one whose main object is not in the picture; a hard mismatch names the right object
with a wrong colour, count or background, as the training's hard negatives do. The suggested threshold keeps
99 % of the clean pairs.

| figure | value |
|---|---|
{rows}

## Licence

Apache-2.0, as the project. The training pictures and captions are drawn by this project's own code.
"""


def main() -> None:
    """Train, save, measure, and write the figures and the README next to the weights."""
    default = Settings()
    parser = argparse.ArgumentParser(description="Train the demonstration's small CLIP on drawn scenes.")
    parser.add_argument(
        "--out", type=Path, default=MODEL_FOLDER, help="folder to write (default: the packaged model)"
    )
    parser.add_argument("--steps", type=int, default=default.schedule.steps, help="optimisation steps")
    parser.add_argument("--scenes", type=int, default=default.scenes, help="training scenes to draw")
    arguments = parser.parse_args()
    settings = Settings(arguments.scenes, replace(default.schedule, steps=arguments.steps))
    started = time.monotonic()
    save_model(train(settings), arguments.out)
    minutes = (time.monotonic() - started) / 60
    figures = measure_figures(arguments.out)
    (arguments.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (arguments.out / "README.md").write_text(_readme(figures, settings, minutes), encoding="utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
