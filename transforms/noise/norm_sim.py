"""NormSim: how much a picture has in common with the pictures of a target task.

Wang et al. 2024, "CLIPLoss and Norm-Based Data Selection Methods for Multimodal Contrastive
Learning", section 3: NormSim_p(x) = (sum over targets t of |<x, t>|^p)^(1/p) on unit rows, p = 2 or
infinity. It is applied to what s-CLIPLoss keeps, and high is good.

p = 2 is sqrt(x' G x) with the targets' Gram matrix G, (d, d) in float64, whatever their number. What
we do differently: p = infinity takes |<x, t>| as the formula says, so that an opposite picture is as
near as an equal one; sums of targets grow with their number, so compare values for one target only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transforms.clustering import (
    Embeddings,
    Floats,
    full_precision,
    padded,
    round_up,
    to_device,
    to_numpy,
    unit_rows,
)
from transforms.devices import resolve_device

_BLOCK_ROWS = 1024
_BLOCK_TARGETS = 4096


def target_gram(targets: Embeddings) -> NDArray[np.float64]:
    """T'T of the targets' unit rows: add those of pieces to have that of all, up to rounding.

    targets: (m, d) float16 or float32; rows without a direction count as zeros.
    Returns: (d, d) float64, symmetric, its trace the number of targets.
    """
    gram = np.zeros((targets.shape[1], targets.shape[1]))
    for start in range(0, len(targets), _BLOCK_TARGETS):
        some = unit_rows(targets[start : start + _BLOCK_TARGETS])[0].astype(np.float64)
        gram += some.T @ some
    return gram


def norm_sim_2(images: Embeddings, gram: NDArray[np.float64]) -> Floats:
    """NormSim with p = 2, from the Gram matrix of `target_gram`.

    images: (n, d) float16 or float32.
    Returns: (n,) float32 in [0, sqrt(m)]; NaN for rows without a direction.
    Raises: ValueError where the target is of another width.
    """
    _check_width(images, gram.shape[0])
    vectors, usable = unit_rows(images)
    found = np.full(len(vectors), np.nan, np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        # Always a block of one shape, for a row's bits not to depend on the rows beside it.
        wide = padded(vectors[rows], _BLOCK_ROWS).astype(np.float64)
        squares = np.einsum("nd,nd->n", wide @ gram, wide)[: len(vectors[rows])]
        found[rows] = np.sqrt(np.maximum(squares, 0))
    found[~usable] = np.nan
    return found


def norm_sim_inf(images: Embeddings, targets: Embeddings, *, device: str = "auto") -> Floats:
    """NormSim with p = infinity: the greatest |cosine| with any target, by products in blocks.

    images: (n, d), targets: (m, d), each float16 or float32; targets without a direction have
    cosine 0.
    Returns: (n,) float32 in [0, 1]; 0 where there are no targets, NaN for rows without a direction.
    Raises: ValueError where the target is of another width.
    """
    _check_width(images, targets.shape[1])
    place = resolve_device(device)
    vectors, usable = unit_rows(images)
    found = np.zeros(len(vectors), np.float32)
    size = min(_BLOCK_TARGETS, round_up(len(targets)))
    lines = to_device(np.arange(_BLOCK_ROWS), place)
    with full_precision(place):
        for first in range(0, len(targets), size):
            block = to_device(padded(unit_rows(targets[first : first + size])[0], size), place)
            for start in range(0, len(vectors), _BLOCK_ROWS):
                some = vectors[start : start + _BLOCK_ROWS]
                products = to_device(padded(some, _BLOCK_ROWS), place) @ block.T
                # argmax and argmin are spelt alike in numpy and torch; max and min are not.
                columns = products.argmax(1), products.argmin(1)
                ends = [abs(to_numpy(products[lines, column])[: len(some)]) for column in columns]
                best = found[start : start + _BLOCK_ROWS]
                np.maximum(best, np.maximum(*ends), out=best)
    np.minimum(found, np.float32(1), out=found)
    found[~usable] = np.nan
    return found


def _check_width(images: Embeddings, width: int) -> None:
    if images.shape[1] != width:
        msg = f"images are {images.shape[1]} wide, but the target is {width}: embed both with one encoder"
        raise ValueError(msg)
