"""Thumbnails: the whole picture, small, and the same for the same picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from filters.core.errors import RecipeError
from tests.pools import photo, sample, write_tar
from tests.running import curate, plan_of
from tests.transforms.reading import measure, named, shards_of
from transforms.decode import decode_image
from transforms.measure import SampleMeasure
from transforms.measures.thumbnail import thumbnail_pixels
from transforms.pool import PoolOptions
from transforms.store import Store


def thumbnails(*images: bytes, size: int = 32) -> np.ndarray:
    item = named("thumbnail", size=size)
    assert isinstance(item.options, SampleMeasure)
    meter = item.options.meter("thumbnail")
    found = meter.measure([meter.prepare(decode_image(image, "", PoolOptions()), "") for image in images])
    (column,) = item.columns()
    assert list(found.columns) == [column.name]
    return thumbnail_pixels(pa.array(found.columns["thumbnail"], column.type))


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_a_picture_of_the_right_size_is_its_own_thumbnail() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert (thumbnails(png(pixels))[0] == pixels).all()


@pytest.mark.parametrize("size", [(500, 400), (400, 100), (33, 32), (7, 5), (1, 1)])
def test_every_shape_becomes_a_square(size: tuple[int, int]) -> None:
    assert thumbnails(photo(1, size=size), size=64).shape == (1, 64, 64, 3)


def test_the_whole_picture_is_there() -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:50, :150] = (255, 0, 0)
    pixels[50:, 150:] = (0, 0, 255)
    (found,) = thumbnails(png(pixels))
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[31, 31].tolist() == [0, 0, 255]
    assert found[0, 31].tolist() == [0, 0, 0]


def test_another_size_of_the_same_picture_looks_the_same() -> None:
    small, large = thumbnails(
        photo(3, size=(200, 150), form="PNG"), photo(3, size=(800, 600), form="PNG")
    ).astype(int)
    assert np.abs(small - large).max() <= 3


def test_the_column_survives_the_store_and_failed_rows_are_null(tmp_path: Path) -> None:
    tar = write_tar(
        tmp_path / "0.tar",
        sample("a", photo(1), "one") + sample("b", b"broken", "two") + sample("c", photo(2), "three"),
    )
    store = Store.at(str(tmp_path / "store"))
    item = named("thumbnail")
    measure(store, shards_of(tar), item)
    (shard,) = shards_of(tar)
    column = store.read_part(item.group, shard.part, ["thumbnail"])["thumbnail"]
    assert column.type == pa.binary(3072)
    assert column.is_valid().to_pylist() == [True, False, True]
    found = thumbnail_pixels(column)
    assert (found[[0, 2]] == thumbnails(photo(1), photo(2))).all()
    assert not found[1].any()
    assert (thumbnail_pixels(column.slice(2)) == found[2:]).all()


def test_no_rows_have_no_thumbnails() -> None:
    assert thumbnail_pixels(pa.array([], pa.binary(3072))).shape == (0, 32, 32, 3)


def test_a_recipe_asks_for_it_by_name(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", sample("a", photo(1), "one two three"))
    text = (
        "name: small\nmeasures:\n  thumbnail: {}\nfilters:\n  - min_side_pixels: 8\noutput: {report: false}"
    )
    assert curate(text, tmp_path / "pool" / "0.tar", tmp_path / "store").counts["keep"] == 1
    for size in (0, 48, 288):
        with pytest.raises(RecipeError, match="size"):
            plan_of(
                text.replace("{}", f"{{size: {size}}}", 1), tmp_path / "pool" / "0.tar", tmp_path / "store"
            )
