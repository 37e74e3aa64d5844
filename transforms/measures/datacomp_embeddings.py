"""CLIP embeddings that DataComp's metadata already holds, in npz files beside the Parquet."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import IO, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from filters.core.errors import SkipShard
from transforms.measure import Column, PoolMeasure


class DatacompEmbeddings(PoolMeasure):
    """Image and text embeddings of one of DataComp's two CLIP models, from `<shard>.npz`."""

    encodes: ClassVar[tuple[str, ...]] = ("img", "txt")

    model: Literal["b32", "l14"] = Field(description="ViT-B/32 (512 numbers) or ViT-L/14 (768).")

    def columns(self, name: str) -> tuple[Column, ...]:
        return (Column(f"{name}_norm", pa.float32(), "length of the image embedding as delivered", "0..1"),)

    def take(
        self, name: str, table: pa.Table, arrays: IO[bytes] | None
    ) -> tuple[Mapping[str, pa.Array], Mapping[str, NDArray[np.float16]]]:
        if arrays is None:
            code, msg = "shard_unreadable", "no .npz beside the Parquet file, and so no embeddings"
            raise SkipShard(code, msg)
        try:
            with np.load(arrays, allow_pickle=False) as opened:
                found = {kind: opened[f"{self.model}_{kind}"] for kind in self.encodes}
        except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as cause:
            msg = f"the .npz beside the Parquet file has no {self.model} embeddings: {cause}"
            raise SkipShard("shard_unreadable", msg) from cause
        for kind, array in found.items():
            if len(array) != table.num_rows:
                msg = f"{self.model}_{kind} has {len(array)} rows, the Parquet file {table.num_rows}"
                raise SkipShard("shard_unreadable", msg)
        norm = np.linalg.norm(found["img"].astype(np.float32), axis=1)
        return {f"{name}_norm": pa.array(norm, pa.float32())}, {
            kind: array.astype(np.float16, copy=False) for kind, array in found.items()
        }
