"""Tasks in files of the store: read as they were written, without what opens the pool."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import ValidationError

from transforms.deciding import DecidePart
from transforms.pool import Shard
from transforms.relating import Task
from transforms.storage import Folder
from transforms.tasks import FOLDER, TaskReader, drop_tasks, lay_out
from transforms.writing import KeptSlice, OutputShard

STORAGE = {"key": "A", "secret": "geheim", "client_kwargs": {"endpoint_url": "http://127.0.0.1:1"}}
SHARDS = [
    Shard(f"s3://crawl/ü {number}.tar", number, f"part-{number}", "webdataset", number, STORAGE)
    for number in range(5)
]
PARTS = [DecidePart(f"part-{number}", number, 10 * number) for number in range(5)]
KINDS: dict[str, Sequence[Any]] = {
    "lanes": [SHARDS[:2], SHARDS[2:]],
    "one": [SHARDS[:1]],
    "parts": PARTS,
    "tasks": [Task(0), Task(1, tuple(PARTS)), Task(2, (), (1, 2**40))],
    "outputs": [OutputShard(7, (KeptSlice(SHARDS[0], 3, 9), KeptSlice(SHARDS[1], 0, 2)))],
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path))


def content(folder: Folder) -> str:
    """Everything that lies there."""
    return "".join(path.read_text() for path in Path(folder.root).rglob("*.json"))


def in_files(
    folder: Folder, tasks: Sequence[Any], storage: Mapping[str, Any] = MappingProxyType({})
) -> tuple[list[str], TaskReader]:
    """The tasks in files, however few they are."""
    laid_out = lay_out(folder, tasks, 0, storage)
    assert laid_out is not None
    return laid_out


@pytest.mark.parametrize("kind", list(KINDS))
def test_tasks_are_read_as_they_were_written(kind: str, folder: Folder) -> None:
    written = KINDS[kind]
    names, reader = in_files(folder, written, STORAGE)
    reader = pickle.loads(pickle.dumps(reader))  # noqa: S301  (as it comes to workers)
    found = [task for name in names for task in reader.read(name)]
    assert found == written
    assert [type(task) for task in found] == [type(task) for task in written]
    assert "geheim" not in content(folder) + repr(reader)
    if kind == "lanes":
        assert found[1][0].options == STORAGE
    if kind == "outputs":
        assert found[0].slices[1].shard.options == STORAGE


def test_few_tasks_need_no_files(folder: Folder) -> None:
    assert lay_out(folder, [], 0, {}) is None
    assert lay_out(folder, PARTS, 1000, {}) is None
    assert not folder.exists(FOLDER)


def test_files_have_a_size_and_a_larger_task_one_of_its_own(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.tasks.FILE_BYTES", 100)
    tasks = [Task(0, (), (1,)), Task(1, (), (2,)), Task(2, (), tuple(range(99))), Task(3)]
    names, reader = in_files(folder, tasks)
    assert [[task.number for task in reader.read(name)] for name in names] == [[0, 1], [2], [3]]


def test_a_stage_finds_nothing_of_the_one_before(folder: Folder) -> None:
    (first,), _ = in_files(folder, PARTS[:1])
    (second,), reader = in_files(folder, PARTS[1:])
    with pytest.raises(FileNotFoundError):
        reader.read(first)
    assert reader.read(second) == PARTS[1:]
    drop_tasks(folder)
    drop_tasks(folder)  # nothing there is no error
    assert not folder.exists(FOLDER)


def test_a_file_that_holds_something_else_is_refused(folder: Folder) -> None:
    (name,), reader = in_files(folder, PARTS)
    Path(folder.path(name)).write_text('[{"part": "p", "number": "one"}]')
    with pytest.raises(ValidationError, match=r"(?s)number.*rows"):
        reader.read(name)
