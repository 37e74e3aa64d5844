"""Copies of pictures: perceptual hashes within a radius, or embedding neighbours that pixels confirm.

Stored are the nearest earlier row, how far it is, and what kind of copy; a row that was compared
and has none has the distance infinity and the kind "none".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from filters.core.declaration import Columns, numbers
from filters.core.errors import RecipeError
from filters.core.selection import order_keys
from filters.core.uids import parse_uids
from transforms.clustered import ClusteredComparison
from transforms.clustering import unit_rows
from transforms.comparing import Found
from transforms.deciding import DecidePart
from transforms.exchange import ExchangePlan, Records
from transforms.hamming import expected_work, pairs_within
from transforms.hamming_tables import expected_comparisons
from transforms.measures.perceptual_hashes import (
    LEAST_BITS_SET,
    LEAST_QUALITY,
    LEAST_VARIANCE,
    codes_of,
)
from transforms.measures.thumbnail import thumbnail_pixels
from transforms.registration import SIDE
from transforms.relating import Task
from transforms.relations.exact_duplicates import originals
from transforms.verification import duplicate_kind, verify_pairs

BYTES = {"pdq": 32, "phash": 8}
KINDS = ("none", "copy", "exact", "re-encoded", "edited", "similar")
FLIPS = 8
PAIRS_AT_ONCE = 8192
# At a few nanoseconds each this is about two hours of one core.
MOST_COMPARISONS = 10**12
INSTEAD = "set `within` to an embedding, such as clip_image, to search inside clusters, or lower at_most_bits"
COUNTED_FROM = 1 << 20  # counting takes half as long as searching; below this it never comes to much


class Copies(ClusteredComparison):
    """Copies of pictures among all survivors, or with `within` among those of a cluster."""

    hot_rows: ClassVar[int | None] = None
    greatest: ClassVar[bool] = False

    @property
    def clustered(self) -> bool:
        """Whether rows are compared inside clusters only."""
        return self.rule.within is not None

    @classmethod
    def fields(cls, rule: Any, width: int) -> list[tuple[Any, ...]]:
        if rule.method == "verified":
            return [
                ("vector", "<f2", (width,)),
                ("pixels", "u1", (SIDE, SIDE, 3)),
                ("pixels_hash", "<u8", (2,)),
            ]
        size = BYTES[rule.method]
        flips = [("flips", "u1", (FLIPS, size))] if rule.flips else []
        return [("code", "u1", (size,)), ("telling", "?"), *flips]

    @classmethod
    def expected_keys(cls, rule: Any, rows: int) -> int:
        return super().expected_keys(rule, rows) if rule.within is not None else 1

    @classmethod
    def records_per_row(cls, rule: Any) -> int:
        return int(rule.probe) if rule.within is not None else 1

    @classmethod
    def forecast(cls, rule: Any, rows: int, parts: int, workers: int, width: int) -> ExchangePlan:
        plan = super().forecast(rule, rows, parts, workers, width)
        if rule.method == "verified":
            return plan
        keys = cls.expected_keys(rule, rows)
        within = max(1, plan.rows // keys)
        queries = within * FLIPS if rule.flips else within
        each = expected_comparisons(BYTES[rule.method] // 4, rule.radius, within, queries * within / 2)
        return replace(plan, comparisons=each * keys, refused=each > MOST_COMPARISONS, instead=INSTEAD)

    def keys(self) -> int:
        return super().keys() if self.clustered else 1

    @property
    def width(self) -> int:
        return super().width if self.clustered else 0

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        if stage in self.training and not self.clustered:
            return []
        return super().tasks(stage, parts)

    def entries(self, part: DecidePart) -> tuple[Records, NDArray[np.int64]]:
        columns, alive = self.scope.alive(part, self.rule.reads())
        for name in self.rule.reads():
            if name != self.rule.by:
                alive &= columns[name].is_valid().to_numpy(zero_copy_only=False)
        stored = None
        if self.clustered:
            rows, stored, vectors = self.scope.usable(part, self.rule.within, alive)
            clusters, _ = self.nearest_centroids(part, vectors, self.rule.probe)
        else:
            rows = np.flatnonzero(alive)
            clusters = np.zeros((len(rows), 1), np.int32)
        here = {name: column.take(pa.array(rows)) for name, column in columns.items()}
        own = self._records(part, rows, here, stored)
        guests = own.copy()
        guests["own"] = False
        records = np.concatenate([own, *[guests] * (clusters.shape[1] - 1)])
        return records, clusters.T.reshape(-1).astype(np.int64)

    def _records(
        self, part: DecidePart, rows: NDArray[np.intp], here: Columns, stored: NDArray[np.float16] | None
    ) -> Records:
        records = np.zeros(len(rows), self.dtype)
        if len(rows) == 0:
            return records
        records["uid"] = parse_uids(here["uid"])
        records["part"], records["row"], records["own"] = part.number, rows, True
        if self.rule.by is not None:
            records["order"] = ~order_keys(numbers(here[self.rule.by])).astype(np.uint64)
        method = self.rule.method
        if method == "verified":
            records["vector"] = stored
            records["pixels"] = small_pixels(here["thumbnail"])
            records["pixels_hash"] = parse_uids(here["pixels_hash"])
            return records
        records["code"] = codes_of(here["phash" if method == "phash" else "pdq_hash"], BYTES[method])
        records["telling"] = _telling(method, here, records["code"])
        if self.rule.flips:
            flips = codes_of(here[f"{method}_flips"], FLIPS * BYTES[method])
            records["flips"] = flips.reshape(-1, FLIPS, BYTES[method])
        return records

    def compare(self, members: Records, key: int) -> Found:  # noqa: ARG002
        if self.rule.method == "verified":
            return nearest_earlier_picture(members, self.rule.neighbours)
        value = np.full(len(members), np.inf)
        original = np.full(len(members), -1, np.int64)
        telling = np.flatnonzero(members["telling"])
        found = nearest_earlier_code(
            members["code"][telling],
            members["flips"][telling] if self.rule.flips else None,
            self.rule.radius,
            self.scope.name,
        )
        has = found.original >= 0
        value[telling[has]] = found.value[has]
        original[telling[has]] = telling[found.original[has]]
        return Found(value, original, (original >= 0).astype(np.uint8) * np.uint8(KINDS.index("copy")))

    def columns(self, rows: int, answers: Records) -> Columns:
        places = answers["row"]
        absent = np.ones(rows, np.bool_)
        absent[places] = False
        distance, kind = np.zeros(rows, np.float32), np.zeros(rows, np.int64)
        distance[places], kind[places] = answers["value"], answers["kind"]
        kinds = pa.array(KINDS, pa.string()).take(pa.array(kind, mask=absent))
        return {
            "duplicate_of": originals(rows, answers),
            "distance": pa.array(distance, mask=absent),
            "duplicate_kind": kinds,
        }


def _telling(method: str, columns: Columns, codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True for hashes of pictures with enough to see."""
    set_bits = np.unpackbits(codes, axis=1).sum(axis=1)
    if method == "pdq":
        enough = numbers(columns["pdq_quality"]) >= LEAST_QUALITY
    else:
        enough = numbers(columns["grey_variance"]) >= LEAST_VARIANCE
    result: NDArray[np.bool_] = enough & (set_bits >= LEAST_BITS_SET[method])
    return result


