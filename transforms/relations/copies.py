"""Copies of pictures: perceptual hashes within a radius, or embedding neighbours that pixels confirm.

Stored are the nearest earlier row, how far it is, and what kind of copy; a row that was compared
and has none has the distance infinity and the kind "none". In a continuous run everything kept before
comes first; of those pictures nothing is searched for, so a flip matches where a new one has it.
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
from transforms.deciding import DecidePart, read_columns
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
from transforms.memory import Memory
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
    remembers: ClassVar[bool] = True

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
        own, clusters = self._own(part, columns, alive, self.rule.probe)
        guests = own.copy()
        guests["own"] = False
        records = np.concatenate([own, *[guests] * (clusters.shape[1] - 1)])
        return records, clusters.T.reshape(-1).astype(np.int64)

    def _own(
        self, part: DecidePart, columns: Columns, alive: NDArray[np.bool_], probe: int
    ) -> tuple[Records, NDArray[np.int32]]:
        """The records of a part's comparable rows, and the clusters of each, the nearest first."""
        for name in self.rule.reads():
            if name != self.rule.by:
                alive &= columns[name].is_valid().to_numpy(zero_copy_only=False)
        stored = None
        if self.clustered:
            rows, stored, vectors = self.scope.usable(part, self.rule.within, alive)
            clusters, _ = self.nearest_centroids(part, vectors, probe)
        else:
            rows = np.flatnonzero(alive)
            clusters = np.zeros((len(rows), 1), np.int32)
        here = {name: column.take(pa.array(rows)) for name, column in columns.items()}
        return self._records(part, rows, here, stored), clusters

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

    def compare(self, members: Records, key: int) -> Found:
        if self.scope.memory is None:
            return self._compared(members, np.zeros(0, self.remembered_type))
        with Memory(self.scope.memory).survivors(key) as known:
            return self._compared(members, known)

    def _compared(self, members: Records, known: Records) -> Found:
        """What was found among those that are known, which come first, and among the members."""
        verified = self.rule.method == "verified"
        rows = np.arange(len(members)) if verified else np.flatnonzero(members["telling"])
        older, kept = len(known), self.remembered_type
        both = np.zeros(older + len(rows), kept)
        for name in kept.names or ():
            both[name][:older], both[name][older:] = known[name], members[name][rows]
        if verified:
            found = nearest_earlier_picture(both, self.rule.neighbours, older)
        else:
            flips = members["flips"][rows] if self.rule.flips else None
            found = nearest_earlier_code(both["code"], flips, self.rule.radius, self.scope.name, older)
        value, original = np.full(len(members), np.inf), np.full(len(members), -1, np.int64)
        kinds, uids = np.zeros(len(members), np.uint8), np.zeros((len(members), 2), np.uint64)
        value[rows], original[rows] = found.value, found.original
        has = found.original >= 0
        uids[rows[has]] = both["uid"][found.original[has]]
        kinds[rows] = np.uint8(KINDS.index("copy")) * has if found.kind is None else found.kind
        return Found(value, original, kinds, uids)

    # --- what a continuous run has kept

    @classmethod
    def finds_clusters(cls, rule: Any) -> bool:
        return rule.within is not None

    @property
    def remembered_type(self) -> np.dtype[Any]:
        names = ("vector", "pixels", "pixels_hash") if self.rule.method == "verified" else ("code",)
        return np.dtype([(name, self.dtype[name]) for name in ("uid", *names)])

    def remembered(self, part: DecidePart, rows: NDArray[np.intp]) -> tuple[Records, NDArray[np.int64]]:
        alive = np.zeros(part.rows, np.bool_)
        alive[rows] = True
        columns = read_columns(self.scope.config, part, list(self.rule.reads()))
        own, clusters = self._own(part, columns, alive, 1)
        kept = np.zeros(len(own), self.remembered_type)
        for name in kept.dtype.names or ():
            kept[name] = own[name]
        keys = clusters[:, 0].astype(np.int64)
        if self.rule.method == "verified":
            return kept, keys
        return kept[own["telling"]], keys[own["telling"]]

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
    codes: NDArray[np.uint8], flips: NDArray[np.uint8] | None, radius: int, step: str, known: int = 0
) -> Found:
    """For each code, in order, the nearest earlier one within the radius; ties go to the earliest.

    codes: (n, b) uint8; the first `known` are compared with, but not with one another. flips: (n -
    known, 8, b) of the others, of which any may match an earlier or later code (the flips of the first
    of equal codes stand for all of them). Of equal codes only the first is searched with, so that many
    copies of one picture cost nothing.
    Returns: (n - known) distances (inf for none) and places of the originals (-1) among all codes.
    Raises: RecipeError where the search would take more than MOST_COMPARISONS.
    """
    value, original = np.full(len(codes), np.inf), np.full(len(codes), -1, np.int64)
    if len(codes) == known:
        return Found(value[known:], original[known:])
    _, first, group = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    heads = np.sort(first)
    copies = first[group] != np.arange(len(codes))
    value[copies], original[copies] = 0, first[group][copies]
    some, older = np.ascontiguousarray(codes[heads]), int(np.searchsorted(heads, known))
    queries = None if flips is None else flips[heads[older:] - known]
    if queries is None and known:
        queries = some[older:, None]
    turns = 1 if queries is None else queries.shape[1]
    flat = None if queries is None else np.ascontiguousarray(queries.reshape(-1, codes.shape[1]))
    _refuse_quadratic(some, radius, flat, step)
    best = np.full(len(heads), np.iinfo(np.int64).max)
    for pairs in pairs_within(some, radius, queries=flat):
        one = pairs.query if flat is None else older + pairs.query // turns
        earlier, later = np.minimum(one, pairs.code), np.maximum(one, pairs.code)
        apart = earlier != later
        packed = (pairs.distance.astype(np.int64) << 40) | earlier
        np.minimum.at(best, later[apart], packed[apart])
    has = best != np.iinfo(np.int64).max
    value[heads[has]] = best[has] >> 40
    original[heads[has]] = heads[best[has] & ((1 << 40) - 1)]
    return Found(value[known:], original[known:])


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


