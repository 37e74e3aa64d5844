"""The 128-bit identity of a sample, as text and as two numbers.

A uid is written as 32 lower-case hex digits; DataComp stores it as the structured numpy type
`u8,u8` (upper and lower 64 bits). The order of that array equals the order of the text.
"""

from __future__ import annotations

import binascii

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

UID_DTYPE = np.dtype("u8,u8")
_ROWS_AT_ONCE = 16384  # what is mixed at once stays in the processor's cache


def is_uid(text: object) -> bool:
    """True for 32 hex digits, which is what DataComp and img2dataset pools call a uid."""
    if not isinstance(text, str) or len(text) != 32:
        return False
    return all(character in "0123456789abcdefABCDEF" for character in text)


def parse_uids(uids: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """The uids as numbers.

    uids: strings of 32 hex digits, no nulls.
    Returns: (n, 2) uint64, the upper and the lower 64 bits.
    Raises: ValueError where a value is null or not 32 hex digits.
    """
    if isinstance(uids, pa.ChunkedArray):
        uids = uids.combine_chunks()
    if isinstance(uids, pa.ChunkedArray):  # an array too large for 32-bit offsets stays chunked
        return np.concatenate([parse_uids(chunk) for chunk in uids.chunks])
    count = len(uids)
    if count == 0:
        return np.empty((0, 2), dtype=np.uint64)
    wide = pa.types.is_large_string(uids.type)
    _, offsets_buffer, data = uids.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64 if wide else np.int32)
    offsets = offsets[uids.offset : uids.offset + count + 1]
    if uids.null_count or data is None or not (np.diff(offsets) == 32).all():
        raise _not_a_uid(uids)
    try:
        packed = binascii.unhexlify(memoryview(data)[offsets[0] : offsets[-1]])
    except binascii.Error as cause:
        raise _not_a_uid(uids) from cause
    return np.frombuffer(packed, dtype=">u8").astype(np.uint64).reshape(count, 2)


def _not_a_uid(uids: pa.Array) -> ValueError:
    row, text = next((row, text) for row, text in enumerate(uids.to_pylist()) if not is_uid(text))
    return ValueError(f"a uid is 32 hex digits, but row {row} holds {text!r}")


def format_uids(uids: NDArray[np.uint64]) -> list[str]:
    """The uids as 32 lower-case hex digits each; uids: (n, 2) uint64."""
    packed = np.ascontiguousarray(uids.astype(">u8")).tobytes().hex()
    return [packed[start : start + 32] for start in range(0, len(packed), 32)]


def uid_fraction(uids: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each uid: uniform over uids, the same on every machine.

    uids: (n, 2) uint64. Returns: (n,) float64, from the top 53 bits of a splitmix64 hash of
    uid and seed (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    salt = _mix(np.array([seed % 2**64], dtype=np.uint64))
    fraction = np.empty(len(uids), dtype=np.float64)
    for start in range(0, len(uids), _ROWS_AT_ONCE):
        some = uids[start : start + _ROWS_AT_ONCE]
        mixed = _mix(_mix(some[:, 0] ^ salt) ^ some[:, 1])
        fraction[start : start + _ROWS_AT_ONCE] = mixed >> np.uint64(11)
    fraction *= 2.0**-53
    return fraction


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Splitmix64 of each word; uint64 arrays wrap around without a warning."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def uid_places(uids: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each uid stands among the known ones, the first of equal ones; -1 where it does not.

    uids: (n, 2) uint64; known: (m, 2) uint64, in any order. Returns: (n,) int64.
    """
    if len(known) == 0:
        return np.full(len(uids), -1, np.int64)
    asked, there = _sortable(uids), _sortable(known)
    order = np.argsort(there, kind="stable")
    at = np.minimum(np.searchsorted(there, asked, sorter=order), len(there) - 1)
    found = order[at]
    return np.where(there[found] == asked, found, -1).astype(np.int64)


def _sortable(uids: NDArray[np.uint64]) -> NDArray[np.void]:
    """(n,) 16-byte keys whose order and equality are those of the uids."""
    return np.ascontiguousarray(uids.astype(">u8")).view("S16").ravel()
