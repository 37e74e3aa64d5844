"""What a search shows of samples: read part by part, and held in memory up to a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.query import Decision
from transforms.deciding import flat

# In the order in which people read them; shard and row follow from the place.
_STORED = ("uid", "key", "caption", "verdict", "dropped_by")
_DECIDED = ("verdict", "dropped_by")
SHOWN = pa.schema([*((name, pa.string()) for name in (*_STORED, "shard")), ("row", pa.int32())])
MOST_BYTES = 1 << 28  # about two million samples


class ShownSamples:
    """The columns `SHOWN` of a decision's samples by row number; safe to use from several threads."""

    def __init__(self, decision: Decision, bounds: NDArray[np.int64], most_bytes: int = MOST_BYTES) -> None:
        """bounds: (parts + 1,) where each part that has rows begins."""
        self._decision = decision
        self._parts = [part for part in decision.manifest["parts"] if part["rows"]]
        self._bounds = bounds
        self._most_bytes = most_bytes
        self._held: OrderedDict[int, pa.Table] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def fill(self) -> None:
        """Reads the first parts, as many as may be held, so that no search waits for them."""
        for at in range(len(self._parts)):
            if self._bytes + self._part(at).nbytes > self._most_bytes:
                return

    def read(self, numbers: NDArray[np.int64]) -> pa.Table:
        """The samples of these rows, in this order."""
        order = np.argsort(numbers, kind="stable")
        ascending = numbers[order]
        places = np.searchsorted(ascending, self._bounds)
        pieces = [SHOWN.empty_table()]
        for at in np.flatnonzero(np.diff(places)):
            rows = ascending[places[at] : places[at + 1]] - self._bounds[at]
            shard = pa.array([self._parts[at]["uri"]] * len(rows), pa.string())
            columns = self._part(int(at)).take(rows).columns
            pieces.append(pa.table([*columns, shard, pa.array(rows, pa.int32())], schema=SHOWN))
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return pa.concat_tables(pieces).take(back).combine_chunks()

    def uids(self, numbers: NDArray[np.int64]) -> list[str]:
        """The uids of these rows, in this order."""
        found: list[str] = self.read(numbers)["uid"].to_pylist()
        return found

    def _part(self, at: int) -> pa.Table:
        with self._lock:
            if at in self._held:
                self._held.move_to_end(at)
                return self._held[at]
        table = self._load(self._parts[at]["part"])
        with self._lock:
            if at not in self._held:
                self._held[at] = table
                self._bytes += table.nbytes
            while self._bytes > self._most_bytes and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        return table

    def _load(self, part: str) -> pa.Table:
        store, manifest = self._decision.store, self._decision.manifest
        named = [name for name in _STORED if name not in _DECIDED]
        samples = store.read_part(manifest["samples"], part, named)
        decided = store.read_part(f"ledger/{self._decision.ledger}", part, list(_DECIDED))
        columns = [*(samples[name] for name in named), *(decided[name] for name in _DECIDED)]
        return pa.table([flat(column).cast(pa.string()) for column in columns], names=_STORED)
