"""Brings rows with equal keys together through sorted files, so that no engine shuffles their bytes.

Writers sort their records by key (a cluster, a bucket of hashes, a lot of parts) and store them
with offsets; a reader takes the keys it owns as one contiguous range of each file. A file is
plain npy of a structured type, `<name>.npy`, with `<name>.offsets.npy` beside it: (keys + 1,)
int64, written last. Local files are memory-mapped, remote ones read by byte ranges.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from transforms.storage import Folder

Records: TypeAlias = "NDArray[Any]"
Put: TypeAlias = "Callable[[int, Records], None]"
OFFSETS_HEADER = 128  # bytes; numpy pads to 64 and the header of an int64 vector needs less than 128
FILES_AT_ONCE = 64
SPOOL_BYTES = 1 << 29
LOT_ROWS = 2_400_000  # about 2.5 GB of 512 float16 each
LOT_ROWS_AT_LEAST = 25_000
BLOCK_BYTES = 16 << 30
BLOCK_BYTES_AT_LEAST = 32 << 20
RANGE_BYTES_AT_LEAST = 1 << 20


@dataclass(frozen=True)
class ExchangePlan:
    """How rows are brought together: in how many files and reads, of which size.

    Attributes:
        rows: records, more than the pool's rows where a row is compared in several clusters.
        lots: sorted files; blocks: of consecutive keys, each of which reads a range of every file.
        comparisons: expected pairs to look at, where that is what may become too much.
        refused: True where it is too much; instead: what to do then.
    """

    rows: int
    record_bytes: int
    lots: int
    blocks: int
    comparisons: float | None = None
    refused: bool = False
    instead: str = ""

    @property
    def reads(self) -> int:
        """Contiguous ranges that all blocks together read."""
        return self.lots * self.blocks

    @property
    def range_bytes(self) -> float:
        """Bytes of one range on average."""
        return self.rows * self.record_bytes / self.reads


def plan_exchange(rows: int, record_bytes: int, parts: int, keys: int, workers: int) -> ExchangePlan:
    """The plan for so many rows in so many parts with so many keys.

    Lots and blocks are as many as keep the workers busy on a small pool, and as few as fit a
    worker's memory and disk on a large one; in between, ranges stay above 1 MiB.
    """
    total = rows * record_bytes
    busy = 4 * workers
    lots = max(math.ceil(rows / LOT_ROWS), min(busy, rows // LOT_ROWS_AT_LEAST))
    lots = max(1, min(lots, parts))
    blocks = max(math.ceil(total / BLOCK_BYTES), min(busy, total // BLOCK_BYTES_AT_LEAST))
    widest = max(total // (lots * RANGE_BYTES_AT_LEAST), math.ceil(total / BLOCK_BYTES))
    return ExchangePlan(rows, record_bytes, lots, max(1, min(blocks, keys, widest)))


@contextlib.contextmanager
def sorted_file(
    folder: Folder, name: str, keys: NDArray[np.integer], count: int, dtype: np.dtype[Any]
) -> Iterator[Put]:
    """Commits records sorted by key; equal keys keep their order.

    keys: (n,) each record's key, 0 to count - 1. Yields `put(start, records)`, which takes the
    records in the order of `keys`, in as many pieces as the caller likes; they go straight to
    the file, so memory holds one piece.
    """
    order = np.argsort(keys, kind="stable")
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    with folder.commit(f"{name}.npy") as path:
        if len(keys) == 0:
            _save(path, np.empty(0, dtype))
            yield _put_nothing
        else:
            target = npy.open_memmap(path, mode="w+", dtype=dtype, shape=(len(keys),))

            def put(start: int, records: Records) -> None:
                target[places[start : start + len(records)]] = records

            yield put
            target.flush()
    offsets = np.searchsorted(keys[order], np.arange(count + 1)).astype(np.int64)
    with folder.commit(f"{name}.offsets.npy") as path:
        _save(path, offsets)


def write_sorted(folder: Folder, name: str, records: Records, keys: NDArray[np.integer], count: int) -> None:
    """Commits records that are in memory, sorted by key."""
    with sorted_file(folder, name, keys, count, records.dtype) as put:
        put(0, records)


@contextlib.contextmanager
def gathered(
    folder: Folder, names: Sequence[str], dtype: np.dtype[Any], first: int, last: int
) -> Iterator[tuple[Records, NDArray[np.int64]]]:
    """The records of keys first to last - 1 of all files, in the order of the files, and their keys.

    Held in memory up to SPOOL_BYTES, beyond that in a temporary file that is memory-mapped.
    """
    offsets = _offsets(folder, names, first, last)
    numbers = np.arange(first, last)
    keys = [np.repeat(numbers, np.diff(found)) for found in offsets]
    total = sum(len(found) for found in keys)
    with contextlib.ExitStack() as stack:
        if total * dtype.itemsize <= SPOOL_BYTES:
            target = np.empty(total, dtype)
        else:
            spool = stack.enter_context(tempfile.NamedTemporaryFile(prefix="curate-"))
            target = np.memmap(spool.name, dtype, "w+", shape=(total,))
        at = 0
        for name, found in zip(names, offsets, strict=True):
            start, end = int(found[0]), int(found[-1])
            if end > start:
                target[at : at + end - start] = read_records(folder, name, dtype, start, end)
                at += end - start
        yield target, np.concatenate([np.empty(0, np.int64), *keys])


def record_count(folder: Folder, name: str, keys: int) -> int:
    """How many records a file with so many keys holds."""
    return int(_offsets(folder, [name], keys, keys)[0][0])


def read_records(folder: Folder, name: str, dtype: np.dtype[Any], start: int, end: int) -> Records:
    """Records start to end - 1 of a file; memory-mapped where the store is local."""
    path = folder.path(f"{name}.npy")
    if folder.local:
        mapped: Records = np.load(path, mmap_mode="r")[start:end]
        return mapped

    def read() -> bytes:
        with folder.fs.open(path, "rb", block_size=1 << 12) as stream:
            npy.read_magic(stream)
            npy.read_array_header_1_0(stream)
            header = stream.tell()
        begin, stop = header + start * dtype.itemsize, header + end * dtype.itemsize
        return bytes(folder.fs.cat_file(path, start=begin, end=stop))

    return np.frombuffer(folder.persistently(read), dtype)


def _put_nothing(start: int, records: Records) -> None:
    if start or len(records):
        msg = f"{len(records)} records at {start}, but there are no keys"
        raise ValueError(msg)


def _save(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def _offsets(folder: Folder, names: Sequence[str], first: int, last: int) -> list[NDArray[np.int64]]:
    """Where keys first to last - 1 begin and end in each file: (last - first + 1,) record numbers."""
    if folder.local:
        return [
            np.array(np.load(folder.path(f"{name}.offsets.npy"), mmap_mode="r")[first : last + 1])
            for name in names
        ]
    low, high = OFFSETS_HEADER + 8 * first, OFFSETS_HEADER + 8 * (last + 1)
    found: list[NDArray[np.int64]] = []
    for start in range(0, len(names), FILES_AT_ONCE):
        paths = [folder.path(f"{name}.offsets.npy") for name in names[start : start + FILES_AT_ONCE]]
        bounds = [low] * len(paths), [high] * len(paths)
        ranges = folder.persistently(partial(folder.fs.cat_ranges, paths, *bounds, on_error="raise"))
        found += [np.frombuffer(content, np.int64) for content in ranges]
    return found
