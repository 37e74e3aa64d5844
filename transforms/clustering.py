"""Clusters of embeddings: unit rows, centroids by k-means, and the clusters nearest to a row.

faiss trains the centroids. Assignment is a plain matrix product in blocks of fixed shape, padded
with zeros, because a BLAS may round the same product differently in a matrix of another shape: so a
row's cluster and cosine are the same bits whichever rows stand beside it. On the CPU numpy
multiplies and on a GPU torch does, through the same lines; between the two the last bits differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.devices import resolve_device

# Multiples of it never reach the kernels for edges and small matrices, which round differently.
SHAPE_STEP = 64
BLOCK_ROWS = 1024
BLOCK_CENTROIDS = 8192
SHORTEST = 1e-12  # a row that is not longer counts as zero
_ROWS_AT_ONCE = 1024  # their float64 copies stay in the cache

Floats = NDArray[np.float32]
Embeddings = NDArray[np.float16] | NDArray[np.float32]


def unit_rows(embeddings: Embeddings) -> tuple[Floats, NDArray[np.bool_]]:
    """The rows with length 1, and which rows have a direction at all.

    embeddings: (n, d) float16 or float32; may be a memory map.
    Returns: (n, d) float32, each row divided by its length, which is summed in float64; (n,) bool,
    False for a row with NaN or infinity or of length zero, whose vector here is all zeros so that
    it changes no product.
    """
    vectors = np.zeros(embeddings.shape, dtype=np.float32)
    usable = np.zeros(len(embeddings), dtype=np.bool_)
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        wide = embeddings[rows].astype(np.float64)
        lengths = np.sqrt(np.square(wide).sum(axis=1))
        good = np.isfinite(lengths) & (lengths > SHORTEST)
        usable[rows] = good
        if good.all():
            vectors[rows] = np.divide(wide, lengths[:, None], out=wide)
        else:
            vectors[rows][good] = wide[good] / lengths[good, None]
    return vectors, usable


def train_centroids(  # noqa: PLR0913  (what k-means itself takes)
    vectors: Floats, clusters: int, *, seed: int, iterations: int, spherical: bool, device: str = "auto"
) -> Floats:
    """The centroids of k-means over all rows, k = min(clusters, n).

    Deterministic for the same rows in the same order, seed and machine; another order of rows
    gives other centroids. faiss sees every row: its default is at most 256 for each cluster, of
    its own choice. An empty cluster is possible: it keeps a centroid that no row is nearest to.

    vectors: (n, d) float32; for spherical clusters the unit rows of `unit_rows`.
    spherical: unit centroids, rows belong to the greatest cosine (Dhillon and Modha 2001; SemDeDup,
    Density-Based Pruning); otherwise plain L2 with raw centroids (DataComp's image_based).
    device: auto, cpu or cuda; faiss uses a GPU where it sees one and the device allows.
    Returns: (k, d) float32; (0, d) where there are no rows.
    Raises: ValueError for no clusters, no iterations, or rows that are not finite.
    """
    if clusters < 1 or iterations < 1:
        msg = f"k-means needs at least 1 cluster and 1 iteration, but got {clusters} and {iterations}"
        raise ValueError(msg)
    count, width = vectors.shape
    if count == 0:
        return np.zeros((0, width), dtype=np.float32)
    _check_finite(vectors, "vectors")
    place = resolve_device(device)
    import faiss  # noqa: PLC0415  (takes a second, and most of this module does without)

    found = min(clusters, count)
    kmeans = faiss.Kmeans(
        width,
        found,
        niter=iterations,
        seed=seed % 2**31,
        spherical=spherical,
        gpu=place.startswith("cuda") and faiss.get_num_gpus() > 0,
        min_points_per_centroid=1,
        max_points_per_centroid=-(-count // found),
    )
    kmeans.train(np.ascontiguousarray(vectors, dtype=np.float32))
    centroids = np.array(kmeans.centroids, dtype=np.float32).reshape(found, width)
    return unit_rows(centroids)[0] if spherical else centroids


def assign(
    vectors: Floats, centroids: Floats, *, spherical: bool, device: str = "auto"
) -> tuple[NDArray[np.int32], Floats]:
    """The cluster with the greatest inner product for each row; equal ones go to the lowest id.

    The product is with the centroid as it is: DataComp assigns by raw, un-normalised centroids.
    A zero row, which `unit_rows` calls not usable, gets cluster 0 and product 0: leave it out.

    vectors: (n, d) float32; centroids: (k, d) float32, k at least 1.
    spherical: both are unit rows, so that the product is a cosine and is clipped to [-1, 1].
    Returns: (n,) int32 cluster; (n,) float32 inner product.
    Raises: ValueError where values are not finite or there is no centroid.
    """
    clusters, products = nearest_clusters(vectors, centroids, 1, device=device)
    nearest = products[:, 0]
    return clusters[:, 0], np.clip(nearest, -1.0, 1.0) if spherical else nearest


def nearest_clusters(
    vectors: Floats, centroids: Floats, probe: int, *, device: str = "auto"
) -> tuple[NDArray[np.int32], Floats]:
    """The `probe` clusters with the greatest inner products, best first; equal ones by lowest id.

    Takes probe passes over the products, and the memory of 1024 x 8192 of them.

    vectors: (n, d) float32; centroids: (k, d) float32, k at least 1; p = min(probe, k).
    Returns: (n, p) int32 clusters; (n, p) float32 inner products, not clipped.
    Raises: ValueError where values are not finite, there is no centroid, or probe is below 1.
    """
    if len(centroids) == 0 or probe < 1:
        msg = f"needs a centroid and a probe of at least 1, but got {len(centroids)} and {probe}"
        raise ValueError(msg)
    _check_finite(centroids, "centroids")
    _check_finite(vectors, "vectors")
    place, wanted = resolve_device(device), min(probe, len(centroids))
    size = min(BLOCK_CENTROIDS, round_up(len(centroids)))
    clusters = np.empty((len(vectors), wanted), dtype=np.int32)
    products = np.empty((len(vectors), wanted), dtype=np.float32)
    with full_precision(place):
        starts = range(0, len(centroids), size)
        blocks = [to_device(padded(centroids[start : start + size], size), place) for start in starts]
        lines = to_device(np.arange(BLOCK_ROWS), place)
        for start in range(0, len(vectors), BLOCK_ROWS):
            some = vectors[start : start + BLOCK_ROWS]
            rows = to_device(padded(some, BLOCK_ROWS), place)
            ids = np.empty((BLOCK_ROWS, 0), dtype=np.int64)
            best = np.empty((BLOCK_ROWS, 0), dtype=np.float32)
            for first, block in zip(starts, blocks, strict=True):
                scores = rows @ block.T
                scores[:, len(centroids) - first :] = -np.inf
                columns, values = _best_columns(scores, min(wanted, size), lines)
                # Earlier blocks come first and have lower ids, so a stable sort keeps the tie rule.
                ids, best = np.hstack([ids, columns + first]), np.hstack([best, values])
                order = np.argsort(-best, axis=1, kind="stable")[:, :wanted]
                ids, best = np.take_along_axis(ids, order, 1), np.take_along_axis(best, order, 1)
            clusters[start : start + BLOCK_ROWS] = ids[: len(some)]
            products[start : start + BLOCK_ROWS] = best[: len(some)]
    return clusters, products


def _best_columns(scores: Any, wanted: int, lines: Any) -> tuple[NDArray[np.int64], Floats]:
    """Columns and values of each line's greatest scores, first column first; overwrites scores."""
    columns, values = [], []
    for _ in range(wanted):
        column = scores.argmax(1)
        columns.append(to_numpy(column))
        values.append(to_numpy(scores[lines, column]))
        if len(columns) < wanted:
            scores[lines, column] = -np.inf
    return np.column_stack(columns), np.column_stack(values)


def round_up(count: int) -> int:
    """The count as a multiple of SHAPE_STEP, at least one step."""
    return max(-(-count // SHAPE_STEP), 1) * SHAPE_STEP


def padded(rows: Floats, count: int) -> Floats:
    """The rows, and rows of zeros after them up to `count`; the same array where none are missing."""
    if len(rows) == count:
        return np.ascontiguousarray(rows)
    whole = np.zeros((count, rows.shape[1]), dtype=np.float32)
    whole[: len(rows)] = rows
    return whole


def to_device(array: NDArray[Any], place: str) -> Any:
    """The array itself for "cpu", else a torch tensor there; both have `@`, `argmax` and indexing."""
    if place == "cpu":
        return array
    import torch  # noqa: PLC0415

    return torch.from_numpy(array).to(place)


def to_numpy(array: Any) -> NDArray[Any]:
    """The numpy array of what `to_device` made, or of what was computed from it."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.cpu())


@contextmanager
def full_precision(place: str) -> Iterator[None]:
    """While it lasts, torch multiplies float32 as float32, also where the process allows TF32."""
    if place == "cpu":
        yield
        return
    import torch  # noqa: PLC0415

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _check_finite(array: Floats, name: str) -> None:
    # The least and the greatest value tell, and need no array of flags as large as the rows.
    if array.size and not np.isfinite([array.min(), array.max()]).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        msg = f"row {row} of the {name} is not finite: leave out what unit_rows calls not usable"
        raise ValueError(msg)
