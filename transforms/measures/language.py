"""The language of the caption."""

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
from transforms.language_detectors import find_detector, load_detector
from transforms.measure import Column, DerivedMeasure, beside


class Language(DerivedMeasure):
    """The most probable language of each caption, by a detector that you choose."""

    detector: str = Field(default="langid", description="langid, fasttext, cld3, or an installed plug-in.")
    model: str | None = Field(default=None, description="Model file, where the detector takes one.")

    def columns(self, name: str) -> tuple[Column, ...]:
        return (
            Column(name, pa.string(), "most probable language", "ISO 639-1 code"),
            Column(f"{name}_probability", pa.float32(), "the detector's probability", "0..1"),
        )

    def identity(self) -> dict[str, object]:
        weights = weights_fingerprint(Path(self.model)) if self.model else None
        return {"detector": self.detector, "model": weights}

    def located(self, folder: Path) -> Self:
        return self.model_copy(update={"model": beside(folder, self.model)})

    def check(self) -> None:
        find_detector(self.detector)
        if self.model is not None and not Path(self.model).is_file():
            msg = f"language model {self.model!r} does not exist"
            raise RecipeError(msg)

    def reads(self) -> tuple[str, ...]:
        return ("caption",)

    def derive(
        self,
        name: str,
        columns: Mapping[str, pa.Array],
        embeddings: NDArray[np.float16] | None,  # noqa: ARG002
    ) -> Mapping[str, pa.Array]:
        captions = columns["caption"].to_pylist()
        present = [row for row, caption in enumerate(captions) if caption is not None]
        detect = load_detector(self.detector, self.model)
        codes: list[str | None] = [None] * len(captions)
        probabilities: list[float | None] = [None] * len(captions)
        for row, (code, probability) in zip(present, detect([captions[row] for row in present]), strict=True):
            codes[row], probabilities[row] = code, probability
        return {
            name: pa.array(codes, pa.string()),
            f"{name}_probability": pa.array(probabilities, pa.float32()),
        }
