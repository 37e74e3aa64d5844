"""One small picture laid over another: known shifts, sizes and mirror images are found again."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from transforms.registration import SIDE, Floats, inverted, register, seen_through

EXTENT = 256


def landscape(seed: int = 0) -> Image.Image:
    """Smooth light of several coarsenesses, as a picture of 256 x 256 floats."""
    random = np.random.default_rng(seed)
    light = np.zeros((EXTENT, EXTENT), dtype=np.float32)
    for cells, strength in ((4, 40), (9, 30), (20, 20)):
        coarse = Image.fromarray(random.uniform(-1, 1, (cells, cells)).astype(np.float32))
        light += strength * np.asarray(coarse.resize((EXTENT, EXTENT), Image.Resampling.BICUBIC))
    return Image.fromarray(light + 128)


def view(left: float, top: float, right: float, bottom: float, *, mirrored: bool = False) -> Floats:
    """(1, 32, 32): a part of the landscape; the whole is 0, 0, 1, 1."""
    box = (EXTENT * left, EXTENT * top, EXTENT * right, EXTENT * bottom)
    pixels = np.asarray(landscape().resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))
    return pixels[None, :, ::-1].copy() if mirrored else pixels[None].copy()


WHOLE = view(0, 0, 1, 1)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 1, 1),
        (0.1, 0.1, 0.9, 0.9),
        (0, 0.25, 0.75, 1),
        (0.2, 0, 1, 0.9),
        (0.12, 0, 0.88, 1),
        (0, 0.3, 1, 1),
    ],
)
def test_a_part_is_found_in_the_whole(box: tuple[float, float, float, float], *, mirrored: bool) -> None:
    (found,), (agreement,) = register(WHOLE, view(*box, mirrored=mirrored))
    left, top, right, bottom = box
    sign = -1 if mirrored else 1
    middle = -(left + right - 1) / (right - left), -(top + bottom - 1) / (bottom - top)
    expected = [[sign / (right - left), 0, sign * middle[0]], [0, 1 / (bottom - top), middle[1]]]
    assert found == pytest.approx(np.array(expected), abs=0.03)
    assert agreement > 0.9


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0), (1.5, -60), (0.8, 60)])
def test_brightness_and_contrast_make_no_difference(gain: float, offset: float) -> None:
    (found,), (agreement,) = register(WHOLE, WHOLE * gain + offset)
    assert found == pytest.approx(np.eye(2, 3), abs=0.01)
    assert agreement > 0.95


def test_what_has_nothing_in_common_is_left_alone() -> None:
    flat = np.full((1, SIDE, SIDE), 77, dtype=np.float32)
    for first, second in ((WHOLE, flat), (flat, WHOLE), (flat, flat)):
        (found,), (agreement,) = register(first, second)
        assert (found == np.eye(2, 3)).all()
        assert agreement == 0


def test_no_pictures_have_no_maps() -> None:
    maps, agreement = register(WHOLE[:0], WHOLE[:0])
    assert maps.shape == (0, 2, 3)
    assert agreement.shape == (0,)


def test_a_picture_seen_through_no_change_is_itself() -> None:
    seen, inside = seen_through(WHOLE, np.eye(2, 3, dtype=np.float32)[None])
    assert seen == pytest.approx(WHOLE.reshape(1, -1), abs=1e-3)
    assert inside.all()


def test_beyond_the_picture_is_not_inside() -> None:
    half = np.array([[[1, 0, 1], [0, 1, 0]]], dtype=np.float32)
    seen, inside = seen_through(WHOLE, half)
    grid = inside.reshape(SIDE, SIDE)
    assert grid[:, : SIDE // 2].all()
    assert not grid[:, SIDE // 2 :].any()
    shifted = seen.reshape(SIDE, SIDE)[:, : SIDE // 2]
    assert shifted == pytest.approx(WHOLE[0, :, SIDE // 2 :], abs=1e-3)


def test_a_map_and_its_inverse_undo_each_other() -> None:
    there = np.array([[[0.8, 0.1, 0.3], [-0.05, 1.2, -0.2]]], dtype=np.float32)
    point = np.array([0.4, -0.7, 1], dtype=np.float32)
    away = np.append(there[0] @ point, 1)
    assert inverted(there)[0] @ away == pytest.approx(point[:2], abs=1e-6)
