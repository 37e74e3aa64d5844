"""Facts about pictures whose values are known beforehand."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.transforms.reading import named
from transforms.decode import decode_image
from transforms.measure import SampleMeasure
from transforms.measures.image_facts import COLUMNS, laplacian_variance, luminance_statistics
from transforms.pool import PoolOptions


def encoded(image: Image.Image, form: str, **how: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, form, **how)
    return sink.getvalue()


def facts(*images: bytes) -> list[dict[str, Any]]:
    options = named("image_facts").options
    assert isinstance(options, SampleMeasure)
    meter = options.meter("image_facts")
    prepared = [meter.prepare(decode_image(image, "", PoolOptions()), "") for image in images]
    columns = meter.measure(prepared).columns
    assert list(columns) == [column.name for column in COLUMNS]
    return [{name: values[row] for name, values in columns.items()} for row in range(len(images))]


def test_size_format_and_mode_are_those_of_the_file() -> None:
    image = encoded(Image.new("RGB", (30, 20), (200, 10, 10)).quantize(4), "PNG")
    (found,) = facts(image)
    assert (found["width"], found["height"], found["image_format"], found["image_mode"]) == (
        30,
        20,
        "PNG",
        "P",
    )
    assert (found["encoded_bytes"], found["animated"], found["grey"]) == (len(image), False, False)


def test_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (found,) = facts(encoded(Image.new("RGB", (30, 20)), "JPEG", exif=exif))
    assert (found["width"], found["height"]) == (30, 20)


def test_an_animation_is_told() -> None:
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (0, 255)]
    assert facts(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))[0]["animated"]


@pytest.mark.parametrize(
    ("colour", "grey"), [((100, 100, 100), True), ((100, 108, 100), True), ((100, 109, 100), False)]
)
def test_the_tolerance_of_grey_is_inclusive(colour: tuple[int, int, int], grey: bool) -> None:  # noqa: FBT001
    assert facts(encoded(Image.new("RGB", (64, 64), colour), "PNG"))[0]["grey"] is grey


def test_a_flat_image_has_no_entropy_deviation_or_sharpness() -> None:
    (found,) = facts(encoded(Image.new("L", (50, 50), 77), "PNG"))
    names = ("luminance_entropy", "luminance_mean", "luminance_deviation", "sharpness")
    assert [found[name] for name in names] == [0.0, 77.0, 0.0, 0.0]
    assert str(found["luminance_entropy"]) == "0.0"


def test_half_black_half_white_has_one_bit() -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:, 32:] = 255
    (found,) = facts(encoded(Image.fromarray(pixels), "PNG"))
    assert found["luminance_entropy"] == 1.0
    assert (found["luminance_mean"], found["luminance_deviation"]) == (127.5, 127.5)


def test_luminance_statistics_of_a_histogram() -> None:
    histogram = np.zeros(256)
    histogram[[0, 100, 200]] = [1, 2, 1]
    entropy, mean, deviation = luminance_statistics(histogram)
    assert (entropy, mean) == (1.5, 100.0)
    assert deviation == pytest.approx(np.sqrt(5000))


def test_the_laplacian_of_a_single_dot() -> None:
    image = np.zeros((5, 5))
    image[2, 2] = 10
    values = [-40, 10, 10, 10, 10, 0, 0, 0, 0]
    assert laplacian_variance(image) == pytest.approx(np.var(values))


def test_a_sharp_image_is_sharper_than_its_blur() -> None:
    checks = Image.fromarray((np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8))
    blurred = checks.resize((16, 16), Image.Resampling.BOX).resize((64, 64), Image.Resampling.BICUBIC)
    sharp, soft = facts(encoded(checks, "PNG"), encoded(blurred, "PNG"))
    assert sharp["sharpness"] > 100 * soft["sharpness"]
