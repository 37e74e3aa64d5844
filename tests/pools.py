"""Tiny real pools: pictures, tars and Parquet files made in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
