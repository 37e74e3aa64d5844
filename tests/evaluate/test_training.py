"""Pictures as a small model sees them, and a loop that lowers a loss the same way each time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from curate.evaluate.training import Schedule, augmented, shrunk, train_model

PLAIN = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


def test_the_middle_square_is_what_a_model_sees() -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 200
    small = shrunk(Image.fromarray(pixels), 10)
    assert small.shape == (10, 10, 3)
    assert small.dtype == np.uint8
    assert (small[:, 2:8] > 190).all()


@pytest.mark.parametrize("size", [(30_000, 3), (3, 30_000), (1, 1)])
def test_a_line_of_a_picture_is_not_blown_up(size: tuple[int, int]) -> None:
    assert shrunk(Image.new("RGB", size, (9, 9, 9)), 32).shape == (32, 32, 3)


def test_a_picture_is_shifted_and_relit_but_never_mirrored() -> None:
    pixels = np.zeros((8, 16, 16, 3), np.uint8)
    pixels[:, :, :8] = 100  # bright on the left
    shown = augmented(pixels, Schedule(1, 8), PLAIN, np.random.default_rng(0))
    assert shown.shape == (8, 3, 16, 16)
    assert (shown[:, :, 8, 3] > shown[:, :, 8, 12]).all()
    assert len(torch.unique(shown[:, 0, 8, 0])) > 1
    still = augmented(pixels, Schedule(1, 8, max_shift_pixels=0), PLAIN, np.random.default_rng(0))
    assert ((still[:, 0] > 0).sum(dim=(1, 2)) == 8 * 16).all()


class Line(torch.nn.Module):
    """One number to learn, and the scale that every CLIP has."""

    def __init__(self) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1))
        self.logit_scale = torch.nn.Parameter(torch.tensor(9.0))


def test_the_loss_falls_every_step_is_heard_and_the_scale_is_bounded() -> None:
    line, heard = Line(), list[tuple[int, float]]()
    schedule = Schedule(60, 1, learning_rate=0.05, warmup_steps=5)

    def loss() -> torch.Tensor:
        return ((line.place - 1) ** 2).sum()

    train_model(line, loss, schedule, lambda step, value: heard.append((step, value)))
    assert [step for step, _ in heard] == list(range(60))
    assert heard[-1][1] < 0.1 * heard[0][1]
    assert line.logit_scale.item() == pytest.approx(math.log(50.0))


def test_parameters_of_the_loss_learn_too() -> None:
    line, offset = Line(), torch.nn.Parameter(torch.zeros(1))
    schedule = Schedule(20, 1, learning_rate=0.05, warmup_steps=1)

    def loss() -> torch.Tensor:
        return ((offset - 1) ** 2).sum()

    train_model(line, loss, schedule, lambda *_: None, (offset,))
    assert offset.item() > 0.2
