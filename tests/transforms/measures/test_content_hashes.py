"""Hashes that say which files, and which pictures, are the same."""

from __future__ import annotations

import xxhash
from PIL import Image

from tests.pools import photo
from tests.transforms.reading import named
from transforms.decode import decode_image
from transforms.measure import SampleMeasure
from transforms.pool import PoolOptions


def hashes(*images: bytes) -> list[tuple[str, str]]:
    options = named("content_hashes").options
    assert isinstance(options, SampleMeasure)
    meter = options.meter("content_hashes")
    found = meter.measure([meter.prepare(decode_image(image, "", PoolOptions()), "") for image in images])
    return list(zip(found.columns["bytes_hash"], found.columns["pixels_hash"], strict=True))


def test_the_same_pixels_in_png_and_bmp_have_one_pixels_hash() -> None:
    png, bmp = hashes(photo(1, form="PNG"), photo(1, form="BMP"))
    assert png[1] == bmp[1]
    assert png[0] != bmp[0]


def test_other_pixels_and_other_shapes_have_other_hashes() -> None:
    found = hashes(photo(1, form="PNG"), photo(2, form="PNG"), photo(1, size=(48, 24), form="PNG"))
    assert len({pixels for _, pixels in found}) == 3


def test_the_shape_counts_where_the_pixels_are_the_same() -> None:
    import io

    sinks = [io.BytesIO(), io.BytesIO()]
    for sink, size in zip(sinks, [(4, 2), (2, 4)], strict=True):
        Image.new("RGB", size).save(sink, "PNG")
    wide, tall = hashes(*(sink.getvalue() for sink in sinks))
    assert wide[1] != tall[1]


def test_the_bytes_hash_is_of_the_file() -> None:
    image = photo(1)
    ((encoded, pixels),) = hashes(image)
    assert encoded == xxhash.xxh3_128_hexdigest(image)
    assert len(pixels) == 32
