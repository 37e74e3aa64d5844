"""What is remembered: in order, in few files, and never half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from transforms.exchange import Records
from transforms.memory import Memory
from transforms.storage import Folder

KIND = np.dtype([("uid", "<u8", (2,)), ("vector", "<f2", (3,))])


def records(uids: list[int]) -> Records:
    found = np.zeros(len(uids), KIND)
    found["uid"][:, 1] = uids
    return found


def memory_at(folder: Path) -> Memory:
    memory = Memory(Folder(str(folder), {}))
    assert memory.begin("first", 4, KIND) is None
    return memory


def uids_of(memory: Memory, key: int) -> list[int]:
    with memory.survivors(key) as found:
        assert found.dtype == KIND
        return [int(uid) for uid in found["uid"][:, 1]]


def test_records_come_back_by_key_the_earliest_batch_first(tmp_path: Path) -> None:
    memory = memory_at(tmp_path / "m")
    memory.add(1, records([5, 9, 7]), np.array([2, 0, 2]))
    memory.add(2, records([1]), np.array([2]))
    assert uids_of(memory, 2) == [5, 7, 1]
    assert uids_of(memory, 0) == [9]
    assert uids_of(memory, 3) == []


def test_an_empty_memory_holds_nothing_and_an_empty_batch_is_noted(tmp_path: Path) -> None:
    memory = memory_at(tmp_path / "m")
    assert uids_of(memory, 0) == []
    memory.add(3, records([]), np.zeros(0, np.int64))
    assert uids_of(memory, 0) == []
    assert memory.begin("first", 4, KIND) == 3


@pytest.mark.parametrize("batches", [1, 2, 7, 64])
def test_many_batches_leave_few_files_with_all_records_in_order(tmp_path: Path, batches: int) -> None:
    memory = memory_at(tmp_path / "m")
    for batch in range(1, batches + 1):
        memory.add(batch, records([10 * batch, 10 * batch + 1]), np.array([1, 3]))
    assert uids_of(memory, 1) == [10 * batch for batch in range(1, batches + 1)]
    assert uids_of(memory, 3) == [10 * batch + 1 for batch in range(1, batches + 1)]
    assert memory.rows == 2 * batches
    assert len(list((tmp_path / "m").glob("*.npy"))) <= 2 * (1 + np.log2(batches))


@pytest.mark.parametrize(("identity", "keys"), [("other", 4), ("first", 5)])
def test_under_another_identity_all_is_forgotten(tmp_path: Path, identity: str, keys: int) -> None:
    memory = memory_at(tmp_path / "m")
    memory.add(1, records([5]), np.array([2]))
    assert memory.begin(identity, keys, KIND) is None
    assert uids_of(memory, 2) == []
    assert list((tmp_path / "m").glob("*.npy")) == []


def test_files_of_an_addition_that_was_killed_do_not_count(tmp_path: Path) -> None:
    memory = memory_at(tmp_path / "m")
    memory.add(1, records([5]), np.array([2]))
    about = (tmp_path / "m" / "memory.json").read_bytes()
    files = {path.name: path.read_bytes() for path in (tmp_path / "m").glob("*.npy")}
    memory.add(2, records([6, 7, 8]), np.array([2, 2, 2]))
    # As a kill before memory.json is replaced leaves it.
    (tmp_path / "m" / "memory.json").write_bytes(about)
    for name, content in files.items():
        (tmp_path / "m" / name).write_bytes(content)
    assert memory.begin("first", 4, KIND) == 1
    assert uids_of(memory, 2) == [5]
    memory.add(2, records([6]), np.array([2]))
    assert uids_of(memory, 2) == [5, 6]
