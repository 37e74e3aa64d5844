"""What a cluster is about: the words of its captions that are rare in the other clusters.

Class-based TF-IDF (Grootendorst 2022, BERTopic, arXiv 2203.05794, section 3.3): a word's frequency
in the cluster times log(1 + A / its frequency in all clusters), A being the mean number of words
of a cluster. What we do differently: a word counts once in a caption, so that one spammed caption
weighs no more than another; and words hardly more frequent here than everywhere are left out, so
that no list of stop words is needed, in any language.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise

WORDS = 4
_LIFT = 1.25  # a word says something where its share of captions is this many times that of all
_ENOUGH = 10  # captions from which on a word has to stand in two of them
_LONGEST = 24
_JOINERS = "\u200c\u200d'\u2019-"
# Scripts that put no spaces between words.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


def cluster_words(captions: Mapping[int, Sequence[str]], most: int = WORDS) -> dict[int, tuple[str, ...]]:
    """Cluster -> the words that tell it from the other clusters, the strongest first.

    captions: cluster -> a sample of its captions. Ties are in alphabetical order.
    """
    counts = {cluster: _counted(texts) for cluster, texts in captions.items()}
    everywhere: Counter[str] = Counter()
    for count in counts.values():
        everywhere.update(count)
    texts = sum(len(found) for found in captions.values())
    mean = sum(everywhere.values()) / max(1, len(counts))
    found = {}
    for cluster, count in counts.items():
        here = len(captions[cluster])
        ranked = sorted(
            (-number / here * math.log1p(mean / everywhere[word]), word) for word, number in count.items()
        )
        least = 2 if here >= _ENOUGH else 1
        usual = [word for _, word in ranked if count[word] >= least]
        telling = [word for word in usual if count[word] / here > _LIFT * everywhere[word] / texts]
        found[cluster] = _distinct(telling or usual, most)
    return found


def words_of(caption: str) -> list[str]:
    """The words of a caption in any script, in lower case; numbers and single letters left out.

    Where a script has no spaces between words, a short run of one script counts as a word, a long
    one as all its pairs of characters.
    """
    found: list[str] = []
    for run in _runs(caption.casefold()):
        for unspaced, piece in _by_script(run):
            if unspaced:
                found += _pairs(piece)
            elif len(word := piece.strip(_JOINERS)) > 1:
                found.append(word[:_LONGEST])
    return found


def _counted(captions: Sequence[str]) -> Counter[str]:
    count: Counter[str] = Counter()
    for caption in captions:
        count.update(set(words_of(caption)))
    return count


def _distinct(words: Sequence[str], most: int) -> tuple[str, ...]:
    """The first words, without pairs of characters that overlap one that is taken already."""
    taken: list[str] = []
    seen: set[str] = set()
    for word in words:
        if len(taken) == most:
            break
        if _unspaced(word[0]):
            if seen & set(word):
                continue
            seen |= set(word)
        taken.append(word)
    return tuple(taken)


def _runs(text: str) -> Iterator[str]:
    """Runs of letters with their marks; joiners and apostrophes stay inside a word."""
    for inside, run in groupby(text, key=lambda one: one in _JOINERS or unicodedata.category(one)[0] in "LM"):
        if inside:
            yield "".join(run)


def _by_script(run: str) -> Iterator[tuple[bool, str]]:
    """Pieces of a run: a spaced one whole, an unspaced one for each script."""
    kinds = [_unspaced(one) for one in run]
    for at in range(1, len(run)):
        if unicodedata.category(run[at])[0] == "M":
            kinds[at] = kinds[at - 1]  # a mark belongs to its letter
    for kind, piece in groupby(zip(kinds, run, strict=True), key=lambda pair: pair[0]):
        yield bool(kind), "".join(one for _, one in piece)


def _unspaced(character: str) -> str:
    """The script of a letter that knows no spaces, else nothing."""
    if ord(character) < 0x0E00:  # the first of them is Thai
        return ""
    name = unicodedata.name(character, "").partition(" ")[0].partition("-")[0]
    return name if name in _UNSPACED else ""


def _pairs(piece: str) -> list[str]:
    """The piece where it is short, else every two neighbouring letters with their marks."""
    letters: list[str] = []
    for one in piece:
        if letters and unicodedata.category(one)[0] == "M":
            letters[-1] += one
        else:
            letters.append(one)
    katakana = _unspaced(piece[0]) == "KATAKANA"
    if len(letters) <= 3 or katakana:
        return [piece[:_LONGEST]] if len(letters) > 1 or _unspaced(piece[0]) == "CJK" else []
    return [one + other for one, other in pairwise(letters)]
