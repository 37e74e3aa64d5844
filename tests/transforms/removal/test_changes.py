"""Files that a removal finds: reference sets, lists of audits, subsets, and the plan of curated shards."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from filters.core.errors import StoreError
from filters.core.uids import UID_DTYPE
from transforms import subset
from transforms.deciding import PartCounts
from transforms.pool import Shard
from transforms.removal.blanking import uid_pairs
from transforms.removal.changes import Scope, references, rename_listed
from transforms.removal.outputs import subsets
from transforms.samples import SCHEMA, labels
from transforms.store import Store
from transforms.subset import remove_from_subset
from transforms.writing import plan_shards

UIDS = [f"{at:032x}" for at in range(1, 9)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One part of eight samples."""
    store = Store.at(str(tmp_path))
    columns = {field.name: pa.nulls(8, field.type) for field in SCHEMA}
    columns |= {"uid": pa.array(UIDS), "shard": labels(["s"] * 8), "failure": labels([None] * 8)}
    store.write_part("signals/samples-1", "p", pa.table(columns, schema=SCHEMA), marker={"shard": "s"})
    return store


def numbered(uids: list[str]) -> np.ndarray:
    pairs = uid_pairs(uids)
    found = np.zeros(len(pairs), UID_DTYPE)
    found["f0"], found["f1"] = pairs[:, 0], pairs[:, 1]
    return found


# --- reference sets


def reference(uids: list[str]) -> np.ndarray:
    found = np.zeros(len(uids), [("uid", "<u8", (2,)), ("label", "<i8")])
    found["uid"], found["label"] = uid_pairs(uids), range(len(uids))
    return found


def test_a_reference_set_loses_the_rows_and_those_beside_it(store: Store, tmp_path: Path) -> None:
    store.folder.write_array("artefacts/a-reference.npy", reference(UIDS))
    store.folder.write_array("artefacts/a-reference-images.npy", np.arange(16).reshape(8, 2))
    store.folder.write_array("artefacts/b-reference.npy", reference(UIDS[4:]))
    store.folder.write_array("artefacts/c-centroids.npy", np.ones((2, 2), np.float32))
    found = list(references(Scope(store, {"p": [1, 3]})))
    assert [change.names for change in found] == [
        ("artefacts/a-reference.npy", "artefacts/a-reference-images.npy")
    ]
    found[0].apply()
    assert np.load(tmp_path / "artefacts/a-reference.npy")["label"].tolist() == [0, 2, 4, 5, 6, 7]
    assert np.load(tmp_path / "artefacts/a-reference-images.npy")[:, 0].tolist() == [0, 4, 8, 10, 12, 14]
    assert list(references(Scope(store, {"p": [1, 3]}))) == []


def test_a_kill_between_the_two_files_is_mended(store: Store, tmp_path: Path) -> None:
    """What lies beside is written first: the reference still says which rows."""
    store.folder.write_array("artefacts/a-reference.npy", reference(UIDS))
    store.folder.write_array("artefacts/a-reference-images.npy", np.arange(7))  # done before the kill
    (change,) = references(Scope(store, {"p": [0]}))
    change.apply()
    assert len(np.load(tmp_path / "artefacts/a-reference.npy")) == 7
    assert np.load(tmp_path / "artefacts/a-reference-images.npy").tolist() == list(range(7))


# --- lists


def test_a_list_names_the_stand_in_and_is_else_the_same() -> None:
    text = 'uid,key,note\nu,private,"a, b"\nv,k,\n'
    assert rename_listed(text, {"u": "s"}) == 'uid,key,note\ns,s,"a, b"\nv,k,\n'
    for other in (text.replace("u,private", "w,private"), "", "a,b\nu,1\n", "uid\n"):
        assert rename_listed(other, {"u": "s"}) == other


# --- subsets


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_a_subset_loses_every_repetition_of_a_uid(
    store: Store, tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subset, "UIDS_AT_ONCE", at_once)
    whole = np.repeat(numbered(UIDS), 2)
    store.folder.write_array("subsets/s.npy", whole)
    (change,) = subsets(Scope(store, {"p": [0, 5]}))
    change.apply()
    left = np.load(tmp_path / "subsets/s.npy")
    np.testing.assert_array_equal(left, np.repeat(numbered(UIDS[1:5] + UIDS[6:]), 2))
    assert (tmp_path / "subsets/s.npy").stat().st_size == 128 + left.nbytes
    assert list(subsets(Scope(store, {"p": [0, 5]}))) == []


def test_a_subset_can_become_empty_and_one_without_the_uids_is_left_alone(
    store: Store, tmp_path: Path
) -> None:
    store.folder.write_array("subsets/empty.npy", numbered([])[:0])
    store.folder.write_array("subsets/one.npy", numbered(UIDS[:1]))
    store.folder.write_array("subsets/others.npy", numbered(UIDS[1:]))
    (change,) = subsets(Scope(store, {"p": [0]}))
    assert change.names == ("subsets/one.npy",)
    change.apply()
    assert np.load(tmp_path / "subsets/one.npy").shape == (0,)


def test_what_is_no_subset_is_told_of(store: Store, tmp_path: Path) -> None:
    store.folder.write_array("subsets/floats.npy", np.ones(3))
    (tmp_path / "subsets" / "text.npy").write_bytes(b"not an array")
    for name, said in (("floats", "holds float64, not uids"), ("text", "is no subset")):
        with pytest.raises(StoreError, match=said):
            remove_from_subset(store.folder, f"subsets/{name}.npy", uid_pairs(UIDS[:1]))


# --- the plan of curated shards


@pytest.mark.parametrize("seed", range(20))
def test_planned_again_each_shard_holds_what_it_held_without_the_removed(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  (cases, not secrets)
    kept = [chance.randrange(0, 9) for _ in range(6)]
    size = chance.randrange(1, 6)
    total = sum(kept)
    held = {
        number: list(range(total))[first : first + size] for number, first in enumerate(range(0, total, size))
    }
    gone = set(chance.sample(range(total), chance.randrange(total + 1)))
    removed = {number: len(gone & set(rows)) for number, rows in held.items() if gone & set(rows)}
    bounds = np.cumsum([0, *kept]).tolist()
    left = [[rank for rank in range(first, last) if rank not in gone] for first, last in pairwise(bounds)]
    counts = [PartCounts(f"p{at}", at, 9, {"keep": len(rows)}, {}, []) for at, rows in enumerate(left)]
    shards = {f"p{at}": Shard("uri", at, f"p{at}", "webdataset", 1) for at in range(6)}
    planned = {
        output.number: [
            rank
            for piece in output.slices
            for rank in left[int(piece.shard.part[1:])][piece.first : piece.last]
        ]
        for output in plan_shards(counts, shards, size, removed)
    }
    expected = {number: [rank for rank in rows if rank not in gone] for number, rows in held.items()}
    assert planned == {number: rows for number, rows in expected.items() if rows}
