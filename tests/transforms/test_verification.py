"""Copies are told from other pictures, and what was done to them; whichever of the two comes first."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from curate.demo.world import draw_scene
from transforms.verification import (
    COPY_SCORE,
    KINDS,
    SAME_COLOURS_CHANGED,
    SAME_FRAMING_MOVED,
    SIMILAR_SCORE,
    Verified,
    duplicate_kind,
    verify_pairs,
)

SCENES = 60
Edit = Callable[[Image.Image], Image.Image]


@cache
def scenes(count: int = SCENES) -> list[Image.Image]:
    return [draw_scene(7, index).image for index in range(count)]


def thumbnails(pictures: list[Image.Image], side: int = 32) -> np.ndarray:
    size = (side, side)
    return np.stack([np.asarray(picture.resize(size, Image.Resampling.BILINEAR)) for picture in pictures])


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def resized(picture: Image.Image, scale: float) -> Image.Image:
    size = round(picture.width * scale), round(picture.height * scale)
    return picture.resize(size, Image.Resampling.BICUBIC)


def cropped(picture: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = picture.size
    return picture.crop(
        (round(width * left), round(height * top), round(width * right), round(height * bottom))
    )


def kinds(found: Verified, *, same_pixels: bool = False) -> np.ndarray:
    return duplicate_kind(found, np.full(len(found.score), same_pixels))


def of_flat(*levels: tuple[int, int, int]) -> np.ndarray:
    return np.stack([np.full((32, 32, 3), level, dtype=np.uint8) for level in levels])


REENCODED: dict[str, Edit] = {
    "low quality": lambda picture: jpeg(picture, 40),
    "half size": lambda picture: jpeg(resized(picture, 0.5), 88),
    "larger": lambda picture: jpeg(resized(picture, 1.6), 88),
}
EDITED: dict[str, Edit] = {
    "cut at all sides": lambda picture: jpeg(cropped(picture, 0.05, 0.05, 0.95, 0.95), 88),
    "cut at two sides": lambda picture: cropped(picture, 0, 0.2, 0.8, 1),
    "cut to a square": lambda picture: cropped(picture, 0.15, 0, 0.85, 1),
    "mirrored": lambda picture: jpeg(ImageOps.mirror(picture), 88),
    "mirrored and cut": lambda picture: ImageOps.mirror(cropped(picture, 0.1, 0, 1, 0.9)),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.25),
    "less contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.6),
}


@pytest.mark.parametrize("name", REENCODED)
def test_another_encoding_or_size_is_re_encoded(name: str) -> None:
    copies = [REENCODED[name](picture) for picture in scenes()]
    assert (kinds(verify_pairs(thumbnails(scenes()), thumbnails(copies))) == "re-encoded").all()


@pytest.mark.parametrize("name", EDITED)
def test_edits_are_found(name: str) -> None:
    found = verify_pairs(thumbnails(scenes()), thumbnails([EDITED[name](each) for each in scenes()]))
    # A scene with one small thing at the border can lose it to the cut.
    assert np.mean(kinds(found) == "edited") >= 0.95
    assert np.mean(found.orientation == name.startswith("mirrored")) >= 0.95


def test_a_cut_is_measured() -> None:
    found = verify_pairs(
        thumbnails(scenes()), thumbnails([cropped(each, 0, 0.2, 0.8, 1) for each in scenes()])
    )
    assert np.median(found.scale) == pytest.approx(1.25, abs=0.03)
    assert np.median(found.shift, axis=0) == pytest.approx([0.125, -0.125], abs=0.01)
    # The corner between the cuts moves by a quarter of the side, both ways.
    assert np.median(found.moved) == pytest.approx(0.25 * 2**0.5, abs=0.02)


def test_other_pictures_are_not_copies() -> None:
    pictures = thumbnails(scenes(201))
    assert (kinds(verify_pairs(pictures[:-1], pictures[1:])) == "none").all()


def test_a_shared_horizon_makes_no_copy() -> None:
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    pictures[:, :18], pictures[:, 18:] = (150, 180, 220), (40, 70, 120)
    pictures[0, 15:18, 4:12], pictures[1, 8:18, 22:24] = (90, 90, 90), (90, 90, 90)
    found = verify_pairs(pictures[:1], pictures[1:])
    assert kinds(found).tolist() == ["none"]


def test_the_same_shape_in_another_colour_on_a_plain_ground_is_no_copy() -> None:
    pictures = np.full((2, 32, 32, 3), 240, np.uint8)
    pictures[0, 8:20, 8:20], pictures[1, 10:22, 12:24] = (200, 40, 40), (40, 60, 200)
    assert kinds(verify_pairs(pictures[:1], pictures[1:])).tolist()[0] in {"none", "similar"}


def mixed_pairs() -> tuple[np.ndarray, np.ndarray]:
    """Re-encoded, edited, similar, unrelated and flat pairs."""
    edits = [*REENCODED.values(), *EDITED.values()]
    left = [each for _ in edits for each in scenes(12)] + scenes(SCENES)[:-1]
    right = [edit(each) for edit in edits for each in scenes(12)] + scenes(SCENES)[1:]
    flat = of_flat((10, 10, 10), (10, 10, 10), (10, 10, 10))
    other = of_flat((10, 10, 10), (10, 11, 10), (200, 10, 10))
    return np.concatenate([thumbnails(left), flat]), np.concatenate([thumbnails(right), other])


def test_the_order_of_a_pair_makes_no_difference() -> None:
    left, right = mixed_pairs()
    there, back = verify_pairs(left, right), verify_pairs(right, left)
    assert set(kinds(there)) >= {"re-encoded", "edited", "none"}
    for name in ("score", "orientation", "moved", "changed"):
        assert (getattr(there, name) == getattr(back, name)).all()
    assert there.scale * back.scale == pytest.approx(1, abs=1e-5)


def test_a_pair_is_judged_alike_alone_and_among_others() -> None:
    left, right = mixed_pairs()
    together = verify_pairs(left, right)
    mixed = np.random.default_rng(0).permutation(len(left))
    assert verify_pairs(left[mixed], right[mixed]).score == pytest.approx(together.score[mixed], abs=1e-5)
    for at in range(0, len(left), 7):
        alone = verify_pairs(left[at : at + 1], right[at : at + 1])
        assert alone.score[0] == pytest.approx(together.score[at], abs=1e-5)


def test_every_figure_is_finite_and_in_its_range() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    left, right = mixed_pairs()
    found = verify_pairs(np.concatenate([left, noise[:20]]), np.concatenate([right, noise[20:]]))
    for name in ("score", "scale", "shift", "moved", "changed"):
        assert np.isfinite(getattr(found, name)).all()
    assert (np.abs(found.score) <= 1).all()
    assert set(found.orientation.tolist()) == {0, 1}


def test_a_flat_picture_agrees_with_an_equal_one_only() -> None:
    grey, nearly, white = (128, 128, 128), (128, 129, 127), (255, 255, 255)
    found = verify_pairs(of_flat(grey, grey, grey), of_flat(grey, nearly, white))
    assert found.score.tolist() == [1, 1, 0]
    assert kinds(found).tolist() == ["re-encoded", "re-encoded", "none"]
    scene = thumbnails(scenes()[:1])
    assert kinds(verify_pairs(of_flat(grey), scene)).tolist() == ["none"]


def test_structure_in_one_direction_is_no_proof() -> None:
    ramp = np.linspace(0, 250, 32)[:, None, None] * np.ones((32, 3))
    pictures = np.stack([ramp, ramp * 0.8]).astype(np.uint8)
    assert kinds(verify_pairs(pictures[:1], pictures[1:])).tolist() == ["none"]
    assert kinds(verify_pairs(pictures, pictures)).tolist() == ["re-encoded", "re-encoded"]


def test_larger_thumbnails_are_averaged_down() -> None:
    copies = [jpeg(cropped(each, 0.05, 0.05, 0.95, 0.95), 88) for each in scenes()]
    large = verify_pairs(thumbnails(scenes(), 96), thumbnails(copies, 96))
    assert np.mean(kinds(large) == "edited") >= 0.9


def test_no_pairs_have_no_figures() -> None:
    none = np.zeros((0, 32, 32, 3), np.uint8)
    found = verify_pairs(none, none)
    assert found.score.shape == found.orientation.shape == (0,)
    assert found.shift.shape == (0, 2)
    assert kinds(found).shape == (0,)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((1, 32, 32, 3), (2, 32, 32, 3)),
        ((1, 48, 48, 3), (1, 48, 48, 3)),
        ((1, 32, 64, 3), (1, 32, 64, 3)),
        ((1, 32, 32), (1, 32, 32)),
        ((1, 0, 0, 3), (1, 0, 0, 3)),
    ],
)
def test_other_shapes_are_refused(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        verify_pairs(np.zeros(left, np.uint8), np.zeros(right, np.uint8))


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="float32"):
        verify_pairs(np.zeros((1, 32, 32, 3), np.float32), np.zeros((1, 32, 32, 3), np.uint8))


def verdict(score: float, *, mirrored: bool = False, moved: float = 0, changed: float = 0) -> Verified:
    """One pair of which this was found."""
    one = np.ones(1, np.float32)
    orientation = np.array([mirrored], np.int8)
    return Verified(score * one, orientation, one, np.zeros((1, 2), np.float32), moved * one, changed * one)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (verdict(COPY_SCORE), "re-encoded"),
        (verdict(np.nextafter(np.float32(COPY_SCORE), 0, dtype=np.float32)), "similar"),
        (verdict(SIMILAR_SCORE), "similar"),
        (verdict(SIMILAR_SCORE - 0.001), "none"),
        (verdict(1, moved=SAME_FRAMING_MOVED), "re-encoded"),
        (verdict(1, moved=SAME_FRAMING_MOVED + 0.001), "edited"),
        (verdict(1, changed=SAME_COLOURS_CHANGED), "re-encoded"),
        (verdict(1, changed=SAME_COLOURS_CHANGED + 0.1), "edited"),
        (verdict(1, mirrored=True), "edited"),
        (verdict(0), "none"),
        (verdict(-1), "none"),
    ],
)
def test_bounds_are_inclusive(found: Verified, kind: str) -> None:
    assert kinds(found).tolist() == [kind]
    assert kind in KINDS


def test_the_same_pixels_are_exact_whatever_the_thumbnails_say() -> None:
    assert kinds(verdict(0), same_pixels=True).tolist() == ["exact"]


def test_bounds_can_be_chosen() -> None:
    none = np.zeros(1, bool)
    assert duplicate_kind(verdict(0.7), none, copy_score=0.7).tolist() == ["re-encoded"]
    assert duplicate_kind(verdict(0.5), none, similar_score=0.5).tolist() == ["similar"]


@pytest.mark.slow
def test_near_duplicates_that_people_judged_are_found_and_little_else(shared: Path) -> None:
    """Of 113 unlisted pairs that were looked at 6 were wrong: `benchmarks/near_duplicates.py`."""
    from benchmarks.near_duplicates import NEIGHBOURS, is_listed, read_pool, recall

    pool = read_pool(shared / "data" / "near-duplicates", shared / "models" / "cifar-clip")
    pairs, found = pool.verified(NEIGHBOURS)
    copies = pairs[np.isin(kinds(found), ("re-encoded", "edited"))]
    near, everything = recall(copies, pool)
    assert near >= 0.9
    assert everything >= 0.8
    assert len(pairs) > 100_000
    assert (~is_listed(copies, pool)).sum() <= 125
