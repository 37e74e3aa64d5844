"""Original images found again, and made small."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.pools import photo, sample, write_tar
from transforms.pool import PoolOptions, RawSample
from transforms.pools.webdataset import read_tar
from transforms.thumbnails import read_original, thumbnail


def rows_of(tar: Path) -> list[RawSample]:
    with tar.open("rb") as stream:
        return [item for item in read_tar(stream, PoolOptions()) if isinstance(item, RawSample)]


def test_an_image_of_a_tar_is_read_by_offset(tmp_path: Path) -> None:
    images = [photo(1), photo(2, form="PNG")]
    tar = write_tar(
        tmp_path / "0.tar", sample("1", images[0], "a") + sample("2", images[1], "b", extension="png")
    )
    for raw, image in zip(rows_of(tar), images, strict=True):
        found = read_original(str(tar), {}, raw.offset, raw.image_offset, raw.image_bytes, "webdataset")
        assert found == image


@pytest.mark.parametrize("nested", [False, True])
def test_an_image_of_a_parquet_shard_is_read_by_row(tmp_path: Path, *, nested: bool) -> None:
    images = [photo(seed) for seed in range(80)]
    values = [{"bytes": image, "path": None} for image in images] if nested else images
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table({"n": range(80), "image": values}), path, row_group_size=50)
    for row in (0, 33, 49, 50, 79):
        assert read_original(str(path), {}, row, None, len(images[row]), "parquet") == images[row]
    assert read_original(str(path), {}, 80, None, len(images[0]), "parquet") is None
    assert read_original(str(path), {}, 0, None, len(images[0]), "parquet", ("photo",)) is None


def test_what_can_not_be_read_is_none(tmp_path: Path) -> None:
    assert read_original(str(tmp_path / "gone.tar"), {}, 0, 512, 10, "webdataset") is None
    assert read_original("nosuchscheme://x/y.tar", {}, 0, 512, 10, "webdataset") is None
    assert read_original(str(tmp_path), {}, 0, None, None, "parquet") is None
    assert read_original(str(tmp_path), {}, 0, None, 10, "webdataset") is None
    (tmp_path / "short.tar").write_bytes(b"x" * 100)
    assert read_original(str(tmp_path / "short.tar"), {}, 0, 90, 20, "webdataset") is None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape(form: str) -> None:
    content = thumbnail(photo(3, size=(400, 200), form=form), 112)
    assert content is not None
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("JPEG", (112, 56))


def test_a_small_picture_is_not_enlarged() -> None:
    content = thumbnail(photo(4, side=16))
    assert content is not None
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (16, 16)


def test_broken_pictures_have_no_thumbnail() -> None:
    assert thumbnail(b"") is None
    assert thumbnail(b"<html>") is None
    assert thumbnail(photo(5)[:200]) is None


def test_a_decompression_bomb_has_no_thumbnail() -> None:
    small = photo(6, form="PNG")
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + small[24:29]
    assert thumbnail(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]) is None
