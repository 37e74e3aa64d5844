"""DataComp's subset file: which samples, by uid, for its resharder and trainers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curate.exporting import Export, Publication, Selection, place
from filters.core.uids import UID_DTYPE, parse_uids
from transforms.storage import Folder


class DatacompExport(Export):
    """`<decision>.npy`: uids as pairs of uint64, sorted, as DataComp's `resharder.py` takes them.

    A kept sample stands as often as its weight says, another one that the condition chose, once.
    """

    def write(self, selection: Selection, target: Folder, publication: Publication) -> list[str]:  # noqa: ARG002
        decision = selection.decision
        name, stored = f"{decision.ledger}.npy", f"subsets/{decision.ledger}.npy"
        with target.commit(name) as path:
            if selection.where is None and decision.store.folder.exists(stored):
                place(decision.store.folder, stored, path)
            else:
                with path.open("wb") as stream:
                    np.save(stream, _subset(selection))
        return [name]


def _subset(selection: Selection) -> np.ndarray:
    """The uids of the selection: (n,) of UID_DTYPE, sorted."""
    pieces = [np.empty((0, 2), np.uint64)]
    for table in selection.batches(["uid", "weight"]):
        uids = parse_uids(table["uid"].cast(pa.large_string()))
        pieces.append(np.repeat(uids, np.maximum(table["weight"].to_numpy(), 1), axis=0))
    whole = np.concatenate(pieces)
    order = np.lexsort((whole[:, 1], whole[:, 0]))
    return np.ascontiguousarray(whole[order]).view(UID_DTYPE)[:, 0]
