"""Which earlier text is most like each text: MinHash candidates, decided by exact Jaccard.

Source: Broder 1997, "On the resemblance and containment of documents"; banding after Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3. Signatures are datasketch's.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

SHINGLE = 5
PERMUTATIONS = 128
SLACK = 0.1  # below the bound: at its own threshold banding finds less than half
# Rows of one band that are all compared; of more, each is compared with its neighbours by text.
WHOLE_GROUP = 256

_NO_WORD = re.compile(r"[^\w\s]|_")


def normalised(text: str) -> str:
    """NFKC, lower case, no punctuation, single spaces."""
    plain = _NO_WORD.sub(" ", unicodedata.normalize("NFKC", text).lower())
    return " ".join(plain.split())


def shingles(text: str) -> frozenset[str]:
    """The sets of 5 characters in a row of a normalised text; of a shorter one, itself."""
    return frozenset(text[at : at + SHINGLE] for at in range(max(1, len(text) - SHINGLE + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of all shingles that both have, in [0, 1]."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """MinHash signatures of normalised texts: (n, PERMUTATIONS) uint32."""
    if not texts:
        return np.zeros((0, PERMUTATIONS), np.uint32)
    encoded = ([part.encode() for part in shingles(text)] for text in texts)
    found = MinHash.bulk(encoded, num_perm=PERMUTATIONS)
    return np.array([one.hashvalues for one in found]).astype(np.uint32)  # they are hashes of 32 bits


def most_similar_earlier(
    texts: Sequence[str], above: float, known: NDArray[np.uint32] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The greatest Jaccard similarity of each text to an earlier one, and which it is.

    texts: normalised; empty ones are compared with nothing. above: the bound that matters.
    Similarities well below it are mostly not looked for and are 0. known: the signatures of the first
    texts, of which nothing is asked; they are compared with, but not with one another.
    Returns: for each text that is not known, n of them: (n,) float64 in [0, 1]; (n,) int64, the earliest
    of the most similar among all texts, -1 for none.
    """
    older = 0 if known is None else len(known)
    similarity, original = np.zeros(len(texts)), np.full(len(texts), -1, np.int64)
    first: dict[str, int] = {}
    heads = []
    for at, text in enumerate(texts):
        if not text:
            continue
        if text in first:
            similarity[at], original[at] = 1, first[text]
        else:
            first[text] = at
            heads.append(at)
    known_heads = bisect_left(heads, older)
    signed = signatures([texts[at] for at in heads[known_heads:]])
    if known is not None:
        signed = np.concatenate([known[heads[:known_heads]], signed])
    sets = cache(lambda place: shingles(texts[heads[place]]))
    seen: set[tuple[int, int]] = set()
    for earlier, later in _candidates([texts[at] for at in heads], signed, above, known_heads):
        if (earlier, later) in seen:
            continue
        seen.add((earlier, later))
        found = jaccard(sets(earlier), sets(later))
        here = heads[later]
        if (found, -heads[earlier]) > (similarity[here], -original[here] if original[here] >= 0 else -np.inf):
            similarity[here], original[here] = found, heads[earlier]
    return similarity[older:], original[older:]


def _candidates(
    texts: Sequence[str], signed: NDArray[np.uint32], above: float, known: int
) -> Iterator[tuple[int, int]]:
    """Pairs (earlier, later) that share a band of their signatures; some more than once, none both known."""
    if len(texts) < 2:
        return
    bands = MinHashLSH(threshold=max(above - SLACK, 0.05), num_perm=PERMUTATIONS)
    for band in range(bands.b):
        part = np.ascontiguousarray(signed[:, band * bands.r : (band + 1) * bands.r])
        _, group = np.unique(part, axis=0, return_inverse=True)
        group = group.reshape(-1)
        order = np.argsort(group, kind="stable")
        borders = np.flatnonzero(np.diff(group[order])) + 1
        for members in np.split(order, borders):
            if len(members) > 1 and members[-1] >= known:
                for earlier, later in _pairs(members.tolist(), texts):
                    if later >= known:
                        yield earlier, later


def _pairs(members: list[int], texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of a group: all of them, or of a large one those near each other by text."""
    reach = len(members)
    if reach > WHOLE_GROUP:
        members = sorted(members, key=lambda at: texts[at])
        reach = WHOLE_GROUP // 2
    for place, one in enumerate(members):
        for other in members[max(0, place - reach) : place]:
            yield min(one, other), max(one, other)
