"""A picture that somebody searches with: decoded under a run's rules, within bounds."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from filters.core.errors import QueryError
from transforms.decode import decode
from transforms.failures import ROW_FAILURES
from transforms.pool import PoolOptions, RawSample

MOST_BYTES = 1 << 25
_OPTIONS = PoolOptions(wrong_extension="accept", max_pixels=100_000_000)


def read_image(path: Path) -> bytes:
    """The file, or one byte more than `picture_of` takes.

    Raises: QueryError where it can't be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(MOST_BYTES + 1)
    except OSError as cause:
        msg = f"can't read the image {path}: {cause.strerror}"
        raise QueryError(msg) from cause


def picture_of(content: bytes) -> Image.Image:
    """The first frame, mode RGB.

    Raises: QueryError where it is no image, is damaged, or is larger than 32 MiB or 100 megapixels.
    """
    if len(content) > MOST_BYTES:
        msg = f"the image has {len(content):,} bytes; at most {MOST_BYTES:,} are read"
        raise QueryError(msg)
    found = decode(RawSample(row=0, key="", offset=0, image=content, caption=b""), _OPTIONS)
    if found.picture is None:
        code = found.failure or "not_an_image"
        detail = f" ({found.detail})" if found.detail else ""
        msg = f"the image can't be searched with: {code}, {ROW_FAILURES[code]}{detail}"
        raise QueryError(msg)
    return found.picture.rgb
