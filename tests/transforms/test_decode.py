"""Every fault of a sample becomes its code, and the neighbours are used."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from PIL import Image

from tests.pools import Member, photo, sample, write_tar
from tests.transforms.reading import named, shards_of, stream
from transforms.decode import decode, decode_image, quiet_pillow
from transforms.failures import ROW_FAILURES
from transforms.pool import PoolOptions, RawSample

UID = "0123456789ABCDEF0123456789abcdef"
TEXT = "a picture of something"


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet_pillow()


def cut(image: bytes) -> bytes:
    return image[: len(image) * 2 // 3]


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def image_of(form: str, extension: str, content: bytes | None = None) -> list[Member]:
    return sample("bad", photo(3, form=form) if content is None else content, TEXT, extension=extension)


HTML = b"<!DOCTYPE html><html><body>404</body></html>"
DEEP = b"[" * 100_000
BROKEN: list[tuple[str, str, list[Member], dict[str, Any]]] = [
    ("empty", "zero_bytes", image_of("", "jpg", b""), {}),
    ("cut jpeg", "truncated_image", image_of("", "jpg", cut(photo(3))), {}),
    ("cut png", "truncated_image", image_of("", "png", cut(photo(3, form="PNG"))), {}),
    ("cut webp", "truncated_image", image_of("", "webp", cut(photo(3, form="WEBP"))), {}),
    ("cut gif", "truncated_image", image_of("", "gif", cut(photo(3, form="GIF"))), {}),
    ("cut tiff", "truncated_image", image_of("", "tif", photo(3, form="TIFF")[:400]), {}),
    ("html", "not_an_image", image_of("", "jpg", HTML), {}),
    ("pdf", "not_an_image", image_of("", "jpg", b"%PDF-1.7 and more"), {}),
    ("ppm", "not_an_image", image_of("", "jpg", photo(3, form="PPM")), {}),
    ("png named jpg", "wrong_extension", image_of("PNG", "jpg"), {}),
    ("jpeg named webp", "wrong_extension", image_of("JPEG", "webp"), {}),
    ("bomb", "decompression_bomb", image_of("", "png", png_header(200, 100)), {"max_pixels": 19_999}),
    ("pillow's bomb", "decompression_bomb", image_of("", "png", png_header(20_000, 20_000)), {}),
    (
        "heavy",
        "member_too_large",
        image_of("", "bmp", photo(3, side=100, form="BMP")),
        {"max_member_bytes": 9_999},
    ),
    ("no image", "missing_image", sample("bad", None, TEXT), {}),
    ("no caption", "missing_caption", sample("bad", photo(3), None), {}),
    ("json without caption", "missing_caption", sample("bad", photo(3), None, other=1), {}),
    (
        "a caption that is no text",
        "missing_caption",
        [("bad.jpg", photo(3)), ("bad.json", b'{"caption": [1], "text": 5}')],
        {},
    ),
    ("latin 1", "invalid_utf8", sample("bad", photo(3), b"caf\xe9"), {}),
    ("latin 1 json", "invalid_utf8", [*sample("bad", photo(3), TEXT), ("bad.json", b'{"a": "\xe9"}')], {}),
    ("no json", "invalid_json", [*sample("bad", photo(3), TEXT), ("bad.json", b"{")], {}),
    ("json array", "invalid_json", [*sample("bad", photo(3), TEXT), ("bad.json", b"[1]")], {}),
    ("deep json", "invalid_json", [*sample("bad", photo(3), TEXT), ("bad.json", DEEP)], {}),
    ("twin", "duplicate_key", [*sample("bad", photo(4), TEXT), *sample("bad", photo(3), TEXT)], {}),
]


@pytest.mark.parametrize(
    ("code", "members", "options"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_a_broken_sample_is_a_row_with_its_code_among_good_neighbours(
    tmp_path: Path, code: str, members: list[Member], options: dict[str, Any]
) -> None:
    good = [photo(1, side=20), photo(2, side=20)]
    whole = [*sample("good0", good[0], "first"), *members, *sample("good1", good[1], "last")]
    path = write_tar(tmp_path / "0.tar", whole)
    read = PoolOptions(**options)
    (found,) = stream(shards_of(path), named("content_hashes"), options=read)
    assert [row.failure for row in found.samples if row.failure] == [code]
    assert [row.raw.key for row in found.samples if row.failure] == ["bad"]
    assert [row.raw.row for row in found.samples] == list(range(len(found.samples)))
    assert found.end.code is None
    ((rows, piece),) = found.pieces["content_hashes"]
    assert [found.samples[row].failure for row in rows] == [None] * len(rows)
    hashes = dict(zip(rows, piece.columns["bytes_hash"], strict=True))
    assert hashes[0] == xxhash.xxh3_128_hexdigest(good[0])
    assert hashes[len(found.samples) - 1] == xxhash.xxh3_128_hexdigest(good[1])
    assert len(rows) == len(found.samples) - 1


def test_every_documented_code_is_built_for_real() -> None:
    assert {case[1] for case in BROKEN} | {"timeout", "removed"} == set(ROW_FAILURES)


def test_a_really_slow_image_times_out_and_its_neighbours_are_used(tmp_path: Path) -> None:
    big = io.BytesIO()
    Image.new("RGB", (10_000, 10_000)).save(big, "JPEG", progressive=True)
    slow = sample("slow", big.getvalue(), "far too much to decode in time")
    members = [*sample("a", photo(1, side=8), "first"), *slow, *sample("b", photo(2, side=8), "last")]
    path = write_tar(tmp_path / "0.tar", members)
    options = PoolOptions(decode_timeout_seconds=0.3)
    (found,) = stream(shards_of(path), named("content_hashes"), options=options, threads=1)
    assert [row.failure for row in found.samples] == [None, "timeout", None]
    assert found.samples[1].detail == "decoding took longer than 0.3 s"
    assert found.samples[1].uid == xxhash.xxh3_128_hexdigest(
        big.getvalue() + b"far too much to decode in time"
    )
    assert [rows for rows, _ in found.pieces["content_hashes"]] == [[0, 2]]


def decoded(image: bytes | None, name: str = "a.jpg", caption: bytes | None = b"c", **more: Any) -> Any:
    return decode(RawSample(0, "a", 0, image=image, image_name=name, caption=caption, **more), PoolOptions())


@pytest.mark.parametrize(
    ("name", "image", "options", "detail"),
    [
        ("a.jpg", photo(3, form="PNG"), {}, "a.jpg is a PNG"),
        ("a.jpg", HTML, {}, "begins with b'<!DOCTYPE html><'"),
        ("a.png", png_header(200, 100), {"max_pixels": 100}, "200 x 100 pixels declared"),
    ],
)
def test_the_detail_says_what_was_found(
    name: str, image: bytes, options: dict[str, Any], detail: str
) -> None:
    raw = RawSample(0, "a", 0, image=image, image_name=name, caption=b"c")
    assert decode(raw, PoolOptions(**options)).detail == detail


def test_a_wrong_extension_can_be_accepted() -> None:
    raw = RawSample(0, "a", 0, image=photo(3, form="PNG"), image_name="a.jpg", caption=b"c")
    found = decode(raw, PoolOptions(wrong_extension="accept"))
    assert found.failure is None
    assert found.picture is not None
    assert found.picture.format == "PNG"


def test_a_file_without_a_known_extension_may_be_any_image() -> None:
    assert decoded(photo(3, form="WEBP"), name="").failure is None


def test_the_bound_on_pixels_is_inclusive() -> None:
    image = photo(3, size=(20, 10))
    assert decode_image(image, "", PoolOptions(max_pixels=200)).rgb.size == (20, 10)
    raw = RawSample(0, "a", 0, image=image, caption=b"c")
    assert decode(raw, PoolOptions(max_pixels=199)).failure == "decompression_bomb"


def encoded(image: Image.Image, form: str, **how: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, form, **how)
    return sink.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (12, 9)) -> Image.Image:
    colours = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(colours).convert(mode)


def transparent_palette() -> bytes:
    return encoded(noise().quantize(8), "PNG", transparency=b"\x00\x80\xff")


def sixteen_bits() -> bytes:
    return encoded(Image.fromarray(np.arange(108, dtype=np.uint16).reshape(9, 12) * 600), "PNG")


UNUSUAL: dict[str, tuple[Callable[[], bytes], str, str, int]] = {
    "animated gif": (
        lambda: encoded(noise(), "GIF", save_all=True, append_images=[Image.new("RGB", (12, 9))]),
        "GIF",
        "",
        2,
    ),
    "animated webp": (
        lambda: encoded(noise(), "WEBP", save_all=True, append_images=[Image.new("RGB", (12, 9))]),
        "WEBP",
        "RGB",
        2,
    ),
    "palette with transparency": (transparent_palette, "PNG", "P", 1),
    "cmyk jpeg": (lambda: encoded(noise("CMYK"), "JPEG"), "JPEG", "CMYK", 1),
    "16-bit png": (sixteen_bits, "PNG", "I;16", 1),
    "grey jpeg": (lambda: encoded(noise("L"), "JPEG"), "JPEG", "L", 1),
    "one bit png": (lambda: encoded(noise("1"), "PNG"), "PNG", "1", 1),
    "grey with alpha": (lambda: encoded(noise("LA"), "PNG"), "PNG", "LA", 1),
}


@pytest.mark.parametrize(("make", "form", "mode", "frames"), UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_images_decode_to_rgb(make: Callable[[], bytes], form: str, mode: str, frames: int) -> None:
    found = decoded(make(), name="")
    assert found.failure is None
    picture = found.picture
    assert (picture.rgb.mode, picture.rgb.size, picture.format, picture.frames) == (
        "RGB",
        (12, 9),
        form,
        frames,
    )
    assert picture.mode == (mode or picture.mode)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_one_pixel_goes_through_every_measure(tmp_path: Path, form: str) -> None:
    extension = {"JPEG": "jpg", "TIFF": "tif"}.get(form, form.lower())
    path = write_tar(tmp_path / "0.tar", sample("a", photo(1, side=1, form=form), "x", extension=extension))
    (found,) = stream(shards_of(path), named("image_facts"), named("content_hashes"))
    assert found.samples[0].failure is None
    ((_, facts),) = found.pieces["image_facts"]
    assert (facts.columns["width"], facts.columns["height"]) == ([1], [1])
    assert facts.columns["sharpness"] == [0.0]


def test_only_the_first_frame_counts() -> None:
    first = Image.new("RGB", (12, 9), (255, 0, 0))
    animation = encoded(first, "GIF", save_all=True, append_images=[Image.new("RGB", (12, 9), (0, 0, 255))])
    assert decoded(animation, name="a.gif").picture.rgb.getpixel((0, 0)) == (255, 0, 0)


def test_damaged_files_never_raise() -> None:
    """Bytes flipped in files of every format; a fault of the data is a code, whatever Pillow raises."""
    random = np.random.default_rng(0)
    seeds = [encoded(noise(), form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    seeds.append(encoded(noise(), "GIF", save_all=True, append_images=[Image.new("RGB", (12, 9))]))
    codes: dict[str | None, int] = {}
    for turn in range(1500):
        content = bytearray(seeds[turn % len(seeds)])
        for place in random.integers(0, min(len(content), 150), 3):
            content[place] = random.integers(256)
        code = decoded(bytes(content[: random.integers(1, 2 * len(content))]), name="").failure
        codes[code] = codes.get(code, 0) + 1
    assert codes.keys() <= {None, "truncated_image", "not_an_image", "decompression_bomb"}
    assert min(codes[None], codes["truncated_image"], codes["not_an_image"]) > 50


def test_an_animation_that_ends_in_a_frame_header_is_damaged() -> None:
    """Pillow raises struct.error there, which is no ValueError."""
    animation = encoded(noise(), "GIF", save_all=True, append_images=[Image.new("RGB", (12, 9))])
    second = animation.rindex(b"\x21\xf9\x04")
    for end in range(second, second + 20):
        assert decoded(animation[:end] + b"\x2c", name="").failure in (None, "truncated_image")


# --- captions and uids


def test_the_caption_is_the_txt_member_then_the_json() -> None:
    both = json.dumps({"caption": "from json", "text": "from text"}).encode()
    assert decoded(photo(1), caption=b"from txt", metadata=both).caption == "from txt"
    assert decoded(photo(1), caption=None, metadata=both).caption == "from json"
    assert decoded(photo(1), caption=None, metadata=b'{"text": "from text"}').caption == "from text"
    assert decoded(photo(1), caption=None, metadata=b'{"caption": null, "text": "t"}').caption == "t"
    assert decoded(photo(1), caption=b"").caption == ""


def test_a_lone_surrogate_in_json_is_replaced() -> None:
    assert decoded(photo(1), caption=None, metadata=rb'{"caption": "a \ud800 b"}').caption == "a ? b"


def test_the_uid_of_the_json_is_used_in_lower_case() -> None:
    assert decoded(photo(1), metadata=json.dumps({"uid": UID}).encode()).uid == UID.lower()


@pytest.mark.parametrize("uid", ["", "xyz", UID[:-1], UID + "0", "g" * 32, 5, None])
def test_another_uid_is_none(uid: object) -> None:
    image = photo(1)
    found = decoded(image, metadata=json.dumps({"uid": uid}).encode())
    assert found.uid == xxhash.xxh3_128_hexdigest(image + b"c")


@pytest.mark.parametrize("name", ["caption", "text"])
def test_the_uid_is_of_image_and_caption_wherever_the_caption_stands(name: str) -> None:
    image = photo(1)
    expected = xxhash.xxh3_128_hexdigest(image + b"words")
    assert decoded(image, caption=b"words").uid == expected
    assert decoded(image, caption=None, metadata=json.dumps({name: "words"}).encode()).uid == expected
    assert decoded(image, caption=None, metadata=json.dumps({name: "others"}).encode()).uid != expected


def test_uids_are_stable_under_resharding(tmp_path: Path) -> None:
    samples = [m for at in range(6) for m in sample(f"k{at}", photo(at, side=16), f"caption {at}")]
    one = write_tar(tmp_path / "one" / "0.tar", samples)
    turned = [m for at in reversed(range(6)) for m in sample(f"o{at}", photo(at, side=16), f"caption {at}")]
    two = [write_tar(tmp_path / "two" / f"{at}.tar", turned[6 * at : 6 * at + 6]) for at in range(2)]
    first = [row.uid for found in stream(shards_of(one)) for row in found.samples]
    second = [row.uid for found in stream(shards_of(*two)) for row in found.samples]
    assert first == second[::-1]
    assert len(set(first)) == 6
