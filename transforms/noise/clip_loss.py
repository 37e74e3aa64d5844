"""s-CLIPLoss: the cosine of a pair, less what the contrastive loss of CLIP charges for its rivals.

Wang et al. 2024, "CLIPLoss and Norm-Based Data Selection Methods for Multimodal Contrastive
Learning", section 3. With S_ij = <image_i, text_j> in a batch of B pairs and temperature tau,

    R_i = tau/2 (log sum_j exp(S_ij/tau) + log sum_j exp(S_ji/tau)),   score_i = S_ii - R_i,

averaged over some random partitions of the pool into batches. Low is suspicious.

What we do differently. Batches are drawn from the whole pool by a hash of the uid, not from one
file; their number is rounded, so that none is much shorter than B. Batches of another size than B
are put on its scale: log-mean-exp + log B instead of log-sum-exp, else short ones score higher. One
product serves both sums, in tiles, and logarithms of sums are joined relative to their maxima, so
that nothing overflows at any temperature. Rows without a direction get NaN and are nobody's rival.

`bank_scores` is the form for streams: rivals are a frozen bank of pairs instead of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from filters.core.uids import uid_fraction
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

if TYPE_CHECKING:
    import torch

TEMPERATURE = 0.01  # of OpenAI's CLIP models
REFERENCE_BATCH = 32_768
REPETITIONS = 10
TILE_ROWS, TILE_COLUMNS = 1024, 1024
CUDA_TILE = 8192
_SCALE = 2.0**30
_SAFE = 1e-26  # float32 ends at 1e-38: what is lost is a billionth of such a sum

Uids = NDArray[np.uint64]


def batch_scores(
    image: Embeddings,
    text: Embeddings,
    *,
    temperature: float = TEMPERATURE,
    reference_batch: int = REFERENCE_BATCH,
    device: str = "auto",
) -> Floats:
    """The scores of the pairs of one batch; beside the unit rows it takes memory for one tile.

    The bits depend on the order of the rows: pass them in the order of their uids.

    image, text: (b, d) float16 or float32.
    reference_batch: the batch size B on whose scale the scores are.
    Returns: (b,) float32, at most 0 but for rounding where b is B; NaN where the image or the text
    is not finite or of length zero.
    Raises: ValueError for shapes that differ, or a temperature or batch that is not positive.
    """
    _check(image, text, temperature, reference_batch)
    images, texts, usable = _pairs(image, text)
    scores = np.full(len(usable), np.nan, np.float32)
    count = len(images)
    if count == 0:
        return scores
    place = _torch_place(device)
    rows, columns = _log_sums(images, texts, temperature, place)
    scale = np.log(reference_batch) - np.log(count)
    own = _own_cosines(images, texts)
    scores[usable] = own - temperature / 2 * (rows + columns + 2 * scale)
    return scores


def bank_scores(  # noqa: PLR0913  (two sides of two arrays)
    image: Embeddings,
    text: Embeddings,
    bank_image: Embeddings,
    bank_text: Embeddings,
    *,
    own: NDArray[np.int64] | None = None,
    temperature: float = TEMPERATURE,
    reference_batch: int = REFERENCE_BATCH,
    device: str = "auto",
) -> Floats:
    """The scores of pairs against a frozen bank and themselves: a pure map, the same bits row by row.

    image, text: (n, d); bank_image, bank_text: (m, d); each float16 or float32. Pairs of the bank
    without a direction are left out of it.
    own: (n,) int64 place of the pair itself in the bank, -1 where it is not there (`uid_places`);
    None: none is. A pair is its own rival once, in the bank or beside it.
    Returns: (n,) float32; NaN where the image or the text is not finite or of length zero.
    Raises: ValueError for shapes that differ, or a temperature or batch that is not positive.
    """
    _check(image, text, temperature, reference_batch)
    _check(bank_image, bank_text, temperature, reference_batch)
    if len(bank_image) and image.shape[1] != bank_image.shape[1]:
        msg = f"pairs are {image.shape[1]} wide, but the bank is {bank_image.shape[1]}: use one encoder"
        raise ValueError(msg)
    images, texts, usable = _pairs(image, text)
    rivals_image, rivals_text, in_bank = _pairs(bank_image, bank_text)
    places = np.full(len(usable), -1, np.int64) if own is None else np.asarray(own, np.int64)
    known = places[usable] >= 0
    known[known] = in_bank[places[usable][known]]
    scores = np.full(len(usable), np.nan, np.float32)
    if len(images) == 0:
        return scores
    place = _torch_place(device)
    cosines = _own_cosines(images, texts)
    itself = np.where(known, -np.inf, cosines / temperature)
    scale = np.log(reference_batch) - np.log(len(rivals_image) + ~known)
    charge = np.zeros(len(images))
    for asked, rivals in ((images, rivals_text), (texts, rivals_image)):
        charge += np.logaddexp(_log_sums_of_rows(asked, rivals, temperature, place), itself) + scale
    scores[usable] = cosines - temperature / 2 * charge
    return scores


def pool_scores(  # noqa: PLR0913
    image: Embeddings,
    text: Embeddings,
    uids: Uids,
    *,
    temperature: float = TEMPERATURE,
    reference_batch: int = REFERENCE_BATCH,
    repetitions: int = REPETITIONS,
    device: str = "auto",
) -> Floats:
    """The scores of a pool in memory: means over random partitions into batches of about B pairs.

    image, text: (n, d) float16 or float32; uids: (n, 2) uint64.
    Returns: (n,) float32; the same for every order of the rows, as far as uids differ.
    """
    sums = ScoreSums.zeros(len(uids))
    in_order = np.lexsort((uids[:, 1], uids[:, 0]))
    for repetition in range(repetitions):
        batch = batch_of(uids, repetition, len(uids), reference_batch)[in_order]
        for number in range(batches(len(uids), reference_batch)):
            rows = in_order[batch == number]
            scores = batch_scores(
                image[rows],
                text[rows],
                temperature=temperature,
                reference_batch=reference_batch,
                device=device,
            )
            sums.add(rows, scores)
    return sums.mean()


def batches(rows: int, batch: int) -> int:
    """How many batches a pool of so many rows has: rows / batch rounded, halves up, at least 1.

    So a remainder of less than half a batch goes to its neighbours.
    """
    return max(1, (2 * rows + batch) // (2 * batch))


def batch_of(uids: Uids, repetition: int, rows: int, batch: int) -> NDArray[np.int64]:
    """The batch of each pair in this repetition: a hash partition, the same in any shard.

    uids: (n, 2) uint64 of some pairs of the pool; rows: pairs in the whole pool.
    Returns: (n,) int64 in [0, batches(rows, batch)); sizes scatter as those of random draws do.
    """
    return (uid_fraction(uids, repetition) * batches(rows, batch)).astype(np.int64)


def bank_places(uids: Uids, count: int, seed: int = 0) -> NDArray[np.intp]:
    """The rows with the smallest hashes of their uids, which make a bank; ties go to the smaller uid.

    Returns: (min(count, n),) places in the order of the uids.
    """
    chosen = np.lexsort((uids[:, 1], uids[:, 0], uid_fraction(uids, seed)))[:count]
    return chosen[np.lexsort((uids[chosen, 1], uids[chosen, 0]))]


@dataclass(frozen=True)
class ScoreSums:
    """Sums of scores over repetitions, as integers: any order and grouping gives the same bits.

    Attributes:
        total: (n,) int64 sums of round(score x 2^30); scores lie in about [-2, 2].
        count: (n,) int64 how many were added; NaN is not.
    """

    total: NDArray[np.int64]
    count: NDArray[np.int64]

    @classmethod
    def zeros(cls, rows: int) -> ScoreSums:
        """Sums of nothing."""
        return cls(np.zeros(rows, np.int64), np.zeros(rows, np.int64))

    def add(self, rows: NDArray[np.intp], scores: Floats) -> None:
        """Adds the scores of some rows, each of which is named once."""
        good = np.isfinite(scores)
        self.total[rows[good]] += np.rint(scores[good].astype(np.float64) * _SCALE).astype(np.int64)
        self.count[rows[good]] += 1

    def mean(self) -> Floats:
        """(n,) float32 means; NaN where nothing was added."""
        means = self.total / (np.maximum(self.count, 1) * _SCALE)
        return np.where(self.count > 0, means, np.nan).astype(np.float32)


def _check(image: Embeddings, text: Embeddings, temperature: float, batch: int) -> None:
    if image.shape != text.shape or image.ndim != 2:
        msg = f"images {image.shape} and texts {text.shape} need one shape (n, d)"
        raise ValueError(msg)
    if not temperature > 0 or batch < 1:
        msg = f"needs a positive temperature and batch, but got {temperature} and {batch}"
        raise ValueError(msg)


def _pairs(image: Embeddings, text: Embeddings) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Unit rows of the pairs with a direction on both sides, and which pairs these are."""
    images, seen = unit_rows(image)
    texts, read = unit_rows(text)
    usable = seen & read
    return (images, texts, usable) if usable.all() else (images[usable], texts[usable], usable)


