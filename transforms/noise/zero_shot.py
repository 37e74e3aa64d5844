"""How likely a picture shows each concept of a vocabulary, by the text encoder of its embedding.

A picture's probabilities are the softmax of its cosines with the concepts' prompts over a
temperature (Radford et al. 2021, arXiv 2103.00020, section 3.1). Concepts with children are judged
as in CHiLS (Novack et al. 2023, "CHiLS: Zero-Shot Image Classification with Hierarchical Label
Sets", arXiv 2302.02551, section 3): the probability of a subclass among all subclasses is multiplied
with that of its class among all classes, and a class without subclasses is its own. With e the
prompts' embeddings and a_0(l), …, a_D(l) = l the concepts from a root down to leaf l, the last one
repeated where others lie deeper:

    p(l | x)  =  product over depths of softmax(<x, e(a_d(l))> / T), normalised
              =  softmax over leaves of  <x, sum over depths of e(a_d(l))> / T

for the denominators of a depth are the same for all leaves: so a leaf is one direction. What we do
differently: any depth, and the probability of a wider concept is the sum of its leaves', where
CHiLS takes that of the likeliest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.clustering import Floats, padded, round_up
from transforms.vocabulary import Vocabulary

_BLOCK_ROWS = 1024


def leaf_directions(classes: Floats, vocabulary: Vocabulary) -> Floats:
    """The sum of the embeddings from root to leaf, the leaf's repeated as deep as any leaf lies.

    classes: (K, d) float32 unit rows, of `class_embeddings`. Returns: (L, d) float32.
    """
    chains = []
    for leaf in vocabulary.leaves.tolist():
        chain = [leaf]
        while (parent := vocabulary.concepts[chain[-1]].parent) >= 0:
            chain.append(parent)
        chains.append(chain)
    deepest = max(map(len, chains))
    whole = [[chain[0]] * (deepest - len(chain)) + chain for chain in chains]
    directions: Floats = classes[np.array(whole)].sum(axis=1, dtype=np.float32)
    return directions


def leaf_logits(images: Floats, directions: Floats) -> Iterator[tuple[slice, Floats]]:
    """Products of images and leaves, some rows at a time: the rows, and (m, L) float32 of them.

    images: (n, d) float32 unit rows. Which rows are together changes no bit: see `clustering`.
    """
    wide = padded(directions, round_up(len(directions)))
    for start in range(0, len(images), _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, len(images)))
        products = padded(images[rows], _BLOCK_ROWS) @ wide.T
        yield rows, products[: rows.stop - start, : len(directions)]


def softmax(logits: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Probabilities of each row, which sum to 1. Returns: as logits, float64."""
    scaled = logits.astype(np.float64) / temperature
    shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return found


def concept_probabilities(leaves: NDArray[np.float64], vocabulary: Vocabulary) -> NDArray[np.float64]:
    """The probability of every concept, wider ones that of their leaves together.

    leaves: (n, L) float64, rows summing to 1. Returns: (n, K) float64 in [0, 1].
    """
    found = np.zeros((len(leaves), len(vocabulary.concepts)))
    found[:, vocabulary.leaves] = leaves
    for place in range(len(vocabulary.concepts) - 1, -1, -1):
        if (parent := vocabulary.concepts[place].parent) >= 0:
            found[:, parent] += found[:, place]
    return np.minimum(found, 1.0)
