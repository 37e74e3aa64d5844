"""Alignment levels: a pair's cosine as one of a few equal steps, for captioners and samplers.

NoC (Kang et al. 2023, "Noise-aware learning from web-crawled image-text data for image captioning",
arXiv 2212.13563) conditions a captioner on how well image and caption agree: eight bins of equal
width between the lowest and the highest cosine (CLIP ViT-L/14) of the training set. What we do
differently: edges are frozen, so that one outlier does not shift every level, and a score that is
missing has no level; the original gives NaN the best one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.declaration import Numbers, missing

# As published with NoC's model of CC3M: the outer two are the lowest and highest cosine of CC3M.
CC3M = (
    -0.036912303417921066,
    0.028028377797454596,
    0.09296905901283026,
    0.15790974022820592,
    0.22285042144358158,
    0.28779110265895724,
    0.3527317838743329,
    0.41767246508970857,
    0.48261314630508423,
)


@dataclass(frozen=True)
class Levels:
    """Frozen edges of levels 0 to n - 1; a higher level is a better match.

    Attributes:
        edges: n + 1 rising numbers, at most 128; the outer two bound nothing and only place the
            centres of the outer levels.

    Raises: ValueError where the edges do not rise, or there are fewer than two levels.
    """

    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in pairwise(self.edges))
        if not (3 <= len(self.edges) <= 128 and rising and np.isfinite(self.edges).all()):
            msg = f"levels need 3 to 128 finite, rising edges, not {self.edges}"
            raise ValueError(msg)

    def __len__(self) -> int:
        """The number of levels."""
        return len(self.edges) - 1

    def of(self, scores: Numbers) -> pa.Array:
        """The level of each score, compared as float32.

        A score on an edge belongs to the upper level; below the lowest edge it has level 0, above
        the highest the last one.

        scores: (n,) numbers. Returns: (n,) int8, null where the score is NaN.
        """
        with np.errstate(over="ignore"):
            values = scores.astype(np.float32)
        inner = np.array(self.edges[1:-1], np.float32)
        found = np.searchsorted(inner, values, side="right").astype(np.int8)
        return pa.array(found, mask=missing(values))

    def centres(self) -> NDArray[np.float64]:
        """The middle of each level, which stands for it where a score is wanted back: (n,) float64."""
        edges = np.array(self.edges)
        middle: NDArray[np.float64] = (edges[:-1] + edges[1:]) / 2
        return middle


PRESETS: dict[str, Levels] = {"cc3m": Levels(CC3M)}


def equal_width(low: float, high: float, count: int = 8) -> Levels:
    """Levels of equal width between two scores, which are best robust percentiles, not extremes.

    Raises: ValueError where low is not below high, or count is below 2 or above 127.
    """
    if not 2 <= count <= 127:
        msg = f"between 2 and 127 levels are possible, not {count}"
        raise ValueError(msg)
    return Levels(tuple(np.linspace(low, high, count + 1).tolist()))
