"""One label for each caption: the concept that it names, or the caption itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from transforms.vocabulary import Vocabulary

NO_LABEL = -1
_CAPTIONS_AT_ONCE = 4096
_LARGEST = (1 << 63) - 1

Labels = NDArray[np.int64]


def leaf_labels(captions: pa.Array, vocabulary: Vocabulary) -> Labels:
    """The one concept without children that each caption names.

    A caption that names several has no label; wider concepts do not count.

    captions: n strings. Returns: (n,) int64 place among `vocabulary.leaves`, -1 for none.
    """
    return _of_each(captions, lambda texts: _leaves(texts, vocabulary))


def text_labels(captions: pa.Array) -> Labels:
    """A number for each caption, equal for equal ones but for white space at their ends.

    captions: n strings. Returns: (n,) int64, at least 0; -1 for an empty caption or none.
    """
    return _of_each(captions, _hashes)


def _of_each(captions: pa.Array, label: Callable[[Sequence[str]], Labels]) -> Labels:
    """The labels of captions, each distinct one read once."""
    found = np.full(len(captions), NO_LABEL, np.int64)
    coded = captions.cast(pa.large_string()).dictionary_encode()
    texts = coded.dictionary.to_pylist()
    pieces = [
        label(texts[start : start + _CAPTIONS_AT_ONCE]) for start in range(0, len(texts), _CAPTIONS_AT_ONCE)
    ]
    said = coded.is_valid().to_numpy(zero_copy_only=False)
    if pieces:
        found[said] = np.concatenate(pieces)[coded.indices.drop_null().to_numpy()]
    return found


def _leaves(texts: Sequence[str], vocabulary: Vocabulary) -> Labels:
    named = vocabulary.named_in(texts)[:, vocabulary.leaves]
    return np.where(named.sum(axis=1) == 1, named.argmax(axis=1), NO_LABEL)


def _hashes(texts: Sequence[str]) -> Labels:
    stripped = [text.strip() for text in texts]
    return np.array(
        [xxhash.xxh3_64_intdigest(text.encode()) & _LARGEST if text else NO_LABEL for text in stripped],
        np.int64,
    )
