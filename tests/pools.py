"""Tiny real pools: pictures, tars and Parquet files made in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from transforms.tar import end_tar, write_member

Member = tuple[str, bytes]


def photo(seed: int, *, side: int = 48, form: str = "JPEG", size: tuple[int, int] | None = None) -> bytes:
    """An encoded picture of smooth noise; the same seed gives the same bytes."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size or (side, side), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def sample(
    key: str, image: bytes | None, caption: str | bytes | None, *, extension: str = "jpg", **metadata: Any
) -> list[Member]:
    """The members of one sample, as img2dataset writes them; None leaves a member out."""
    members: list[Member] = []
    if image is not None:
        members.append((f"{key}.{extension}", image))
    if caption is not None:
        members.append((f"{key}.txt", caption.encode() if isinstance(caption, str) else caption))
    if metadata:
        members.append((f"{key}.json", json.dumps(metadata).encode()))
    return members


def write_tar(path: Path, members: Sequence[Member], *, end: bool = True) -> Path:
    """A tar of these members; without its end-of-archive marker where `end` is False."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for name, content in members:
            write_member(stream, name, content)
        if end:
            end_tar(stream)
    return path


def photo_shards(folder: Path, numbers: Sequence[int], rows: int) -> Path:
    """Tars of so many good samples each, every picture twice; returns the folder."""
    for number in numbers:
        members: list[Member] = []
        for at in range(rows):
            caption = f"a picture number {at // 2}"
            members += sample(f"{number}{at}", photo(100 * number + at // 2), caption)
        write_tar(folder / f"{number:05d}.tar", members)
    return folder


def broken_pool(folder: Path) -> dict[str, int]:
    """Three tars with every way in which a sample can fail, among good ones; code -> rows.

    Read it with `max_pixels: 20000` and `max_member_bytes: 25000`.
    """
    whole = photo(1)
    first = [
        *sample("good0", photo(2), "a good picture of something"),
        *sample("empty", b"", "an empty file here"),
        *sample("cut", whole[: len(whole) // 2], "a picture that was cut"),
        *sample("page", b"<html><body>not found</body></html>", "a page of html here"),
        *sample("named", photo(3, form="PNG"), "a png named jpg here"),
        *sample("bomb", photo(4, size=(200, 200)), "too many pixels in this"),
        *sample("heavy", photo(5, side=100, form="BMP"), "too many bytes in this", extension="bmp"),
        *sample("good1", photo(6), "another good picture of something"),
    ]
    second = [
        *sample("faceless", None, "no picture comes with this"),
        *sample("mute", photo(7), None),
        *sample("garbled", photo(8), b"caf\xe9 in the wrong encoding"),
        *sample("good2", photo(9), "a third good picture of something"),
        *sample("odd", photo(10), "a caption with bad metadata"),
        ("odd.json", b"[1, 2"),
        *sample("twin", photo(11), "the first of two twins"),
        *sample("twin", photo(12), "the second of two twins"),
        *sample("good3", photo(13), "a fourth good picture of something"),
    ]
    third = [
        *sample("good4", photo(14), "a fifth good picture of something"),
        *sample("lost", photo(15), "this one is cut off with the tar"),
    ]
    write_tar(folder / "00000.tar", first)
    write_tar(folder / "00001.tar", second)
    tail = write_tar(folder / "00002.tar", third, end=False)
    tail.write_bytes(tail.read_bytes()[:-700])
    return dict.fromkeys(
        (
            *("zero_bytes", "truncated_image", "not_an_image", "wrong_extension", "decompression_bomb"),
            *("member_too_large", "missing_image", "missing_caption", "invalid_utf8", "invalid_json"),
            "duplicate_key",
        ),
        1,
    )


def metadata_shard(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """A shard of DataComp metadata; columns that a row leaves out get ordinary values."""
    ordinary = {"url": "http://example.org/x.jpg", "text": "a picture of some thing"}
    numbers = {"original_width": 400, "original_height": 300}
    scores = {"clip_b32_similarity_score": 0.3, "clip_l14_similarity_score": 0.3}
    whole = [{"uid": f"{at:032x}", **ordinary, **numbers, **scores, **row} for at, row in enumerate(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(whole), path)
    return path
