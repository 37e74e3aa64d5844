"""Which earlier text is most like each text: MinHash candidates, decided by exact Jaccard.

Source: Broder 1997, "On the resemblance and containment of documents"; banding after Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3. Signatures are datasketch's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

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


def most_similar_earlier(texts: Sequence[str], above: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The greatest Jaccard similarity of each text to an earlier one, and which it is.

    texts: normalised; empty ones are compared with nothing. above: the bound that matters.
    Similarities well below it are mostly not looked for and are 0.
    Returns: (n,) float64 in [0, 1]; (n,) int64, the earliest of the most similar, -1 for none.
    """
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
    sets = [shingles(texts[at]) for at in heads]
    seen: set[tuple[int, int]] = set()
    for earlier, later in _candidates([texts[at] for at in heads], sets, above):
        if (earlier, later) in seen:
            continue
        seen.add((earlier, later))
        found = jaccard(sets[earlier], sets[later])
        here = heads[later]
        if (found, -heads[earlier]) > (similarity[here], -original[here] if original[here] >= 0 else -np.inf):
            similarity[here], original[here] = found, heads[earlier]
    return similarity, original


def _candidates(
    texts: Sequence[str], sets: Sequence[frozenset[str]], above: float
) -> Iterator[tuple[int, int]]:
    """Pairs (earlier, later) that share a band of their signatures; some more than once."""
    if len(texts) < 2:
        return
    bands = MinHashLSH(threshold=max(above - SLACK, 0.05), num_perm=PERMUTATIONS)
    found = MinHash.bulk(([part.encode() for part in one] for one in sets), num_perm=PERMUTATIONS)
    signatures = np.array([one.hashvalues for one in found])
    for band in range(bands.b):
        part = np.ascontiguousarray(signatures[:, band * bands.r : (band + 1) * bands.r])
        _, group = np.unique(part, axis=0, return_inverse=True)
        group = group.reshape(-1)
        order = np.argsort(group, kind="stable")
        borders = np.flatnonzero(np.diff(group[order])) + 1
        for members in np.split(order, borders):
            if len(members) > 1:
                yield from _pairs(members.tolist(), texts)


def _pairs(members: list[int], texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of a group: all of them, or of a large one those near each other by text."""
    reach = len(members)
    if reach > WHOLE_GROUP:
        members = sorted(members, key=lambda at: texts[at])
        reach = WHOLE_GROUP // 2
    for place, one in enumerate(members):
        for other in members[max(0, place - reach) : place]:
            yield min(one, other), max(one, other)
