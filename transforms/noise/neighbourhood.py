"""LEMoN: does a caption fit what the neighbours of its image say, and the image its caption's?

Zhang et al. 2025, "LEMoN: Label error detection using multimodal neighbors", Algorithm 1. With d = 1 -
cosine, a pair (x, y) and a reference set of pairs (x_r, y_r):

    s_n = 1/k sum over the k images nearest to x:   d(y, y_r) exp(-t1 d(x, x_r)) exp(-t2 d(x_r, y_r))
    s_m = 1/k sum over the k captions nearest to y: d(x, x_r) exp(-t1 d(y, y_r)) exp(-t2 d(x_r, y_r))
    score = d(x, y) + beta s_n + gamma s_m, high for pairs that do not match.

The constants are those of the authors' runs with fixed parameters; one t1 and one t2 serve both sides.

What we do differently. d is 1 - cosine as in the paper, where the authors' code takes -cosine, so its
exponentials are greater by e^t1. A pair is left out of its own neighbours by its uid and not by its
rank. The reference set holds no near copies, which would vote for what they copy; a pair that was
dropped as a copy is not judged by the pair that was kept for it. Where the reference set has fewer
than k pairs, the mean is over those it has. Ties go to the smaller uid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from filters.core.uids import uid_places
from transforms.clustering import Embeddings, Floats, unit_rows
from transforms.marking import nearest_earlier
from transforms.noise.nearest import NearestRows, Neighbours, one_thread_each

NEIGHBOURS = 30
BETA = GAMMA = 5.0
T1, T2 = 0.1, 5.0
COPY_COSINE = 0.99
_PAIRS_AT_ONCE = 4096

Uids = NDArray[np.uint64]


class LemonScores(NamedTuple):
    """What LEMoN says of n pairs; each is (n,) float32, high for pairs that do not match.

    NaN where the image or the caption is not finite or of length zero.

    Attributes:
        score: the weighted sum; distance: 1 - cosine of image and caption, in [0, 2].
        image_side: s_n, in [0, 2]; text_side: s_m, in [0, 2].
    """

    score: Floats
    distance: Floats
    image_side: Floats
    text_side: Floats


@dataclass(frozen=True)
class PairReference:
    """Pairs to compare with, frozen: made by `pair_reference`.

    Attributes:
        images, texts: (m, d) float32 unit rows; uids: (m, 2) uint64, ascending.
        known: (c, 2) uint64 uids of all usable pairs that were given; stands: (c,) int64 the place
            of the pair that stands for each, itself or the one it is a near copy of.
        exact: search exactly; otherwise fast where that pays.
    """

    images: Floats
    texts: Floats
    uids: Uids
    known: Uids
    stands: NDArray[np.int64]
    exact: bool = True
    device: str = "auto"

    def places(self, uids: Uids) -> NDArray[np.int64]:
        """(n,) int64 place of each pair or of the one that stands for it; -1 where there is none."""
        at = uid_places(uids, self.known)
        if len(self.known) == 0:
            return at
        return np.where(at >= 0, self.stands[at], -1)

    @cached_property
    def by_image(self) -> NearestRows:
        """The images, to search in."""
        return NearestRows(self.images, exact=self.exact, device=self.device)

    @cached_property
    def by_text(self) -> NearestRows:
        """The captions, to search in."""
        return NearestRows(self.texts, exact=self.exact, device=self.device)

    @property
    def fast(self) -> bool:
        """Whether either side is searched through the fast index."""
        return self.by_image.fast or self.by_text.fast

    @cached_property
    def distances(self) -> Floats:
        """(m,) float32 d(x_r, y_r)."""
        return _distances(self.images, self.texts)


def pair_reference(  # noqa: PLR0913
    images: Embeddings,
    texts: Embeddings,
    uids: Uids,
    *,
    copy_cosine: float | None = COPY_COSINE,
    exact: bool = True,
    device: str = "auto",
) -> PairReference:
    """The reference set of these pairs: usable ones in the order of their uids, without near copies.

    Any order of the rows gives the same set. 50 000 pairs are what the paper uses at most; finding
    near copies takes the square of their number.

    images, texts: (n, d) float16 or float32; uids: (n, 2) uint64, each once.
    copy_cosine: see `deduplicated`; None keeps copies.
    Raises: ValueError where images and texts differ in shape.
    """
    _check_shapes(images, texts)
    order = np.lexsort((uids[:, 1], uids[:, 0]))
    seen, read = unit_rows(images[order]), unit_rows(texts[order])
    usable = seen[1] & read[1]
    rows, lines, known = seen[0][usable], read[0][usable], uids[order][usable]
    kept, stands = np.arange(len(known)), np.arange(len(known))
    if copy_cosine is not None:
        kept, stands = deduplicated(rows, lines, copy_cosine, device=device)
    place = np.full(len(known), -1, np.int64)
    place[kept] = np.arange(len(kept))
    return PairReference(rows[kept], lines[kept], known[kept], known, place[stands], exact, device)


def deduplicated(
    images: Floats, texts: Floats, copy_cosine: float = COPY_COSINE, *, device: str = "auto"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs that are no near copy of an earlier one, and for each pair the kept one it goes back to.

    A pair is a near copy when the mean of its image cosine and its text cosine to an earlier pair is
    at least the bound: then both cosines are at least 2 x bound - 1. A copied image with another
    caption is no copy, for it is evidence. A copy of a copy goes back to the first of them.

    images, texts: (n, d) float32 unit rows, the first ones first.
    Returns: (m,) int64 places kept, ascending; (n,) int64 place of the kept pair that stands for each.
    """
    both = np.hstack([images, texts]) * np.float32(np.sqrt(0.5))
    found = nearest_earlier(both, device=device)
    copy = found.cosine.astype(np.float64) >= min(copy_cosine, 1.0)
    stands = np.where(copy, found.original, np.arange(len(both)))
    while not np.array_equal(stands, stands[stands]):
        stands = stands[stands]
    return np.flatnonzero(~copy), stands


