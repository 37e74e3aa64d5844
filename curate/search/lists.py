"""Inverted lists: candidates of an approximate search, whose cosines are then computed exactly.

The lists hold product-quantised codes, 4 bits for every 4 numbers (Jégou, Douze and Schmid 2011,
"Product quantization for nearest neighbor search"; André, Kermarrec and Le Scouarnec 2017, "Quicker
ADC", for their scan in registers). How many lists and candidates a search looks at is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.search.vectors import Half, Numbers, Uids, Vectors
from filters.core.errors import StoreError
from transforms.storage import redact

RECALL_AT = 10
TRAINING_PER_LIST = 40  # the fewest that faiss takes for enough
_REFINED = (8, 16, 32, 64, 128)
_ROWS_AT_ONCE = 1 << 16

Say = Callable[[str], None]


class Lists:
    """Inverted lists over the embeddings of a decision."""

    def __init__(self, vectors: Vectors, index: Any) -> None:
        self.vectors = vectors
        self._index = index

    @classmethod
    def train(cls, vectors: Vectors, known: Numbers, drawn: Callable[[int], Numbers], say: Say) -> Lists:
        """About 4 sqrt(n) lists of the n known rows, those that have an embedding.

        drawn: gives so many of the known rows to train with, ascending.
        """
        import faiss  # noqa: PLC0415  (takes a second)

        lists = max(1, min(round(4 * len(known) ** 0.5), len(known)))
        codes = f"PQ{vectors.width // 4}x4fs" if vectors.width % 4 == 0 else "SQ8"
        index: Any = faiss.index_factory(vectors.width, f"IVF{lists},{codes}", faiss.METRIC_INNER_PRODUCT)
        training = drawn(TRAINING_PER_LIST * lists)
        say(f"{vectors.embedding.name}: training {lists:,} lists on {len(training):,} of {len(known):,} rows")
        index.cp.min_points_per_centroid = 1
        index.train(vectors.take(training).astype(np.float32))
        for start in range(0, len(known), _ROWS_AT_ONCE):
            some = known[start : start + _ROWS_AT_ONCE]
            index.add_with_ids(vectors.take(some).astype(np.float32), some)
        return cls(vectors, index)

    @classmethod
    def read(cls, vectors: Vectors, name: str) -> Lists:
        """The lists in this file of the store.

        Raises: StoreError where the file is not there or damaged.
        """
        import faiss  # noqa: PLC0415

        folder = vectors.decision.store.folder
        try:
            if folder.local:
                return cls(vectors, faiss.read_index(folder.path(name)))
            return cls(vectors, faiss.deserialize_index(np.frombuffer(folder.read_bytes(name), np.uint8)))
        except (OSError, RuntimeError) as cause:
            where = redact(folder.url)
            msg = f"can't read the index {where}/{name}: run `curate index {where}` again"
            raise StoreError(msg) from cause

    def write(self, path: str) -> None:
        """Writes them to a local file."""
        import faiss  # noqa: PLC0415

        faiss.write_index(self._index, path)

    @cached_property
    def lists(self) -> int:
        """How many there are."""
        return int(self._index.nlist)

    def nearest(  # noqa: PLR0913, PLR0917  (what a search is made of)
        self,
        query: Half,
        k: int,
        probed: int,
        refined: int,
        among: Numbers | None = None,
        uids: Uids | None = None,
    ) -> tuple[Numbers, NDArray[np.float64]]:
        """As `Vectors.nearest`, from the `probed` nearest lists and the best `refined` x k codes in them."""
        import faiss  # noqa: PLC0415

        options: Any = faiss.SearchParametersIVF()
        options.nprobe = probed
        if among is not None:
            inside = np.zeros(self.vectors.rows, np.bool_)
            inside[among] = True
            bits = np.packbits(inside, bitorder="little")
            options.sel = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        wanted = min(refined * max(k, RECALL_AT), self.vectors.rows)
        _, found = self._index.search(query.astype(np.float32)[None], wanted, params=options)
        return self.vectors.best(query, k, np.unique(found[found >= 0]), uids)

    def tuned(self, questions: Mapping[str, Sequence[tuple[Half, int]]], wanted: float) -> dict[str, Any]:
        """How many lists and candidates it takes for the wanted recall at 10, and the recall measured.

        questions: by kind, since texts lie elsewhere than images and find them less easily: the
        worst kind must reach the recall. Each is an embedding and the row that is left out of its
        answer, -1 for none.
        """
        answers = {
            kind: [
                (query, own, _without(self.vectors.nearest(query, RECALL_AT + 1), own)[1])
                for query, own in some
            ]
            for kind, some in questions.items()
        }
        refined = _REFINED[-1]
        for refined in _REFINED:
            if _worst(self._recalls(answers, self.lists, refined)) >= (1 + wanted) / 2:
                break
        probed, recalls = 1, self._recalls(answers, 1, refined)
        while _worst(recalls) < wanted and probed < self.lists:
            probed = min(2 * probed, self.lists)
            recalls = self._recalls(answers, probed, refined)
        return {"lists": self.lists, "probed": probed, "refined": refined, "recall": recalls}

    def _recalls(
        self,
        answers: Mapping[str, Sequence[tuple[Half, int, NDArray[np.float64]]]],
        probed: int,
        refined: int,
    ) -> dict[str, float]:
        """Kind of question -> the share of the 10 nearest that is found; equal ones stand for each other."""
        recalls = {}
        for kind, some in answers.items():
            hits = wanted = 0
            for query, own, exact in some:
                _, found = _without(self.nearest(query, RECALL_AT + 1, probed, refined), own)
                wanted += len(exact)
                if len(exact):
                    hits += min(int(np.count_nonzero(found >= exact[-1])), len(exact))
            recalls[kind] = round(hits / wanted, 4) if wanted else 1.0
        return recalls


def _worst(recalls: Mapping[str, float]) -> float:
    return min(recalls.values(), default=1.0)


def _without(found: tuple[Numbers, NDArray[np.float64]], own: int) -> tuple[Numbers, NDArray[np.float64]]:
    numbers, cosines = found
    others = numbers != own
    return numbers[others][:RECALL_AT], cosines[others][:RECALL_AT]
