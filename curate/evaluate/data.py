"""The pairs that models are trained on: small pictures in memory, with captions and uids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.evaluate.training import shrunk
from curate.query import Decision
from filters.core.errors import PoolError
from filters.core.uids import parse_uids, uid_fraction
from transforms.decode import decode, quiet_pillow
from transforms.pool import PoolOptions, RawSample, Shard, ShardEnd, list_pool
from transforms.storage import redact
from transforms.stream import read_with_retries

Places = NDArray[np.int64]


class Pair(NamedTuple):
    """One sample: (side, side, 3) uint8, its caption, its uid as 32 hex digits."""

    pixels: NDArray[np.uint8]
    caption: str
    uid: str


@dataclass(frozen=True, eq=False)
class Pairs:
    """Samples in the order of their uids, so that the order of shards changes nothing.

    Attributes:
        pixels: (n, side, side, 3) uint8; captions, uids: n texts.
    """

    pixels: NDArray[np.uint8]
    captions: tuple[str, ...]
    uids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)

    @classmethod
    def of(cls, found: Iterable[Pair]) -> Pairs:
        """Of samples in any order; at least one."""
        ordered = sorted(found, key=lambda pair: (pair.uid, pair.caption))
        pixels, captions, uids = zip(*ordered, strict=True)
        return cls(np.stack(pixels), captions, uids)


@dataclass(frozen=True, eq=False)
class PoolRows:
    """The rows of a decision that could be read, in pool order.

    Attributes:
        uids: (n, 2) uint64; part, row: (n,) int64 place among the parts and in the shard;
        kept: (n,) bool.
    """

    uids: NDArray[np.uint64]
    part: Places
    row: Places
    kept: NDArray[np.bool_]

    def draw(self, among: NDArray[np.bool_], most: int, seed: int) -> Places:
        """Places of so many of these rows, or all: those with the least hashes of uid and seed."""
        places = np.flatnonzero(among)
        fraction = uid_fraction(self.uids[places], seed)
        return np.sort(places[np.argsort(fraction, kind="stable")[:most]])


def readable_rows(decision: Decision) -> PoolRows:
    """Every row that has a picture and a caption, and whether the decision keeps it."""
    uids, parts, rows, kept = [np.empty((0, 2), np.uint64)], [], [], []
    for number, part in enumerate(decision.manifest["parts"]):
        table = decision.store.read_part(f"ledger/{decision.ledger}", part["part"], ["uid", "verdict"])
        verdicts = table["verdict"].cast("string")
        fine = pc.not_equal(verdicts, "failed").to_numpy()
        uids.append(parse_uids(table["uid"].cast("large_string").filter(fine)))
        rows.append(np.flatnonzero(fine))
        parts.append(np.full(len(rows[-1]), number))
        kept.append(pc.equal(verdicts, "keep").to_numpy()[fine])
    none = np.empty(0, np.int64)
    return PoolRows(
        uids=np.concatenate(uids),
        part=np.concatenate([none, *parts]),
        row=np.concatenate([none, *rows]),
        kept=np.concatenate([none.astype(np.bool_), *kept]),
    )


def read_rows(
    decision: Decision, rows: PoolRows, wanted: Places, side_pixels: int, storage: Mapping[str, Any]
) -> dict[int, Pair]:
    """Place -> the sample there, from the pool's own shards.

    storage: fsspec options of the pool.
    Raises: PoolError where a shard is gone, or is not the one that was measured.
    """
    pool = decision.manifest["recipe"]["pool"]
    options = PoolOptions(**{name: pool[name] for name in PoolOptions.model_fields})
    found: dict[int, Pair] = {}
    for number in np.unique(rows.part[wanted]).tolist():
        shard = _shard(decision.manifest["parts"][number], options, storage)
        places = wanted[rows.part[wanted] == number].tolist()
        place_of = dict(zip(rows.row[places].tolist(), places, strict=True))
        read = dict(decoded(shard, options, side_pixels, place_of.keys()))
        if len(read) != len(places):
            lost = len(places) - len(read)
            msg = f"{redact(shard.uri)}: {lost} samples can't be read any more; run the recipe again"
            raise PoolError(msg)
        found.update({place_of[row]: pair for row, pair in read.items()})
    return found


def _shard(part: Mapping[str, Any], options: PoolOptions, storage: Mapping[str, Any]) -> Shard:
    """The shard of a part of the manifest."""
    (shard,) = list_pool([part["uri"]], options, dict(storage))
    if shard.format == "datacomp":
        msg = f"{redact(shard.uri)} is metadata without pictures: there is nothing to train on"
        raise PoolError(msg)
    if shard.part != part["part"]:
        msg = f"{redact(shard.uri)} is gone or was changed since it was measured: run the recipe again"
        raise PoolError(msg)
    return shard


def decoded(
    shard: Shard, options: PoolOptions, side_pixels: int, wanted: Collection[int] | None = None
) -> Iterator[tuple[int, Pair]]:
    """Row and sample of all that can be read, or of the wanted rows.

    Raises: PoolError where the shard can't be opened.
    """
    quiet_pillow()
    done: set[int] = set()
    for item in read_with_retries(shard, options):
        if isinstance(item, ShardEnd) and item.code in ("shard_missing", "shard_unreadable"):
            msg = f"{redact(shard.uri)} can't be read ({item.code}: {item.detail})"
            raise PoolError(msg)
        # After a restart the shard comes again from its beginning.
        if not isinstance(item, RawSample) or item.row in done:
            continue
        if wanted is not None and item.row not in wanted:
            continue
        sample = decode(item, options)
        if sample.picture is not None and sample.caption is not None:
            done.add(item.row)
            yield item.row, Pair(shrunk(sample.picture.rgb, side_pixels), sample.caption, sample.uid)
