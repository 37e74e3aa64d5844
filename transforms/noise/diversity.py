"""RankMe and the Vendi score: how many directions the embeddings of a data set use.

Garrido et al. 2023, "RankMe: Assessing the downstream performance of pretrained self-supervised
representations by their rank", section 3: p_k = sigma_k / sum sigma + 1e-7 over the singular values,
exp(-sum p log p); neither centred nor normalised by row. Friedman and Dieng 2023, "The Vendi Score",
section 3: eigenvalues lambda_k of the cosine kernel divided by n, exp(-sum lambda log lambda), and of
order q (sum lambda^q)^(1/(1-q)) (Pasarkar and Dieng 2024).

What we do differently: both come from one streamed Gram matrix in float64, (d, d) whatever n is; the
singular values are the roots of its eigenvalues, and rank-deficient data come within 1e-6.

Neither says how redundant a data set is: copying all of it changes nothing. Compare values of one
encoder at equal n only; both are at most d.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.clustering import Embeddings, unit_rows

_RANKME_EPSILON = 1e-7
_BLOCK = 4096


@dataclass(frozen=True)
class Gram:
    """What both measures need of a set of rows.

    Attributes:
        matrix: (d, d) float64, the sum of x x' over the rows.
        rows: how many went in; rows that are not finite or of length zero do not.
    """

    matrix: NDArray[np.float64]
    rows: int

    def __add__(self, other: Gram) -> Gram:
        if self.matrix.shape != other.matrix.shape:
            msg = (
                f"Gram matrices are {len(self.matrix)} and {len(other.matrix)} wide: "
                "add those of one encoder's embeddings"
            )
            raise ValueError(msg)
        return Gram(self.matrix + other.matrix, self.rows + other.rows)


def gram(embeddings: Embeddings, *, normalise: bool = True) -> Gram:
    """The Gram matrix of some rows; add up those of pieces, in a fixed order for the same last bits.

    embeddings: (n, d) float16 or float32; may be a memory map.
    normalise: unit rows, which Vendi needs; RankMe is defined for the rows as they are, too.
    """
    matrix, rows = np.zeros((embeddings.shape[1], embeddings.shape[1])), 0
    for start in range(0, len(embeddings), _BLOCK):
        some = embeddings[start : start + _BLOCK]
        vectors, usable = unit_rows(some)
        wide = (vectors if normalise else np.asarray(some))[usable].astype(np.float64)
        matrix += wide.T @ wide
        rows += len(wide)
    return Gram(matrix, rows)


def rank_me(of: Gram) -> float:
    """RankMe, from about 1 to d; NaN where there are no rows."""
    values = np.sqrt(_eigenvalues(of))
    if not values.any():
        return float("nan")
    # n rows have at most n singular values; the epsilon is added to those alone.
    shares = values[: of.rows] / values.sum() + _RANKME_EPSILON
    return float(np.exp(-np.sum(shares * np.log(shares))))


def vendi(of: Gram, order: float = 1.0) -> float:
    """The Vendi score of unit rows, from 1 to d; NaN where there are no rows.

    order: q; 1 is the limit that the score is known for, infinity counts the greatest share only.
    Raises: ValueError where q is not positive.
    """
    if not order > 0:
        msg = f"the order of a Vendi score is positive, but got {order}"
        raise ValueError(msg)
    values = _eigenvalues(of)
    if not values.any():
        return float("nan")
    shares = values[values > 0] / values.sum()
    if order == 1:
        return float(np.exp(-np.sum(shares * np.log(shares))))
    if np.isinf(order):
        return float(1 / shares.max())
    return float(np.sum(shares**order) ** (1 / (1 - order)))


def _eigenvalues(of: Gram) -> NDArray[np.float64]:
    """(d,) from the greatest; what rounding leaves of zeros is zero, for its root would count."""
    values = np.linalg.eigvalsh(of.matrix)[::-1]
    rounding = len(values) * np.finfo(np.float64).eps * max(values[0], 0)
    return np.where(values > rounding, values, 0.0)
