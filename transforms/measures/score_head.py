"""A small head on CLIP image embeddings: aesthetics, watermarks, any learned score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from filters.core.errors import RecipeError
from transforms.fingerprints import weights_fingerprint
from transforms.measure import Column, DerivedMeasure, beside
from transforms.score_heads import apply_head, load_head

ROWS_AT_ONCE = 8192


class ScoreHead(DerivedMeasure):
    """One number for each image from a linear or MLP head on its unit CLIP embedding.

    Reads stored embeddings, so a new head over a measured pool needs no image. The checkpoint is
    a state dict (.pth, loaded with weights only, or .safetensors) of Linear layers with optional
    activations between them, such as LAION's aesthetic predictors.
    """

    checkpoint: str = Field(description="Path of the head's weights.")
    encoder_name: str = Field(
        default="clip", alias="encoder", description="The CLIP measure whose embeddings it was made for."
    )
    activation: str = Field(
        default="identity",
        pattern="^(identity|relu|gelu)$",
        description="Between layers: identity (LAION's predictors), relu or gelu.",
    )

    def columns(self, name: str) -> tuple[Column, ...]:
        return (Column(f"{name}_score", pa.float32(), "answer of the score head", "the head's own"),)

    def identity(self) -> dict[str, object]:
        return {
            "weights": weights_fingerprint(Path(self.checkpoint)),
            "encoder": self.encoder_name,
            "activation": self.activation,
        }

    def located(self, folder: Path) -> Self:
        return self.model_copy(update={"checkpoint": beside(folder, self.checkpoint)})

    def check(self) -> None:
        if not Path(self.checkpoint).is_file():
            msg = f"score head checkpoint {self.checkpoint!r} does not exist"
            raise RecipeError(msg)
        load_head(self.checkpoint)

    def encoder(self) -> str | None:
        return self.encoder_name

    def derive(
        self,
        name: str,
        columns: Mapping[str, pa.Array],  # noqa: ARG002
        embeddings: NDArray[np.float16] | None,
    ) -> Mapping[str, pa.Array]:
        if embeddings is None:
            msg = "a score head needs embeddings"
            raise ValueError(msg)
        if embeddings.shape[1] == 0:  # no row of the part could be encoded
            return {f"{name}_score": pa.nulls(len(embeddings), pa.float32())}
        layers = load_head(self.checkpoint)
        starts = range(0, len(embeddings), ROWS_AT_ONCE)
        pieces = [
            apply_head(layers, embeddings[start : start + ROWS_AT_ONCE], self.activation) for start in starts
        ]
        scores = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
        return {f"{name}_score": pa.array(scores, pa.float32(), from_pandas=True)}
