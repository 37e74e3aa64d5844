"""How well image and caption agree, in a few steps: what a captioner can be conditioned on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator

from filters.core.declaration import numbers
from filters.core.levels import PRESETS, Levels, equal_width
from transforms.measure import Column, DerivedMeasure


class AlignmentLevel(DerivedMeasure):
    """The step of a score between frozen edges of equal width, from 0; a higher step agrees better.

    NoC (Kang et al. 2023, arXiv 2212.13563): tag samples with it and condition on it, instead of
    dropping. `cc3m` has the edges that were published with NoC's model, for cosines of CLIP
    ViT-L/14; for another model give `low` and `high`, best percentiles of your pool. It stands in
    the json of every kept sample. A missing score has no level.
    """

    by: str = Field(default="clip_cosine", description="The signal to cut into steps.")
    preset: Literal["cc3m"] | None = Field(default=None, description="Published edges.")
    low: float | None = Field(default=None, description="Where the steps begin; below is level 0.")
    high: float | None = Field(default=None, description="Where they end; above is the last level.")
    levels: int = Field(default=8, ge=2, le=127, description="How many steps, between low and high.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.preset is None) == (self.low is None or self.high is None):
            msg = "give either preset (cc3m) or low and high"
            raise ValueError(msg)
        _ = self.edges
        return self

    @property
    def edges(self) -> Levels:
        """The steps."""
        if self.preset is not None:
            return PRESETS[self.preset]
        return equal_width(float(self.low or 0), float(self.high or 0), self.levels)

    def columns(self, name: str) -> tuple[Column, ...]:
        return (Column(name, pa.int8(), "step of the score; higher agrees better", "0.."),)

    def identity(self) -> dict[str, object]:
        found: dict[str, Any] = {"by": self.by, "edges": list(self.edges.edges)}
        return found

    def reads(self) -> tuple[str, ...]:
        return (self.by,)

    def derive(
        self,
        name: str,
        columns: Mapping[str, pa.Array],
        embeddings: NDArray[np.float16] | None,  # noqa: ARG002
    ) -> Mapping[str, pa.Array]:
        return {name: self.edges.of(numbers(columns[self.by]))}
