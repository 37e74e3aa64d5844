"""Which earlier survivor has the same hash: `duplicate_of` and `compared` for every row."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from filters.core.declaration import Columns
from filters.core.uids import format_uids, parse_uids, uid_places
from transforms.comparing import Comparison, Found
from transforms.deciding import DecidePart, read_columns
from transforms.exchange import Records
from transforms.memory import Memory

ROWS_PER_BUCKET = 1 << 16
BATCH_BUCKETS = 64  # where rows come batch by batch: nobody knows how many there will be
KEPT = np.dtype([("uid", "<u8", (2,)), ("hash", "<u8", (2,))])


class ExactDuplicates(Comparison):
    """Buckets by the leading bits of the hash; within a bucket a sort does the rest."""

    stages: ClassVar[tuple[str, ...]] = ("sort", "compare", "write")
    hot_rows: ClassVar[int | None] = None
    remembers: ClassVar[bool] = True

    @classmethod
    def fields(cls, rule: Any, width: int) -> list[tuple[Any, ...]]:  # noqa: ARG003
        return [("hash", "<u8", (2,))]

    @classmethod
    def expected_keys(cls, rule: Any, rows: int) -> int:  # noqa: ARG003
        return 1 << max(0, (rows // ROWS_PER_BUCKET).bit_length())

    def keys(self) -> int:
        if self.scope.batch is not None:
            return BATCH_BUCKETS
        return self.expected_keys(self.rule, self.scope.rows)

    def entries(self, part: DecidePart) -> tuple[Records, NDArray[np.int64]]:
        columns, alive = self.scope.alive(part, self.rule.reads())
        rows, uids, hashes = self._hashed(columns, alive)
        records = np.zeros(len(rows), self.dtype)
        records["uid"], records["hash"] = uids, hashes
        records["part"], records["row"], records["own"] = part.number, rows, True
        return records, self._buckets(hashes)

    @property
    def remembered_type(self) -> np.dtype[Any]:
        return KEPT

    def remembered(self, part: DecidePart, rows: NDArray[np.intp]) -> tuple[Records, NDArray[np.int64]]:
        kept = np.zeros(part.rows, np.bool_)
        kept[rows] = True
        names = [*self.rule.reads(), "uid"]
        found, uids, hashes = self._hashed(read_columns(self.scope.config, part, names), kept)
        records = np.zeros(len(found), KEPT)
        records["uid"], records["hash"] = uids, hashes
        return records, self._buckets(hashes)

    def _hashed(
        self, columns: Columns, alive: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint64]]:
        """Which rows have a hash, their uids and the hashes: (n,), (n, 2) and (n, 2)."""
        content = columns[f"{self.rule.by}_hash"]
        rows = np.flatnonzero(alive & pc.is_valid(content).to_numpy(zero_copy_only=False))
        chosen = pa.array(rows)
        hashes = content.take(chosen)
        if self.rule.same_caption:
            hashes = _with_caption(hashes, columns["caption"].take(chosen))
        return rows, parse_uids(columns["uid"].take(chosen)), parse_uids(hashes)

    def _buckets(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The bucket of each hash."""
        shift = np.uint64(64 - (self.keys() - 1).bit_length())
        buckets = hashes[:, 0] >> shift if self.keys() > 1 else np.zeros(len(hashes))
        return buckets.astype(np.int64)

    def compare(self, members: Records, key: int) -> Found:
        found = self._compare_new(members)
        if self.scope.memory is None:
            return found
        with Memory(self.scope.memory).survivors(key) as known:
            place = uid_places(members["hash"], known["hash"])
            older = place >= 0
            uids = members["uid"][np.maximum(found.original, 0)]
            uids[older] = known["uid"][place[older]]
        original = np.where(older, place, found.original)
        return Found((original >= 0).astype(np.float64), original, uids=uids)

    def _compare_new(self, members: Records) -> Found:
        hashes = members["hash"]
        # Stable: equal hashes stay in the order of their uids.
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))
        first = np.ones(len(order), np.bool_)
        first[1:] = (hashes[order][1:] != hashes[order][:-1]).any(axis=1)
        heads = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
        original = np.full(len(order), -1, np.int64)
        original[order[~first]] = order[heads[~first]]
        return Found((original >= 0).astype(np.float64), original)

    def columns(self, rows: int, answers: Records) -> Columns:
        compared = np.zeros(rows, np.bool_)
        compared[answers["row"]] = True
        return {"duplicate_of": originals(rows, answers), "compared": pa.array(compared)}


def originals(rows: int, answers: Records) -> pa.Array:
    """The uid of each row's original, null where none was found; (rows,) strings."""
    copies = answers[answers["found"]]
    uids = pa.array(format_uids(copies["original"]), pa.string())
    places = np.full(rows, -1, np.int64)
    places[copies["row"]] = np.arange(len(copies))
    return uids.take(pa.array(places, mask=places < 0))


def _with_caption(hashes: pa.Array, captions: pa.Array) -> pa.Array:
    pairs = zip(hashes.to_pylist(), captions.to_pylist(), strict=True)
    return pa.array(
        [xxhash.xxh3_128_hexdigest(f"{content} {caption}".encode()) for content, caption in pairs],
        pa.string(),
    )