def nearest_earlier_picture(pictures: Records, neighbours: int, known: int = 0) -> Found:
    """For each picture, in order, the earlier one that agrees best, and what it is to it.

    Candidates are the `neighbours` nearest embeddings of each picture, earlier or later; a pair
    is looked at when either has the other among them. The first `known` pictures look for none.
    Returns: (n - known) values 1 - score, inf where nothing is at least similar; places of the
    originals among all pictures; kinds.
    """
    value, original = np.full(len(pictures), np.inf), np.full(len(pictures), -1, np.int64)
    kinds = np.zeros(len(pictures), np.uint8)
    earlier, later = neighbour_pairs(pictures["vector"], neighbours, known)
    for start in range(0, len(earlier), PAIRS_AT_ONCE):
        one, other = earlier[start : start + PAIRS_AT_ONCE], later[start : start + PAIRS_AT_ONCE]
        # Its products are so small that a second thread costs more in waiting than it does in work.
        with threadpool_limits(1, user_api="blas"):
            verified = verify_pairs(pictures["pixels"][one], pictures["pixels"][other])
        same = (pictures["pixels_hash"][one] == pictures["pixels_hash"][other]).all(axis=1)
        found = duplicate_kind(verified, same)
        apart = np.where(same, 0.0, 1.0 - verified.score.astype(np.float64))
        # Pairs are sorted by the earlier one, so of equal ones the earliest is kept.
        for place in np.flatnonzero(found != "none").tolist():
            if apart[place] < value[other[place]]:
                value[other[place]], original[other[place]] = apart[place], one[place]
                kinds[other[place]] = KINDS.index(str(found[place]))
    return Found(value[known:], original[known:], kinds[known:])


def neighbour_pairs(
    vectors: NDArray[np.float16], neighbours: int, known: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (earlier, later) of which one is among the other's nearest, sorted, each once.

    The first `known` are not searched with, so that no two of them are a pair.
    """
    if len(vectors) < 2 or len(vectors) == known:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    import faiss  # noqa: PLC0415  (takes a second, and hashes do without)

    unit, _ = unit_rows(vectors)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    _, near = index.search(unit[known:], min(neighbours + 1, len(unit)))
    rows = np.repeat(np.arange(known, len(unit)), near.shape[1])
    others = near.reshape(-1).astype(np.int64)
    rows, others = rows[(others >= 0) & (others != rows)], others[(others >= 0) & (others != rows)]
    codes = np.unique(np.minimum(rows, others) * len(unit) + np.maximum(rows, others))
    return codes // len(unit), codes % len(unit)
