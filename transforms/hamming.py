"""Exact search for binary codes within a Hamming radius, without comparing all with all.

Codes are cut as `hamming_tables` says: two codes within the radius lie in one bucket of at least
one table. The pairs of a bucket are compared, first in the table's block alone, then whole; a pair
is reported only by the first block and the first choice of pieces that find it, which needs no
memory of what was reported before. So the answer is that of comparing all pairs, for every input.
`benchmarks/hamming.py` compares it with faiss.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.hamming_tables import BLOCK_BITS, Table, make_tables

MOST_ERRORS = 7  # in one block; with more of them hardly anything need agree
MOST_CODES = 2**32  # their numbers are packed into 32 bits
CHUNK_PAIRS = 2**18  # compared at once: few enough that they stay in the processor's cache
BATCH_PAIRS = 2**20

_Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int16]]


@dataclass(frozen=True)
class Pairs:
    """Pairs within the radius, sorted by query, then code.

    Attributes:
        query: (k,) int64 row of the queries; where there are none, of the codes.
        code: (k,) int64 row of the codes.
        distance: (k,) int16 bits that differ.
    """

    query: NDArray[np.int64]
    code: NDArray[np.int64]
    distance: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.query)


@dataclass(frozen=True)
class ExpectedWork:
    """What a search would do, in pairs.

    Attributes:
        comparisons: pairs of distinct codes in the same bucket, summed over the tables; a few
            nanoseconds each.
        equal_pairs: pairs of rows with equal codes; each of them is part of the answer.
    """

    comparisons: int
    equal_pairs: int


def pairs_within(
    codes: NDArray[np.uint8],
    radius: int,
    *,
    queries: NDArray[np.uint8] | None = None,
    threads: int = 1,
    batch_pairs: int = BATCH_PAIRS,
) -> Iterator[Pairs]:
    """Every pair of codes that differ in at most `radius` bits, each once, in batches.

    Batches and their order do not depend on `threads`; among each other they are not sorted
    (`gathered` does that). Memory does not depend on how alike the codes are, but time does: it is
    quadratic in the size of a group of (nearly) equal codes. Ask `expected_work` first.

    codes: (n, b) uint8, b a multiple of 4, such as 32 for PDQ and 8 for pHash.
    radius: inclusive; at most 2 b - 1, which is 63 for 256 bits and 15 for 64.
    queries: (m, b) uint8, each compared with every code; None: the codes are compared with each
        other, and query < code in every pair.
    Yields: at most `batch_pairs` pairs, never none.
    Raises: ValueError for codes or a radius that are not so.
    """
    _check(codes, radius, queries)
    return _searched(codes, radius, queries, threads, batch_pairs)


def gathered(batches: Iterable[Pairs]) -> Pairs:
    """All pairs in one, sorted by query, then code; holds the whole answer in memory."""
    found = [(pairs.query, pairs.code, pairs.distance) for pairs in batches]
    return _sorted_pairs(found)


def expected_work(
    codes: NDArray[np.uint8], radius: int, *, queries: NDArray[np.uint8] | None = None
) -> ExpectedWork:
    """What `pairs_within` would do with the same arguments: counted exactly, without doing it.

    Takes as long as a search in which no bucket holds two codes.
    Raises: ValueError as `pairs_within`.
    """
    _check(codes, radius, queries)
    search = _Search.of(codes, radius, queries)
    comparisons = sum(int(search.buckets(table).counts.sum()) for table in search.tables)
    if queries is None:
        sizes = search.codes.sizes.astype(object)
        return ExpectedWork(comparisons, int((sizes * (sizes - 1) // 2).sum()))
    return ExpectedWork(comparisons, _equal_pairs(queries, codes))


def hamming(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Bits in which the rows differ; (..., b) uint8 each, broadcast. Returns: (...) int16."""
    apart: NDArray[np.int16] = bits_set(one ^ other).sum(axis=-1, dtype=np.int16)
    return apart


def distinct(codes: NDArray[np.uint8]) -> Groups:
    """The rows grouped by code; codes: (n, b) uint8, b a multiple of 4."""
    words = np.ascontiguousarray(codes).view(np.uint32)
    order = np.argsort(words[:, 0], kind="stable")
    first = words[order, 0]
    same = first[1:] == first[:-1]
    # Only where first words are equal do the others decide; lexsort is too slow for all rows.
    tied = np.zeros(len(order), dtype=np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    rows = order[tied]
    order[tied] = rows[np.lexsort((rows, *words[rows].T[::-1]))]
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = ~same
    check = np.flatnonzero(same)
    new[check + 1] = (words[order[check]] != words[order[check + 1]]).any(axis=1)
    starts = np.flatnonzero(new)
    sizes = np.diff(starts, append=len(order))
    return Groups(words[order[starts]], order, starts, sizes)


@dataclass(frozen=True)
class Groups:
    """Rows with equal codes brought together.

    Attributes:
        words: (g, b / 4) uint32, the distinct codes.
        order: (n,) int64 rows, group by group, ascending within one.
        starts, sizes: (g,) int64, where each group lies in `order`.
    """

    words: NDArray[np.uint32]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]


