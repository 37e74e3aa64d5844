"""A small picture of each sample, for comparing pictures without reading them again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from transforms.decode import Picture
from transforms.measure import Column, Measured, Meter, SampleMeasure

# Before the smooth filter a picture is averaged down to no less than this times the thumbnail.
_REDUCING_GAP = 2.0


class Thumbnail(SampleMeasure):
    """The whole picture at a small size, squashed to a square.

    RGB bytes row by row, made by Pillow's bilinear filter (smooth over the area of a pixel, in
    integers: the same bytes on every machine with the same Pillow). Squashed, not letter-boxed:
    bars would be edges that all pictures of one shape share, and that stay where they are when the
    picture between them is cut.

    A row takes 3 KiB at size 32, about as much as two float16 embeddings of 768 numbers. Images are
    taken as stored; a picture turned by EXIF alone is another picture.
    """

    size: int = Field(
        default=32,
        ge=32,
        le=256,
        multiple_of=32,
        description="Width and height in pixels, a multiple of 32. Copies are verified at 32.",
    )

    def columns(self, name: str) -> tuple[Column, ...]:  # noqa: ARG002
        meaning = f"the picture squashed to {self.size} x {self.size} RGB pixels, row by row"
        kind = pa.binary(3 * self.size**2)
        return (Column("thumbnail", kind, meaning, "bytes, 0..255", carried=False),)

    def meter(self, name: str) -> Meter:  # noqa: ARG002
        return _Meter(self.size)


class _Meter:
    def __init__(self, size: int) -> None:
        self._size = (size, size)

    def prepare(self, picture: Picture, caption: str) -> bytes:  # noqa: ARG002
        filter_ = Image.Resampling.BILINEAR
        return picture.rgb.resize(self._size, filter_, reducing_gap=_REDUCING_GAP).tobytes()

    def measure(self, prepared: Sequence[bytes]) -> Measured:
        return Measured({"thumbnail": list(prepared)}, {})


def thumbnail_pixels(column: pa.Array | pa.ChunkedArray) -> NDArray[np.uint8]:
    """The thumbnails of n rows as `transforms.verification` takes them.

    Returns: (n, size, size, 3) uint8; black where the column is null.
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    width = whole.type.byte_width
    filled = whole.fill_null(bytes(width)) if whole.null_count else whole
    side = int((width // 3) ** 0.5)
    start = filled.offset * width
    content = np.frombuffer(filled.buffers()[1], np.uint8)[start : start + len(filled) * width]
    return content.reshape(-1, side, side, 3)
