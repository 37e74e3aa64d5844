"""Clean pairs that no set holds: scenes of the demo's world, or a user's own shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from curate.demo.pool import scene_uid
from curate.demo.vocabulary import colour_vocabulary
from curate.demo.world import draw_scene
from curate.evaluate.data import Pair, Pairs, decoded
from curate.evaluate.training import shrunk
from filters.core.errors import PoolError
from transforms.fingerprints import fingerprint
from transforms.pool import PoolOptions, list_pool
from transforms.storage import redact
from transforms.vocabulary import Vocabulary, load_vocabulary

DEMO = "demo"  # in place of a pool: scenes that are drawn on the spot
SEED = 20_003  # of scenes that neither the demo's pool nor its model's training holds
SCENES = 1000
MOST_PAIRS = 5000
_READING = PoolOptions(wrong_extension="accept")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Clean pairs that no set holds, and for some of them the only class that the caption names.

    Attributes:
        labels: (n,) int64 place in the vocabulary; -1 where a caption names no class, or several.
        prompts: for each class the texts whose mean embedding stands for it; none without classes.
    """

    pairs: Pairs
    labels: NDArray[np.int64]
    prompts: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, pairs: Pairs, vocabulary: Vocabulary | None) -> HeldOut:
        """With the classes of the vocabulary; of classes with children the children count."""
        labels = np.full(len(pairs), -1, np.int64)
        if vocabulary is None:
            return cls(pairs, labels, ())
        named = vocabulary.named_in(pairs.captions)[:, vocabulary.leaves]
        single = named.sum(axis=1) == 1
        labels[single] = named[single].argmax(axis=1)
        prompts = vocabulary.prompts()
        return cls(pairs, labels, tuple(prompts[place] for place in vocabulary.leaves.tolist()))

    @property
    def labelled(self) -> int:
        """How many pairs have a class."""
        return int((self.labels >= 0).sum())

    @property
    def fingerprint(self) -> str:
        """Names the content."""
        pixels = xxhash.xxh3_64_hexdigest(self.pairs.pixels.tobytes())
        return fingerprint([pixels, self.pairs.captions, self.labels.tolist(), self.prompts])


def find_held_out(
    patterns: Sequence[str], labels: str | None, side_pixels: int, storage: Mapping[str, Any]
) -> HeldOut:
    """The held-out pairs that the command line names; labels: path of a vocabulary.

    Raises: PoolError where there is no pair; RecipeError for a vocabulary that can't be read.
    """
    vocabulary = None if labels is None else load_vocabulary(labels)
    if list(patterns) == [DEMO]:
        return HeldOut.of(scenes(SCENES, side_pixels), vocabulary or colour_vocabulary())
    return HeldOut.of(clean_pairs(patterns, side_pixels, storage), vocabulary)


def scenes(count: int, side_pixels: int) -> Pairs:
    """So many scenes of the demo's world with true captions."""
    drawn = ((draw_scene(SEED, index), scene_uid(SEED, index)) for index in range(count))
    return Pairs.of(Pair(shrunk(scene.image, side_pixels), scene.caption, uid) for scene, uid in drawn)


def clean_pairs(patterns: Sequence[str], side_pixels: int, storage: Mapping[str, Any]) -> Pairs:
    """The first pairs of the shards that can be read, at most MOST_PAIRS.

    Raises: PoolError where there is none, or a shard is absent.
    """
    shards = list_pool(patterns, _READING, dict(storage))
    for shard in shards:
        if shard.size == 0:
            msg = f"--eval-pool: {redact(shard.uri)} does not exist or is empty"
            raise PoolError(msg)
    read = (pair for shard in shards for _, pair in decoded(shard, _READING, side_pixels))
    found = list(islice(read, MOST_PAIRS))
    if not found:
        msg = f"--eval-pool {', '.join(map(redact, patterns))}: no pair can be read from it"
        raise PoolError(msg)
    return Pairs.of(found)
