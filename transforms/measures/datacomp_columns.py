"""Sizes and CLIP scores that DataComp's metadata already holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.measure import Column, PoolMeasure

# Our column -> theirs.
SOURCES: dict[str, str] = {
    "width": "original_width",
    "height": "original_height",
    "clip_b32_cosine": "clip_b32_similarity_score",
    "clip_l14_cosine": "clip_l14_similarity_score",
}
COLUMNS = (
    Column("width", pa.int32(), "width of the original image", "pixels"),
    Column("height", pa.int32(), "height of the original image", "pixels"),
    Column("clip_b32_cosine", pa.float32(), "CLIP ViT-B/32 cosine by DataComp", "-1..1"),
    Column("clip_l14_cosine", pa.float32(), "CLIP ViT-L/14 cosine by DataComp", "-1..1"),
)


class DatacompColumns(PoolMeasure):
    """Width, height and the two CLIP cosines of DataComp's Parquet files, under our names."""

    def columns(self, name: str) -> tuple[Column, ...]:  # noqa: ARG002
        return COLUMNS

    def take(
        self,
        name: str,  # noqa: ARG002
        table: pa.Table,
        arrays: IO[bytes] | None,  # noqa: ARG002
    ) -> tuple[Mapping[str, pa.Array], Mapping[str, NDArray[np.float16]]]:
        found = {}
        for column in COLUMNS:
            source = SOURCES[column.name]
            if source in table.column_names:
                found[column.name] = table[source].cast(column.type, safe=False).combine_chunks()
            else:
                found[column.name] = pa.nulls(table.num_rows, column.type)
        return found, {}
