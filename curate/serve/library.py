"""The decisions of a store, opened when asked for and kept while they are in use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curate.explore.explorer import Explorer
from curate.query import Decision, open_decision
from filters.core.errors import QueryError, StoreError
from transforms.storage import redact
from transforms.store import Store

_OPEN = 2  # decisions whose columns are in memory


@dataclass(frozen=True)
class Library:
    """The decisions of one store.

    Attributes:
        storage_options: of the pool, to read original images.
        most_bytes: of columns held in memory, for all open decisions together.
    """

    store: Store
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    most_bytes: int = 5 << 29
    _open: OrderedDict[str, tuple[str, Explorer]] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def where(self) -> str:
        """The store's place, without credentials."""
        return redact(self.store.folder.url)

    def ledgers(self) -> list[str]:
        """The names of all finished decisions.

        Raises: StoreError where this is no store that can be read.
        """
        self.store.check()
        names = self.store.folder.names("ledger")
        return sorted(name for name in names if self.store.folder.exists(f"ledger/{name}/manifest.json"))

    def latest(self) -> str | None:
        """The last decision that was taken; None where no run has finished."""
        try:
            return str(self.store.folder.read_json("latest.json")["ledger"])
        except FileNotFoundError:
            return None

    def manifest(self, ledger: str) -> Mapping[str, Any]:
        """The manifest of a decision, without opening it for looking around."""
        return self.explorer(ledger).decision.manifest

    def decision(self, ledger: str) -> Decision:
        """A decision.

        Raises: QueryError where there is none of this name.
        """
        return self.explorer(ledger).decision

    def explorer(self, ledger: str) -> Explorer:
        """A decision, ready to be looked around in; opened again when its manifest is another.

        Those of batch runs change by removals alone, continuous ones grow.
        Raises: QueryError where there is none of this name.
        """
        with self._lock:
            held = self._open.get(ledger)
        # A name is part of a path only once it is known to be one of a decision.
        known = held is not None or ledger in self.ledgers()
        stamp = self.store.folder.stamp(f"ledger/{ledger}/manifest.json") if known else ""
        if not stamp:
            msg = f"{self.where} has no finished decision {ledger!r}"
            raise QueryError(msg)
        with self._lock:
            held = self._open.get(ledger)
            if held is not None and held[0] == stamp:
                self._open.move_to_end(ledger)
                return held[1]
        found = Explorer(open_decision(self.store, ledger), self.most_bytes // _OPEN)
        with self._lock:
            held = self._open.get(ledger)
            if held is not None and held[0] == stamp:  # another request was faster
                return held[1]
            self._open[ledger] = (stamp, found)
            self._open.move_to_end(ledger)
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return found

    def writing(self) -> bool:
        """Whether a run holds the store at this moment, as far as its lock tells."""
        try:
            with self.store.folder.open("run.lock") as stream:
                return bool(stream.read())
        except (FileNotFoundError, StoreError):
            return False