# --- the search


@dataclass(frozen=True)
class _Buckets:
    """Codes sorted into one table: each query is compared with `counts` codes from `starts` on.

    Attributes:
        query_words, code_words: sorted words, arranged; uint32.
        query_groups, code_groups: the group each of them belongs to; uint32.
    """

    query_words: NDArray[np.uint32]
    query_groups: NDArray[np.uint32]
    code_words: NDArray[np.uint32]
    code_groups: NDArray[np.uint32]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class _Search:
    codes: Groups
    queries: Groups | None
    radius: int
    tables: tuple[Table, ...]

    @classmethod
    def of(cls, codes: NDArray[np.uint8], radius: int, queries: NDArray[np.uint8] | None) -> _Search:
        groups = distinct(codes)
        others = None if queries is None else distinct(queries)
        count = len(groups.sizes)
        asked = 0 if others is None else len(others.sizes)
        pairs = count * (count - 1) // 2 if others is None else count * asked
        return cls(groups, others, radius, make_tables(groups.words.shape[1], radius, count + asked, pairs))

    def buckets(self, table: Table) -> _Buckets:
        """The codes and queries sorted by the chosen pieces."""
        moves, _ = table.arranged()
        below = BLOCK_BITS - table.key_bits
        words, groups = _sorted_words(self.codes.words[:, table.block], moves)
        keys = words >> below
        if self.queries is None:
            starts = np.arange(1, len(keys) + 1)
            last = np.flatnonzero(keys[1:] != keys[:-1]) if len(keys) else starts
            ends = np.append(last + 1, len(keys))
            counts = np.repeat(ends, np.diff(ends, prepend=0)) - starts
            return _Buckets(words, groups, words, groups, starts, counts)
        query_words, query_groups = _sorted_words(self.queries.words[:, table.block], moves)
        query_keys = query_words >> below
        starts = np.searchsorted(keys, query_keys)
        counts = np.searchsorted(keys, query_keys, side="right") - starts
        return _Buckets(query_words, query_groups, words, groups, starts, counts)

    def near(self, table: Table) -> Iterator[_Found]:
        """Groups within the radius that this table is the first to find: queries, codes, distances."""
        buckets = self.buckets(table)
        edges = np.concatenate([[0], np.cumsum(buckets.counts)])
        offsets = buckets.starts - edges[:-1]
        _, differ = table.arranged()
        for begin, end, low, high, parts in _chunks(edges, CHUNK_PAIRS):
            where = np.arange(begin, end)
            where += np.repeat(offsets[low:high], parts)
            apart = np.repeat(buckets.query_words[low:high], parts)
            apart ^= buckets.code_words[where]
            hits = np.flatnonzero(bits_set(apart) <= table.errors)
            for mask in differ:
                hits = hits[(apart[hits] & np.uint32(mask)) != 0]
            asked = low + np.searchsorted(edges[low : high + 1], begin + hits, side="right") - 1
            yield self._verified(table, buckets.query_groups[asked], buckets.code_groups[where[hits]])

    def _verified(self, table: Table, asked: NDArray[np.uint32], found: NDArray[np.uint32]) -> _Found:
        """Those pairs of groups that are within the radius and that no earlier block finds."""
        queries = self.codes if self.queries is None else self.queries
        apart = bits_set(queries.words[asked] ^ self.codes.words[found])
        distance = apart.sum(axis=1, dtype=np.int16)
        good = distance <= self.radius
        if table.block:
            good &= (apart[:, : table.block] > np.array(table.bounds[: table.block])).all(axis=1)
        return asked[good].astype(np.int64), found[good].astype(np.int64), distance[good]

    def equal(self) -> Iterator[_Found]:
        """Groups of several rows, with themselves; nothing where queries are compared with codes."""
        if self.queries is None:
            several = np.flatnonzero(self.codes.sizes > 1)
            for begin in range(0, len(several), CHUNK_PAIRS):
                group = several[begin : begin + CHUNK_PAIRS]
                yield group, group, np.zeros(len(group), dtype=np.int16)

    def rows(self, found: Iterator[_Found], size: int) -> Iterator[_Found]:
        """The pairs of groups as pairs of rows, at most `size` at once."""
        queries = self.codes if self.queries is None else self.queries
        for asked, groups, distance in found:
            widths = self.codes.sizes[groups]
            edges = np.concatenate([[0], np.cumsum(queries.sizes[asked] * widths)])
            for begin, end, low, high, parts in _chunks(edges, size):
                pair = np.repeat(np.arange(low, high), parts)
                across, along = np.divmod(np.arange(begin, end) - edges[pair], widths[pair])
                query = queries.order[queries.starts[asked[pair]] + across]
                code = self.codes.order[self.codes.starts[groups[pair]] + along]
                apart = distance[pair]
                if self.queries is None:
                    # Within a group every pair came twice, and each row with itself.
                    keep = (asked[pair] != groups[pair]) | (query < code)
                    query, code, apart = query[keep], code[keep], apart[keep]
                    query, code = np.minimum(query, code), np.maximum(query, code)
                yield query, code, apart


