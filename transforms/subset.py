"""DataComp's subset file: the kept uids, sorted, as a numpy array of u8,u8."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib import format as npy
from numpy.typing import NDArray

from filters.core.errors import StoreError
from filters.core.uids import UID_DTYPE, parse_uids, uid_places
from transforms.storage import Folder, redact
from transforms.store import Store

UIDS_AT_ONCE = 16_000_000  # 256 MB


def write_subset(store: Store, ledger: str, parts: Sequence[str], name: str, kept: int) -> int:
    """Writes the subset as `np.save` would; returns how many uids it holds (repetitions counted).

    A sample with weight w stands w times. Memory is bounded: uids are sorted by ranges of their
    leading bits, one range at a time, so a large pool costs more passes and no more memory.
    """
    ranges = max(1, -(-kept // UIDS_AT_ONCE))
    written = 0
    with store.folder.commit(name) as path, path.open("wb+") as stream:
        _header(stream, 0)
        for number in range(ranges):
            uids = list(_kept_uids(store, ledger, parts, number, ranges))
            whole = np.concatenate(uids) if uids else np.empty((0, 2), np.uint64)
            order = np.lexsort((whole[:, 1], whole[:, 0]))
            stream.write(np.ascontiguousarray(whole[order]).tobytes())
            written += len(whole)
        stream.seek(0)
        _header(stream, written)
    return written


def _kept_uids(
    store: Store, ledger: str, parts: Sequence[str], number: int, ranges: int
) -> Iterator[NDArray[np.uint64]]:
    for part in parts:
        table = store.read_part(ledger, part, ["uid", "weight"])
        table = table.filter(pc.greater(table["weight"], 0))
        uids = parse_uids(table["uid"].combine_chunks().cast(pa.large_string()))
        uids = np.repeat(uids, table["weight"].to_numpy(), axis=0)
        if ranges > 1:
            share = uids[:, 0].astype(np.float64) / 2.0**64
            uids = uids[np.minimum((share * ranges).astype(np.int64), ranges - 1) == number]
        yield uids


def _header(stream: io.BufferedRandom, count: int) -> None:
    """Writes the header; npy leaves room for the length to grow, so it can be written again."""
    npy.write_array_header_1_0(
        stream, {"descr": npy.dtype_to_descr(UID_DTYPE), "fortran_order": False, "shape": (count,)}
    )


def remove_from_subset(folder: Folder, name: str, uids: NDArray[np.uint64]) -> int:
    """Writes a subset again without these uids, (m, 2); returns how many entries went.

    Raises: StoreError where the file is no subset.
    """
    with folder.open(name) as stream:
        try:
            npy.read_magic(stream)
            shape, _, kind = npy.read_array_header_1_0(stream)
        except ValueError as cause:
            msg = f"{redact(folder.url)}/{name} is no subset ({cause}): delete it and run its recipe again"
            raise StoreError(msg) from cause
        if kind != UID_DTYPE or len(shape) != 1:
            msg = f"{redact(folder.url)}/{name} holds {kind}, not uids: delete it and run its recipe again"
            raise StoreError(msg)
        gone = 0
        with folder.commit(name) as path, path.open("wb+") as target:
            _header(target, shape[0])
            while content := stream.read(UIDS_AT_ONCE * UID_DTYPE.itemsize):
                some = np.frombuffer(content, np.uint64).reshape(-1, 2)
                stays = uid_places(some, uids) < 0
                gone += len(some) - int(np.count_nonzero(stays))
                target.write(np.ascontiguousarray(some[stays]).tobytes())
            target.seek(0)
            _header(target, shape[0] - gone)
    return gone
