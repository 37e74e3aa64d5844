"""Hashes of the image: of the file as stored, and of the picture it decodes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa
import xxhash

from transforms.decode import Picture
from transforms.measure import Column, Measured, Meter, SampleMeasure

COLUMNS = (
    Column("bytes_hash", pa.string(), "xxh3-128 of the encoded file", "32 hex digits"),
    Column("pixels_hash", pa.string(), "xxh3-128 of size and decoded RGB pixels", "32 hex digits"),
)


class ContentHashes(SampleMeasure):
    """Two 128-bit hashes (xxh3; not cryptographic) for finding exact copies."""

    automatic: ClassVar[bool] = True

    def columns(self, name: str) -> tuple[Column, ...]:  # noqa: ARG002
        return COLUMNS

    def meter(self, name: str) -> Meter:  # noqa: ARG002
        return _Meter()


class _Meter:
    def prepare(self, picture: Picture, caption: str) -> tuple[str, str]:  # noqa: ARG002
        pixels = xxhash.xxh3_128(f"{picture.rgb.width}x{picture.rgb.height}:".encode())
        pixels.update(picture.rgb.tobytes())
        return xxhash.xxh3_128_hexdigest(picture.encoded), pixels.hexdigest()

    def measure(self, prepared: Sequence[tuple[str, str]]) -> Measured:
        encoded, pixels = zip(*prepared, strict=True)
        return Measured({"bytes_hash": list(encoded), "pixels_hash": list(pixels)}, {})