def nearest_earlier_code(
    codes: NDArray[np.uint8], flips: NDArray[np.uint8] | None, radius: int, step: str
) -> Found:
    """For each code, in order, the nearest earlier one within the radius; ties go to the earliest.

    codes: (n, b) uint8; flips: (n, 8, b), of which any may match an earlier or later code (the
    flips of the first of equal codes stand for all of them). Of equal codes only the first is
    searched with, so that many copies of one picture cost nothing.
    Returns: distance (inf for none) and place of the original (-1).
    Raises: RecipeError where the search would take more than MOST_COMPARISONS.
    """
    value, original = np.full(len(codes), np.inf), np.full(len(codes), -1, np.int64)
    if len(codes) == 0:
        return Found(value, original)
    _, first, group = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    heads = np.sort(first)
    copies = first[group] != np.arange(len(codes))
    value[copies], original[copies] = 0, first[group][copies]
    queries = None if flips is None else np.ascontiguousarray(flips[heads].reshape(-1, codes.shape[1]))
    some = np.ascontiguousarray(codes[heads])
    _refuse_quadratic(some, radius, queries, step)
    best = np.full(len(heads), np.iinfo(np.int64).max)
    for pairs in pairs_within(some, radius, queries=queries):
        one = pairs.query if flips is None else pairs.query // flips.shape[1]
        earlier, later = np.minimum(one, pairs.code), np.maximum(one, pairs.code)
        apart = earlier != later
        packed = (pairs.distance.astype(np.int64) << 40) | earlier
        np.minimum.at(best, later[apart], packed[apart])
    has = best != np.iinfo(np.int64).max
    value[heads[has]] = best[has] >> 40
    original[heads[has]] = heads[best[has] & ((1 << 40) - 1)]
    return Found(value, original)


