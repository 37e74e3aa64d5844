"""Tags: what the ledger keeps of a sample whatever its verdict, as filters state it.

A filter declares the names in `Filter.tags` and states the numbers in `Judgement.tags`. A tag is a
column of the ledger wherever a filter of the recipe declares it, also for rows that others dropped,
and kept samples take it with them in the json member of their shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from filters.core.declaration import Filter, Numbers


@dataclass(frozen=True)
class Tag:
    """One tag.

    Attributes:
        type: of its column in the ledger.
        shared: whether several filters of a recipe may state it; then the lowest number counts.
    """

    type: pa.DataType
    meaning: str
    shared: bool = False


# In the order of the ledger's columns.
TAGS: dict[str, Tag] = {
    "p_clean": Tag(
        pa.float32(),
        "probability that image and caption match, the lowest that a filter states; null where none could",
        shared=True,
    ),
    "alignment_level": Tag(
        pa.int8(), "step of a score between frozen edges, from 0; a higher one agrees better"
    ),
}


def declared_tags(rules: Iterable[Filter]) -> tuple[str, ...]:
    """The tags that these filters state, in the ledger's order."""
    names = {name for rule in rules for name in rule.tags}
    return tuple(name for name in TAGS if name in names)


def tag_columns(stated: Mapping[str, Sequence[Numbers]]) -> dict[str, pa.Array]:
    """The ledger's columns of tags, in its order.

    stated: tag -> what each filter says, (n,) numbers, NaN where it says nothing.
    Returns: tag -> (n,) of its type: the lowest number, null where no filter says one.
    """
    found = {}
    for name, tag in TAGS.items():
        if name in stated:
            lowest = np.fmin.reduce([np.asarray(one, np.float64) for one in stated[name]])
            found[name] = pa.array(lowest, from_pandas=True).cast(tag.type)
    return found
