"""Small pictures of samples for people to look at: the original bytes found again, and shrunk."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from PIL import Image

from transforms.decode import decode
from transforms.pool import PoolColumns, PoolOptions, RawSample

JPEG_QUALITY = 78
_ROWS_AT_ONCE = 32
# The sample was read under its pool's own rules; here only the bounds on size matter.
_OPTIONS = PoolOptions(wrong_extension="accept")


def read_original(  # noqa: PLR0913, PLR0917  (a sample's place, as the samples table stores it)
    uri: str,
    storage_options: Mapping[str, Any],
    sample_offset: int,
    image_offset: int | None,
    image_bytes: int | None,
    form: Literal["webdataset", "parquet"],
    columns: Sequence[str] = PoolColumns().image,
) -> bytes | None:
    """The encoded image as it stands in its shard, or None where it can't be read any more.

    sample_offset: the row of a Parquet shard; image_offset, image_bytes: where in a tar.
    columns: the names a Parquet shard's image column may have, first come first taken.
    """
    if image_bytes is None or image_bytes > _OPTIONS.max_member_bytes:
        return None
    if form == "webdataset" and image_offset is None:
        return None
    try:
        fs, path = url_to_fs(uri, **storage_options)
        with fs.open(path, "rb") as stream:
            if form == "parquet":
                content = _parquet_image(stream, sample_offset, columns)
            else:
                stream.seek(image_offset)
                content = stream.read(image_bytes)
    except Exception:  # noqa: BLE001  (each file system raises errors of its own for a shard that is gone)
        return None
    # A shorter answer means that another file stands in the shard's place.
    return content if content is not None and len(content) == image_bytes else None


def thumbnail(content: bytes, side_pixels: int = 112) -> bytes | None:
    """A JPEG whose longer side is at most `side_pixels`; None where the picture can't be decoded.

    Decodes under the rules of a run, with its bound on pixels. `quiet_pillow` may be called first
    to silence Pillow's warnings of damaged metadata.
    """
    raw = RawSample(row=0, key="", offset=0, image=content, caption=b"")
    picture = decode(raw, _OPTIONS).picture
    if picture is None:
        return None
    small = picture.rgb
    small.thumbnail((side_pixels, side_pixels), Image.Resampling.LANCZOS, reducing_gap=2.0)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return stream.getvalue()


def _parquet_image(stream: IO[bytes], row: int, names: Sequence[str]) -> bytes | None:
    """The image of one row, read a few rows at a time so that a large row group does no harm."""
    file = pq.ParquetFile(stream, pre_buffer=False)
    column = next((name for name in names if name in file.schema_arrow.names), None)
    if column is None:
        return None
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if row < rows:
            return _row_of_group(file, group, row, column)
        row -= rows
    return None


def _row_of_group(file: pq.ParquetFile, group: int, row: int, column: str) -> bytes | None:
    batches = file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[column], use_threads=False)
    for batch in batches:
        if row < batch.num_rows:
            value = batch.column(0)[row]
            if pa.types.is_struct(value.type):
                value = value["bytes"]
            content = value.as_py()
            return content if isinstance(content, bytes) else None
        row -= batch.num_rows
    return None
