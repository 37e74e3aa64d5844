"""Trains a small CLIP: optimiser, schedule and the small changes of its pictures, for any loss.

The demonstration's own model (`curate.demo.train`) and the models that sets of samples are compared
by (`curate.evaluate.learner`) are trained by the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 4  # times the shorter side: of a longer picture only the middle is resized


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast a model learns."""

    steps: int
    batch: int
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    max_logit_scale: float = 50.0
    max_shift_pixels: int = 3


def shrunk(image: Image.Image, side_pixels: int) -> NDArray[np.uint8]:
    """The middle square of an RGB picture as a model sees it: (side, side, 3) uint8."""
    width, height = image.size
    short = min(width, height)
    if max(width, height) > LONGEST * short:
        wide, high = min(width, LONGEST * short), min(height, LONGEST * short)
        left, top = (width - wide) // 2, (height - high) // 2
        image = image.crop((left, top, left + wide, top + high))
        width, height = image.size
    size = width * side_pixels // short, height * side_pixels // short
    left, top = (size[0] - side_pixels) // 2, (size[1] - side_pixels) // 2
    small = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(small.crop((left, top, left + side_pixels, top + side_pixels)))


def normalised(images: torch.Tensor, preprocessing: Mapping[str, Any]) -> torch.Tensor:
    """(n, 3, side, side) float32 pictures in [0, 1] as the model wants them, by its mean and std."""
    mean = torch.tensor(preprocessing["mean"]).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing["std"]).view(1, 3, 1, 1)
    return (images - mean) / std


def as_images(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(n, side, side, 3) uint8 as (n, 3, side, side) float32 in [0, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def augmented(
    pixels: NDArray[np.uint8], schedule: Schedule, preprocessing: Mapping[str, Any], rng: np.random.Generator
) -> torch.Tensor:
    """(n, 3, side, side) float32 normalised pictures, shifted and relit a little; never mirrored."""
    reach, side = schedule.max_shift_pixels, pixels.shape[1]
    padded = np.pad(pixels, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    shifted = np.empty_like(pixels)
    for place, (dx, dy) in enumerate(rng.integers(0, 2 * reach + 1, (len(pixels), 2)).tolist()):
        shifted[place] = padded[place, dy : dy + side, dx : dx + side]
    light = torch.from_numpy(rng.uniform(0.85, 1.15, (len(pixels), 1, 1, 1)).astype(np.float32))
    return normalised((as_images(shifted) * light).clamp(0, 1), preprocessing)


def train_model(
    model: torch.nn.Module,
    step_loss: Callable[[], torch.Tensor],
    schedule: Schedule,
    heard: Callable[[int, float], object],
    others: tuple[torch.nn.Parameter, ...] = (),
) -> None:
    """Minimises the losses by AdamW, with a linear warm-up and then half a cosine down to 0.

    model: an open_clip model in training mode; step_loss: draws a batch and gives its scalar loss;
    heard: is told each step, counted from 0, and its loss; others: parameters of the loss itself.
    """
    optimizer = _optimizer(model, others, schedule)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, schedule))
    scale: Any = model.logit_scale
    for step in range(schedule.steps):
        loss = step_loss()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rates.step()
        with torch.no_grad():
            scale.clamp_(0, math.log(schedule.max_logit_scale))
        heard(step, loss.item())


def _optimizer(
    model: torch.nn.Module, others: tuple[torch.nn.Parameter, ...], schedule: Schedule
) -> torch.optim.Optimizer:
    """AdamW that decays matrices and filters, but not gains, biases, scales and token vectors."""
    decayed: list[torch.nn.Parameter] = []
    free = list(others)
    for name, parameter in model.named_parameters():
        (free if parameter.ndim < 2 or "embedding" in name else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98), eps=1e-6)


def _rate(step: int, schedule: Schedule) -> float:
    """The learning rate's factor."""
    warm = min(1.0, (step + 1) / schedule.warmup_steps)
    return warm * 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
