"""The 128-bit identity of a sample, as text and as two numbers.

A uid is written as 32 lower-case hex digits; DataComp stores it as the structured numpy type
`u8,u8` (upper and lower 64 bits). The order of that array equals the order of the text.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

UID_DTYPE = np.dtype("u8,u8")
_HEX = np.full(256, 255, dtype=np.uint8)
for _value, _digit in enumerate(b"0123456789abcdef"):
    _HEX[_digit] = _value
for _value, _digit in enumerate(b"ABCDEF", start=10):
    _HEX[_digit] = _value


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
        msg = "a uid is 32 hex digits, but this column holds nulls or other text"
        raise ValueError(msg)
    digits = np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]].reshape(count, 32)
    nibbles = _HEX[digits]
    if (nibbles == 255).any():
        first = int(np.flatnonzero((nibbles == 255).any(axis=1))[0])
        msg = f"a uid is 32 hex digits, but row {first} holds {uids[first].as_py()!r}"
        raise ValueError(msg)
    packed = (nibbles[:, 0::2] << 4) | nibbles[:, 1::2]
    return np.ascontiguousarray(packed).view(">u8").astype(np.uint64)


def format_uids(uids: NDArray[np.uint64]) -> list[str]:
    """The uids as 32 lower-case hex digits each; uids: (n, 2) uint64."""
    packed = np.ascontiguousarray(uids.astype(">u8")).tobytes().hex()
    return [packed[start : start + 32] for start in range(0, len(packed), 32)]


def uid_fraction(uids: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each uid: uniform over uids, the same on every machine.

    uids: (n, 2) uint64. Returns: (n,) float64, from the top 53 bits of a splitmix64 hash of
    uid and seed (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    with np.errstate(over="ignore"):
        mixed = _mix(uids[:, 0] ^ _mix(np.full(len(uids), seed % 2**64, dtype=np.uint64)))
        mixed = _mix(mixed ^ uids[:, 1])
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
