"""The subset file is what numpy would save of the sorted kept uids, byte for byte."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import transforms.subset
from filters.core.uids import UID_DTYPE
from tests.transforms.reading import memory_folder
from transforms.store import Store
from transforms.subset import write_subset

RANDOM = np.random.default_rng(0)


def ledger(store: Store, parts: list[list[tuple[str, int]]]) -> list[str]:
    for number, rows in enumerate(parts):
        uids, weights = zip(*rows, strict=True) if rows else ((), ())
        columns = {"uid": pa.array(uids, pa.string()), "weight": pa.array(weights, pa.int32())}
        store.write_part("ledger/l", f"p{number}", pa.table(columns), marker={})
    return [f"p{number}" for number in range(len(parts))]


def expected(parts: list[list[tuple[str, int]]]) -> bytes:
    """As DataComp's apply_filter.py writes it."""
    uids = sorted(uid for rows in parts for uid, weight in rows for _ in range(weight))
    pairs = np.array([(int(uid[:16], 16), int(uid[16:], 16)) for uid in uids], dtype=UID_DTYPE)
    sink = io.BytesIO()
    np.save(sink, pairs)
    return sink.getvalue()


def uid() -> str:
    return RANDOM.bytes(16).hex()


PARTS = {
    "several parts": [[(uid(), 1) for _ in range(50)], [], [(uid(), at % 2) for at in range(30)]],
    "the same leading bits": [[(f"{'0' * 16}{RANDOM.bytes(8).hex()}", 1) for _ in range(20)]],
    "repetitions by weight": [[(uid(), 3), (uid(), 0), (uid(), 1)], [(uid(), 2)]],
    "a uid in two parts": [[("a" * 32, 1)], [("a" * 32, 1), ("b" * 32, 1)]],
    "first and last": [[("0" * 32, 1), ("f" * 32, 1), ("8" + "0" * 31, 1), ("7" + "f" * 31, 1)]],
    "nothing kept": [[(uid(), 0)], [(uid(), 0)]],
    "no rows": [[]],
    "no parts": [],
}


@pytest.mark.parametrize("at_once", [16_000_000, 7, 1])
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_the_subset_equals_numpy_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[list[tuple[str, int]]], at_once: int
) -> None:
    monkeypatch.setattr(transforms.subset, "UIDS_AT_ONCE", at_once)
    store = Store.at(str(tmp_path))
    kept = sum(weight for rows in parts for _, weight in rows)
    written = write_subset(store, "ledger/l", ledger(store, parts), "subsets/s.npy", kept)
    assert written == kept
    assert store.folder.read_bytes("subsets/s.npy") == expected(parts)


def test_the_subset_can_be_loaded_from_any_store() -> None:
    store = Store.at(memory_folder())
    parts = [[(uid(), 1) for _ in range(5)]]
    write_subset(store, "ledger/l", ledger(store, parts), "subsets/s.npy", 5)
    loaded = store.read_array("subsets/s.npy")
    assert (loaded.dtype, loaded.shape) == (UID_DTYPE, (5,))
    assert np.array_equal(loaded, np.sort(loaded))
