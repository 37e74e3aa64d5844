"""The exact n best of a pool by radix selection, never by a sketch.

Order: score descending, then uid ascending, then (shard, row) ascending. Each row has a key of
fourteen 16-bit digits (two of the score, eight of the uid, two of the shard's number, two of the
row), most significant first. A pass counts one digit among the rows that share the digits fixed
so far, which fixes one more digit; it ends as soon as the score's digits are fixed, so that the
bound is a score of the pool, and the counted bucket is wanted whole. Counting is adding integers,
so the result does not depend on sharding, order or engine. Method: ALGORITHMS 8.1 of the design
notes; the idea is the most-significant-digit radix select of any algorithms book.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filters.core.declaration import Artefact, Numbers

SCORE_DIGITS = 2
BUCKETS = 65536


def order_keys(scores: Numbers) -> NDArray[np.uint32]:
    """Order-preserving keys: a larger score has a larger key.

    scores: (n,) numbers, compared as float32. NaN sorts as -infinity; -0.0 equals +0.0.
    Returns: (n,) uint32.
    """
    with np.errstate(over="ignore"):
        values = scores.astype(np.float32)
    values = np.nan_to_num(values, copy=False, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    bits = (values + np.float32(0.0)).view(np.uint32)
    negative = (bits & np.uint32(0x80000000)) != 0
    return np.where(negative, ~bits, bits | np.uint32(0x80000000))


def score_of_key(key: int) -> float:
    """The float32 score whose order key this is."""
    bits = key & 0x7FFFFFFF if key & 0x80000000 else ~key & 0xFFFFFFFF
    return float(np.array([bits], dtype=np.uint32).view(np.float32)[0])


def tie_keys(uids: NDArray[np.uint64], shards: Numbers, rows: Numbers) -> NDArray[np.uint64]:
    """What breaks ties of score: unique for each row of a pool.

    uids: (n, 2) uint64; shards, rows: (n,) the shard's number in the pool and the row in it,
    both below 2^32. Returns: (n, 3) uint64.
    """
    place = (shards.astype(np.uint64) << np.uint64(32)) | rows.astype(np.uint64)
    return np.column_stack([uids, place])


def begin(wanted: int) -> Artefact:
    """The selection before its first pass; wanted: how many rows to select, at least 1."""
    return {"prefix": [], "wanted": wanted, "remaining": wanted, "complete": False}


def count_digit(
    prefix: list[int], keys: NDArray[np.uint32], ties: NDArray[np.uint64] | None
) -> NDArray[np.int64]:
    """How many rows of one batch have each value of the next digit, among those that share the prefix.

    keys: (n,) uint32 order keys; ties: (n, 3) uint64 from `tie_keys`, needed once the score's
    digits are fixed. Returns: (65536,) int64.
    """
    inside = np.ones(len(keys), dtype=np.bool_)
    for position, wanted in enumerate(prefix):
        inside &= _digit(keys, ties, position) == wanted
    digits = _digit(keys[inside], None if ties is None else ties[inside], len(prefix))
    return np.bincount(digits, minlength=BUCKETS).astype(np.int64)


def fix_digit(artefact: Artefact, counts: NDArray[np.int64]) -> Artefact:
    """The selection after a pass; complete when the score is fixed and its last bucket wanted whole.

    Score digits are stored inverted (see `_digit`), so the best rows always come first.
    """
    running = np.cumsum(counts)
    remaining = int(artefact["remaining"])
    bucket = int(np.searchsorted(running, remaining))
    before = int(running[bucket - 1]) if bucket else 0
    prefix = [*artefact["prefix"], bucket]
    whole = int(running[bucket]) == remaining
    complete = whole and len(prefix) >= SCORE_DIGITS
    return {**artefact, "prefix": prefix, "remaining": remaining - before, "complete": complete}


def selected(
    artefact: Artefact, keys: NDArray[np.uint32], ties: NDArray[np.uint64] | None
) -> NDArray[np.bool_]:
    """True for the rows up to and including the last bucket.

    keys: (n,) uint32; ties: (n, 3) uint64 from `tie_keys`, needed only where `needs_ties(artefact)`.
    """
    prefix: list[int] = artefact["prefix"]
    before = np.zeros(len(keys), dtype=np.bool_)
    level = np.ones(len(keys), dtype=np.bool_)
    for position, bound in enumerate(prefix):
        if position >= SCORE_DIGITS and ties is None:
            msg = "this selection breaks ties by uid: pass the tie keys"
            raise ValueError(msg)
        digits = _digit(keys, ties, position)
        before |= level & (digits < bound)
        level &= digits == bound
    return before | level


def needs_ties(artefact: Artefact) -> bool:
    """True where the cut falls among rows of equal score, so that uids break the tie."""
    return len(artefact["prefix"]) > SCORE_DIGITS


def bound_score(artefact: Artefact) -> float:
    """The lowest score that is selected, once the selection is complete."""
    high, low = ((BUCKETS - 1) - digit for digit in artefact["prefix"][:SCORE_DIGITS])
    return score_of_key((high << 16) | low)


def _digit(keys: NDArray[np.uint32], ties: NDArray[np.uint64] | None, position: int) -> NDArray[np.int64]:
    """Digit `position` of each row's key, 0..65535; smaller comes first in the order."""
    if position < SCORE_DIGITS:
        inverted = ~keys
        return ((inverted >> np.uint32(16 * (1 - position))) & np.uint32(0xFFFF)).astype(np.int64)
    assert ties is not None  # noqa: S101  (`selected` checks; counting always has them)
    word, quarter = divmod(position - SCORE_DIGITS, 4)
    shift = np.uint64(16 * (3 - quarter))
    return ((ties[:, word] >> shift) & np.uint64(0xFFFF)).astype(np.int64)