def _refuse_quadratic(
    codes: NDArray[np.uint8], radius: int, queries: NDArray[np.uint8] | None, step: str
) -> None:
    if len(codes) < COUNTED_FROM:
        return
    work = expected_work(codes, radius, queries=queries).comparisons
    if work > MOST_COMPARISONS:
        msg = f"filter {step} would compare {work:.1e} pairs among {len(codes):,} pictures: {INSTEAD}"
        raise RecipeError(msg)


def small_pixels(thumbnails: pa.Array) -> NDArray[np.uint8]:
    """(n, 32, 32, 3) uint8 of a column of thumbnails, larger ones averaged."""
    pixels = thumbnail_pixels(thumbnails)
    times = pixels.shape[1] // SIDE
    if times > 1:
        blocks = pixels.reshape(len(pixels), SIDE, times, SIDE, times, 3).astype(np.float32)
        pixels = np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)
    return pixels


def nearest_earlier_picture(members: Records, neighbours: int) -> Found:
    """For each picture, in order, the earlier one that agrees best, and what it is to it.

    Candidates are the `neighbours` nearest embeddings of each picture, earlier or later; a pair
    is looked at when either has the other among them. Value: 1 - score, inf where nothing is at
    least similar.
    """
    value, original = np.full(len(members), np.inf), np.full(len(members), -1, np.int64)
    kinds = np.zeros(len(members), np.uint8)
    earlier, later = neighbour_pairs(members["vector"], neighbours)
    for start in range(0, len(earlier), PAIRS_AT_ONCE):
        one, other = earlier[start : start + PAIRS_AT_ONCE], later[start : start + PAIRS_AT_ONCE]
        # Its products are so small that a second thread costs more in waiting than it does in work.
        with threadpool_limits(1, user_api="blas"):
            verified = verify_pairs(members["pixels"][one], members["pixels"][other])
        same = (members["pixels_hash"][one] == members["pixels_hash"][other]).all(axis=1)
        found = duplicate_kind(verified, same)
        apart = np.where(same, 0.0, 1.0 - verified.score.astype(np.float64))
        # Pairs are sorted by the earlier one, so of equal ones the earliest is kept.
        for place in np.flatnonzero(found != "none").tolist():
            if apart[place] < value[other[place]]:
                value[other[place]], original[other[place]] = apart[place], one[place]
                kinds[other[place]] = KINDS.index(str(found[place]))
    return Found(value, original, kinds)


def neighbour_pairs(
    vectors: NDArray[np.float16], neighbours: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (earlier, later) of which one is among the other's nearest, sorted, each once."""
    if len(vectors) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    import faiss  # noqa: PLC0415  (takes a second, and hashes do without)

    unit, _ = unit_rows(vectors)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    _, near = index.search(unit, min(neighbours + 1, len(unit)))
    rows = np.repeat(np.arange(len(unit)), near.shape[1])
    others = near.reshape(-1).astype(np.int64)
    rows, others = rows[(others >= 0) & (others != rows)], others[(others >= 0) & (others != rows)]
    codes = np.unique(np.minimum(rows, others) * len(unit) + np.maximum(rows, others))
    return codes // len(unit), codes % len(unit)
