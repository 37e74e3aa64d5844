"""PDQ and pHash: what they stand, what they do not, and where they say nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from tests.pools import photo, sample, write_tar
from tests.transforms.reading import measure, named, shards_of
from transforms.decode import decode_image
from transforms.hamming import hamming
from transforms.measure import SampleMeasure
from transforms.measures.perceptual_hashes import (
    COLUMNS,
    VARIANTS,
    codes_of,
    pdq_hashes,
    pdq_reduced,
    phashes,
)
from transforms.pool import PoolOptions
from transforms.store import Store

PDQ_RADIUS, PHASH_RADIUS, DRAWN = 31, 10, 20
TURNS = (
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.ROTATE_180,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,  # counter-clockwise, so a quarter clockwise
    Image.Transpose.ROTATE_90,
    Image.Transpose.TRANSVERSE,
)


def drawn(seed: int) -> Image.Image:
    """A made-up photograph: light of several coarsenesses, and shapes with edges."""
    random = np.random.default_rng(seed)
    light = np.zeros((240, 320, 3))
    for cells, strength in ((3, 60), (8, 40), (24, 25)):
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        light += (np.asarray(coarse.resize((320, 240), Image.Resampling.BICUBIC)) / 127.5 - 1) * strength
    picture = Image.fromarray(np.clip(light + 118, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for left, top, wide, high in random.integers(20, 180, (5, 4)):
        draw.ellipse([(left, top), (left + wide / 2, top + high / 2)], fill=tuple(random.integers(0, 256, 3)))
    return picture


def jpeg(picture: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=30)
    return Image.open(stream).convert("RGB")


def cropped(picture: Image.Image, share: float) -> Image.Image:
    """The picture without this share of its width and height at each side."""
    across, down = (round(side * share) for side in picture.size)
    return picture.crop((across, down, picture.width - across, picture.height - down))


def grey(picture: Image.Image) -> Image.Image:
    return picture.convert("L").convert("RGB")


def distances(one: Image.Image, other: Image.Image) -> tuple[int, int]:
    pdq = hamming(pdq_hashes(one)[0][0], pdq_hashes(other)[0][0])
    return int(pdq), int(hamming(phashes(one)[0][0], phashes(other)[0][0]))


def shares(change: Callable[[Image.Image], Image.Image]) -> tuple[float, float]:
    """The share of drawn pictures that are near copies of themselves changed, by PDQ and by pHash."""
    found = np.array([distances(drawn(seed), change(drawn(seed))) for seed in range(DRAWN)])
    pdq, phash = (found <= (PDQ_RADIUS, PHASH_RADIUS)).mean(axis=0)
    return float(pdq), float(phash)


def hashes(*images: bytes) -> dict[str, list[Any]]:
    options = named("perceptual_hashes").options
    assert isinstance(options, SampleMeasure)
    meter = options.meter("perceptual_hashes")
    prepared = [meter.prepare(decode_image(image, "", PoolOptions()), "") for image in images]
    columns = meter.measure(prepared).columns
    assert list(columns) == [column.name for column in COLUMNS]
    return {name: list(values) for name, values in columns.items()}


def encoded(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        jpeg,
        grey,
        lambda picture: picture.resize((160, 120)),
        lambda picture: picture.resize((240, 240)),
    ],
    ids=["jpeg", "grey", "half size", "aspect"],
)
def test_both_stand(change: Callable[[Image.Image], Image.Image]) -> None:
    assert shares(change) == (1.0, 1.0)


def test_a_crop_of_5_per_cent_is_beyond_pdq_and_often_beyond_phash() -> None:
    pdq, phash = shares(lambda picture: cropped(picture, 0.05))
    assert pdq <= 0.1
    assert 0.2 < phash < 1


def test_a_crop_of_20_per_cent_is_beyond_both() -> None:
    assert shares(lambda picture: cropped(picture, 0.2)) == (0.0, 0.0)


def test_another_picture_is_far_away() -> None:
    found = [distances(drawn(seed), drawn(seed + 1)) for seed in range(DRAWN)]
    assert np.min(found, axis=0).tolist() > [80, 14]


@pytest.mark.parametrize("number", range(1, 8), ids=VARIANTS[1:])
def test_a_flip_or_turn_is_found_by_its_variant_only(number: int) -> None:
    turn = TURNS[number - 1]
    for seed in range(DRAWN // 2):
        picture = drawn(seed)
        turned = picture.transpose(turn)
        pdq = hamming(pdq_hashes(picture)[0], pdq_hashes(turned)[0][0])
        phash = hamming(phashes(picture)[0], phashes(turned)[0][0])
        assert np.flatnonzero(pdq <= PDQ_RADIUS).tolist() == [number]
        assert np.flatnonzero(phash <= PHASH_RADIUS).tolist() == [number]


def test_the_first_variant_is_the_picture_itself() -> None:
    found = hashes(encoded(drawn(1)))
    assert found["pdq_flips"][0][:64] == found["pdq_hash"][0]
    assert found["phash_flips"][0][:16] == found["phash"][0]
    assert [len(found[name][0]) for name in ("pdq_flips", "phash_flips")] == [512, 128]


def test_a_flat_picture_has_quality_0_and_variance_0() -> None:
    found = hashes(*(encoded(Image.new("RGB", (90, 70), colour)) for colour in ("black", "#37a", "white")))
    assert found["pdq_quality"] == [0, 0, 0]
    assert found["grey_variance"] == [0.0, 0.0, 0.0]
    assert set(found["pdq_hash"]) == {"00" * 32}
    # A black one has no light at all, so not even the lowest frequency.
    assert found["phash"] == ["00" * 8, "80" + "00" * 7, "80" + "00" * 7]


def test_stripes_are_told_by_how_few_bits_are_set_not_by_quality() -> None:
    random = np.random.default_rng(1)
    stripes = np.repeat(random.integers(0, 256, (2, 1, 10), dtype=np.uint8), 20, axis=2).repeat(200, axis=1)
    one, other = (Image.fromarray(picture).convert("RGB") for picture in stripes)
    assert pdq_hashes(one)[1] >= 50
    assert distances(one, other) <= (0, PHASH_RADIUS)
    assert np.bitwise_count(pdq_hashes(one)[0][0]).sum() == 0
    assert np.bitwise_count(phashes(one)[0][0]).sum() < 24


def test_half_the_bits_of_a_photograph_are_set() -> None:
    assert np.bitwise_count(pdq_hashes(drawn(3))[0]).sum(axis=1).tolist() == [128] * 8
    assert np.bitwise_count(phashes(drawn(3))[0]).sum(axis=1).tolist() == [32] * 8


@pytest.mark.parametrize("size", [(1, 1), (4, 400), (400, 4)])
def test_a_picture_below_5_pixels_has_no_pdq(size: tuple[int, int]) -> None:
    found, quality = pdq_hashes(drawn(1).resize(size))
    assert (found.any(), quality) == (False, 0)
    assert phashes(drawn(1).resize(size))[0].shape == (8, 8)


@pytest.mark.parametrize("size", [(5, 5), (5, 3000), (6000, 7), (63, 65), (128, 129), (3000, 1500)])
def test_any_size_and_aspect_ratio_has_its_hashes(size: tuple[int, int]) -> None:
    reduced = pdq_reduced(drawn(1).resize(size))
    assert reduced.shape == (64, 64)
    assert reduced.min() >= 0
    assert reduced.max() <= 255
    assert 0 < pdq_hashes(drawn(1).resize(size))[1] <= 100


def test_strips_of_any_number_of_rows_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = drawn(2).resize((777, 555))
    whole = pdq_reduced(picture)
    for pixels in (1, 20_000, 100_000):
        monkeypatch.setattr("transforms.measures.perceptual_hashes.STRIP_PIXELS", pixels)
        assert (pdq_reduced(picture) == whole).all()


def test_the_smoothed_picture_of_a_flat_one_is_flat() -> None:
    assert (pdq_reduced(Image.new("RGB", (333, 1000), (200, 200, 200))) == 200).all()


def test_greyscale_palette_and_colour_of_one_picture_have_one_hash() -> None:
    picture = grey(drawn(4))
    found = hashes(encoded(picture), encoded(picture.convert("L")), encoded(picture.quantize(256)))
    assert len(set(found["pdq_hash"][:2])) == 1
    assert len(set(found["phash"][:2])) == 1
    assert distances(picture, picture.quantize(256).convert("RGB")) <= (4, 2)


def test_the_hashes_of_a_known_picture() -> None:
    """Those of pdqhash 0.2.8 and ImageHash 4.3.2."""
    rows, columns = np.indices((180, 240))
    waves = np.stack([rows * columns // 9, rows * rows // 5 + columns, columns * 3], axis=2)
    found = hashes(encoded(Image.fromarray((waves % 256).astype(np.uint8))))
    assert found["pdq_hash"][0] == "cea3cc6b9ceb38eb60e2c18a87ce070e1e4e7d3ef07e807801f43ef4f790e140"
    assert found["pdq_quality"] == [100]
    assert found["phash"][0] == "8201071f1f1f3f3e"


def test_duckdb_and_numpy_read_the_columns(tmp_path: Path) -> None:
    members = [
        *sample("0", photo(1), "one"),
        *sample("1", b"broken", "none"),
        *sample("2", photo(2), "two"),
    ]
    store = Store.at(str(tmp_path / "store"))
    hashed = named("perceptual_hashes")
    (report,) = measure(store, shards_of(write_tar(tmp_path / "0.tar", members)), hashed)
    assert (report.rows, report.failed_rows) == (3, 1)
    stored = store.read_part(hashed.group, report.part)
    assert stored["pdq_hash"].is_null().to_pylist() == [False, True, False]
    codes = codes_of(stored["pdq_hash"].drop_null(), 32)
    expected = int(hamming(*codes))
    assert expected > PDQ_RADIUS
    distance = "bit_count(xor(unhex(a.pdq_hash)::BIT, unhex(b.pdq_hash)::BIT))"
    answer = duckdb.sql(f"SELECT {distance} FROM stored a, stored b")  # noqa: S608
    found = [value for (value,) in answer.fetchall()]
    assert sorted(value for value in found if value is not None) == [0, 0, expected, expected]
    assert found.count(None) == 5
    flips = codes_of(stored["phash_flips"].drop_null(), 64).reshape(-1, 8, 8)
    assert (flips[:, 0] == codes_of(stored["phash"].drop_null(), 8)).all()


def test_columns_become_codes() -> None:
    found = codes_of(pa.chunked_array([["00ff"], ["a1B2"]]), 2)
    assert (found.tolist(), found.dtype) == ([[0, 255], [161, 178]], np.uint8)
    assert codes_of(pa.array([], pa.string()), 32).shape == (0, 32)
    for texts, error in ((["00"], ValueError), (["00ff", "0"], ValueError), (["zzzz"], ValueError)):
        with pytest.raises(error):
            codes_of(pa.array(texts), 2)
    with pytest.raises(TypeError):
        codes_of(pa.array(["00ff", None]), 2)
