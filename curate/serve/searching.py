"""The search engines of the open decisions: a model and an index each, loaded when first asked."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from curate.explore.explorer import Mask, Rows
from curate.search.engine import SearchEngine
from curate.serve.library import Library

_LOADED = 2


class Searchers:
    """Search engines by decision; the least used goes first."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._engines: OrderedDict[str, SearchEngine] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, ledger: str) -> SearchEngine:
        """The engine of a decision."""
        with self._lock:
            if ledger not in self._engines:
                self._engines[ledger] = SearchEngine(self._library.decision(ledger))
                while len(self._engines) > _LOADED:
                    self._engines.popitem(last=False)
            self._engines.move_to_end(ledger)
            return self._engines[ledger]


def nearest_to_text(
    engine: SearchEngine, text: str, k: int, mask: Mask | None
) -> tuple[Rows, NDArray[np.float64]]:
    """The rows nearest to a text among those under the mask, and their cosines: (k,) each, at most."""
    return engine.nearest(engine.text_vector(text), k, _among(mask))


def nearest_to_image(
    engine: SearchEngine, content: bytes, k: int, mask: Mask | None
) -> tuple[Rows, NDArray[np.float64]]:
    """The rows nearest to an encoded image, as `nearest_to_text`."""
    return engine.nearest(engine.image_vector(content), k, _among(mask))


def nearest_to_row(
    engine: SearchEngine, row: int, k: int, mask: Mask | None
) -> tuple[Rows, NDArray[np.float64]]:
    """The rows nearest to another one, which is left out, as `nearest_to_text`."""
    rows, cosines = engine.nearest(engine.row_vector(row), k + 1, _among(mask))
    others = rows != row
    return rows[others][:k], cosines[others][:k]


def _among(mask: Mask | None) -> Rows | None:
    return None if mask is None else np.flatnonzero(mask)