def _own_cosines(images: Floats, texts: Floats) -> NDArray[np.float64]:
    """(n,) cosines of the pairs, summed in float64."""
    cosines: NDArray[np.float64] = np.einsum("nd,nd->n", images, texts, dtype=np.float64)
    return cosines


def _torch_place(device: str) -> str:
    """The device as one that `to_device` takes for torch, which also multiplies on the processor here."""
    place = resolve_device(device)
    return "cpu:0" if place == "cpu" else place


def _tile(place: str, count: int) -> tuple[int, int]:
    """Rows and columns of a tile; on the processor its products stay in the cache."""
    if place.startswith("cuda"):
        return min(CUDA_TILE, round_up(count)), min(CUDA_TILE, round_up(count))
    return min(TILE_ROWS, round_up(count)), min(TILE_COLUMNS, round_up(count))


class _Tile:
    """The products of a tile, allocated once; their sums are taken in the same place."""

    def __init__(self, height: int, width: int, place: str) -> None:
        self._room: torch.Tensor = to_device(np.empty(height * width, np.float32), place)
        self._factors: tuple[torch.Tensor, torch.Tensor] | None = None
        self._shape = (height, width)

    def multiply(self, rows: torch.Tensor, columns: torch.Tensor, wanted: int) -> None:
        """Fills the tile with rows x columns'; only the first `wanted` columns count from here on."""
        import torch  # noqa: PLC0415

        self._shape, self._factors = (len(rows), wanted), (rows, columns)
        if wanted == len(columns):
            torch.mm(rows, columns.T, out=self._products())
        else:
            self._products().copy_((rows @ columns.T)[:, :wanted])

    def of_rows(self) -> torch.Tensor:
        """Log sum exp of each row, whatever stands in the others; the products are gone after it."""
        products = self._products()
        greatest = products.amax(1, keepdim=True)
        products.sub_(greatest).exp_()
        return products.sum(1).log_() + greatest[:, 0]

    def of_both(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Log sum exp of each row and of each column; the products are gone after it.

        One exponential serves both where that is safe, which is nearly always.
        """
        products = self._products()
        greatest = products.max()
        products.sub_(greatest).exp_()
        rows, columns = products.sum(1), products.sum(0)
        # What lies e^87 below the greatest is lost; it may be all that a row has.
        if min(rows.min(), columns.min()) < _SAFE and self._factors is not None:
            self.multiply(*self._factors, self._shape[1])
            return products.logsumexp(1), products.logsumexp(0)
        return rows.log_() + greatest, columns.log_() + greatest

    def _products(self) -> torch.Tensor:
        height, width = self._shape
        return self._room[: height * width].view(height, width)


def _log_sums(
    images: Floats, texts: Floats, temperature: float, place: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of sum_j exp(S_ij/tau) of each image over the texts, and of each text over the images."""
    count = len(images)
    height, width = _tile(place, count)
    seen, read = to_device(images, place), to_device(texts, place)
    rows, columns = _nothing(count, place), _nothing(count, place)
    tile = _Tile(height, width, place)
    with full_precision(place):
        for top in range(0, count, height):
            some = seen[top : top + height] / temperature
            for left in range(0, count, width):
                others = read[left : left + width]
                tile.multiply(some, others, len(others))
                across, along = tile.of_both()
                _join(rows[top : top + height], across)
                _join(columns[left : left + width], along)
    return to_numpy(rows), to_numpy(columns)


def _log_sums_of_rows(asked: Floats, rivals: Floats, temperature: float, place: str) -> NDArray[np.float64]:
    """Logarithms of sum_j exp(<asked_i, rival_j>/tau): (n,) float64, -inf for no rivals.

    Tiles have one shape whatever n is, so that a row's bits do not depend on the rows beside it.
    """
    height, width = _tile(place, max(TILE_ROWS, len(rivals)))
    starts = range(0, len(rivals), width)
    blocks = [to_device(padded(rivals[left : left + width], width), place) for left in starts]
    tile = _Tile(height, width, place)
    found = np.empty(len(asked))
    with full_precision(place):
        for top in range(0, len(asked), height):
            some = asked[top : top + height]
            rows, sums = to_device(padded(some, height), place) / temperature, _nothing(height, place)
            for left, block in zip(starts, blocks, strict=True):
                tile.multiply(rows, block, min(width, len(rivals) - left))
                _join(sums, tile.of_rows())
            found[top : top + height] = to_numpy(sums)[: len(some)]
    return found


def _nothing(count: int, place: str) -> Any:
    """The logarithms of sums over nothing; float64, so that joining many tiles loses no digits."""
    return to_device(np.full(count, -np.inf), place)


def _join(sums: torch.Tensor, more: torch.Tensor) -> None:
    """Adds to the sums, both being logarithms, without leaving them."""
    sums.copy_(sums.logaddexp(more.double()))