def lemon(  # noqa: PLR0913  (the method's parameters)
    image: Embeddings,
    text: Embeddings,
    reference: PairReference,
    *,
    uids: Uids | None = None,
    k: int = NEIGHBOURS,
    beta: float = BETA,
    gamma: float = GAMMA,
    t1: float = T1,
    t2: float = T2,
) -> LemonScores:
    """The scores of pairs against a frozen reference set: a pure map, the same bits row by row.

    image, text: (n, d) float16 or float32.
    uids: (n, 2) uint64, by which a pair is left out of its own neighbours; None: none is among them.
    Raises: ValueError for shapes that differ, no neighbours to look at, or no reference pairs.
    """
    _check_shapes(image, text)
    if k < 1 or len(reference.uids) == 0:
        msg = f"LEMoN needs a neighbour and a reference pair at least, but got {k} and {len(reference.uids)}"
        raise ValueError(msg)
    sides = np.full((4, len(image)), np.nan, np.float32)

    def score(start: int) -> None:
        rows = slice(start, start + _PAIRS_AT_ONCE)
        images, seen = unit_rows(image[rows])
        texts, read = unit_rows(text[rows])
        own = None if uids is None else reference.places(uids[rows])
        near_images = reference.by_image.search(images, k, own)
        near_texts = reference.by_text.search(texts, k, own)
        distance = _distances(images, texts)
        found = sides[:, rows]
        found[1] = distance
        found[2] = _side(texts, reference.texts, near_images, reference.distances, (t1, t2))
        found[3] = _side(images, reference.images, near_texts, reference.distances, (t1, t2))
        found[0] = distance + beta * found[2] + gamma * found[3]
        found[:, ~(seen & read)] = np.nan

    blocks = range(0, len(image), _PAIRS_AT_ONCE)
    if reference.fast:
        with one_thread_each() as workers:
            list(workers.map(score, blocks))
    else:
        for start in blocks:
            score(start)
    return LemonScores(*sides)


def _side(
    vectors: Floats, others: Floats, near: Neighbours, distances: Floats, t: tuple[float, float]
) -> Floats:
    """Mean over the neighbours of d(vector, other) exp(-t1 d(neighbour)) exp(-t2 d(pair)): (n,) float32.

    As d is linear in the other vector, the weighted sum of those is multiplied, and not each.
    """
    import torch  # noqa: PLC0415

    there = near.place >= 0
    exponent = t[0] * (1 - near.cosine) + t[1] * distances[near.place]
    weights = np.where(there, np.exp(-exponent), 0).astype(np.float32)
    summed = torch.nn.functional.embedding_bag(
        torch.from_numpy(np.maximum(near.place, 0)),
        torch.from_numpy(others),
        per_sample_weights=torch.from_numpy(weights),
        mode="sum",
    ).numpy()
    products = np.einsum("nd,nd->n", vectors, summed, dtype=np.float64)
    total = weights.sum(axis=1, dtype=np.float64) - products
    mean: NDArray[np.float64] = np.maximum(total, 0) / np.maximum(there.sum(axis=1), 1)
    return mean.astype(np.float32)


def _distances(images: Floats, texts: Floats) -> Floats:
    """(n,) float32 in [0, 2]: 1 - cosine of the rows."""
    cosines: NDArray[np.float64] = np.einsum("nd,nd->n", images, texts, dtype=np.float64)
    return (1 - np.clip(cosines, -1, 1)).astype(np.float32)


def _check_shapes(images: Embeddings, texts: Embeddings) -> None:
    if images.shape != texts.shape or images.ndim != 2:
        msg = f"images {images.shape} and texts {texts.shape} need one shape (n, d)"
        raise ValueError(msg)