def _searched(
    codes: NDArray[np.uint8], radius: int, queries: NDArray[np.uint8] | None, threads: int, size: int
) -> Iterator[Pairs]:
    search = _Search.of(codes, radius, queries)
    found = (search.near(table) for table in search.tables)
    parts = (_batches(search.rows(part, size), size) for part in (search.equal(), *found))
    with ThreadPoolExecutor(threads, thread_name_prefix="hamming") as pool:
        ahead: deque[tuple[Iterator[Pairs], Future[Pairs | None]]] = deque()
        # The first part is drained while the others make one batch each, so memory is bounded.
        for part in parts:
            ahead.append((part, pool.submit(next, part, None)))
            if len(ahead) > threads:
                yield from _drained(pool, *ahead.popleft())
        while ahead:
            yield from _drained(pool, *ahead.popleft())


def _drained(
    pool: ThreadPoolExecutor, part: Iterator[Pairs], coming: Future[Pairs | None]
) -> Iterator[Pairs]:
    while (pairs := coming.result()) is not None:
        coming = pool.submit(next, part, None)
        yield pairs


def _batches(found: Iterator[_Found], size: int) -> Iterator[Pairs]:
    """The pairs in batches of at most `size`, each sorted, none empty."""
    held: list[_Found] = []
    count = 0
    for piece in found:
        if count and count + len(piece[0]) > size:
            yield _sorted_pairs(held)
            held, count = [], 0
        if len(piece[0]):
            held.append(piece)
            count += len(piece[0])
    if count:
        yield _sorted_pairs(held)


def _sorted_pairs(found: Sequence[_Found]) -> Pairs:
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return Pairs(none, none, none.astype(np.int16))
    query, code, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((code, query))
    return Pairs(query[order], code[order], distance[order])


def _chunks(edges: NDArray[np.int64], size: int) -> Iterator[tuple[int, int, int, int, NDArray[np.int64]]]:
    """Cuts items with edges[i + 1] - edges[i] pairs each into chunks of `size` pairs.

    Yields: first pair and end, first item and end, and how many of its pairs each item has here.
    """
    total = int(edges[-1])
    for begin in range(0, total, size):
        end = min(begin + size, total)
        low = int(np.searchsorted(edges, begin, side="right")) - 1
        high = int(np.searchsorted(edges, end))
        within = np.clip(edges[low : high + 1], begin, end)
        yield begin, end, low, high, within[1:] - within[:-1]


def _sorted_words(
    words: NDArray[np.uint32], moves: Sequence[tuple[int, int, int]]
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The words arranged and sorted, and where each one came from.

    Packed with their numbers into 64 bits: one plain sort is faster than argsort.
    """
    words = np.ascontiguousarray(words)
    arranged = np.zeros(len(words), dtype=np.uint32)
    for lowest, mask, now in moves:
        arranged |= (words >> np.uint32(lowest) & np.uint32(mask)) << np.uint32(now)
    packed = arranged.astype(np.uint64) << np.uint64(32)
    packed |= np.arange(len(words), dtype=np.uint64)
    packed.sort()
    return (packed >> np.uint64(32)).astype(np.uint32), packed.astype(np.uint32)


def _equal_pairs(queries: NDArray[np.uint8], codes: NDArray[np.uint8]) -> int:
    both = distinct(np.concatenate([queries, codes]))
    asked = np.add.reduceat(both.order < len(queries), both.starts, dtype=np.int64).astype(object)
    return int((asked * (both.sizes - asked)).sum())


_BITS_OF_16 = np.array([number.bit_count() for number in range(2**16)], dtype=np.uint8)


def bits_set(values: NDArray[np.uint8] | NDArray[np.uint32]) -> NDArray[np.uint8]:
    """How many bits of each value are set; of the same shape."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(values))
    return _bits_by_table(values)


def _bits_by_table(values: NDArray[np.uint8] | NDArray[np.uint32]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return _BITS_OF_16[values]
    count: NDArray[np.uint8] = _BITS_OF_16[values & np.uint32(0xFFFF)] + _BITS_OF_16[values >> np.uint32(16)]
    return count


def _check(codes: NDArray[np.uint8], radius: int, queries: NDArray[np.uint8] | None) -> None:
    for name, array in (("codes", codes), ("queries", codes if queries is None else queries)):
        if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] % 4 or not array.shape[1]:
            wanted = "(rows, bytes) uint8, bytes a multiple of 4"
            msg = f"{name} are {array.shape} {array.dtype}; they have to be {wanted}"
            raise ValueError(msg)
        if array.shape[1] != codes.shape[1]:
            msg = f"queries have {array.shape[1]} bytes, codes {codes.shape[1]}"
            raise ValueError(msg)
        if len(array) >= MOST_CODES:
            msg = f"{len(array)} {name}; {MOST_CODES - 1} at most: search in parts"
            raise ValueError(msg)
    most = (MOST_ERRORS + 1) * codes.shape[1] // 4 - 1
    if not 0 <= radius <= most:
        msg = f"radius {radius} for codes of {codes.shape[1]} bytes; 0 to {most} can be searched"
        raise ValueError(msg)
