"""Tasks of a stage in files of the store, where the stage's graph would not hold them all.

A graph holds its elements, and engines refuse one of some megabytes (Dataflow: 20 MB); a pool of billions
of samples has a million shards. So of many tasks the graph holds the names of files:

    runs/tasks/<id>/<number>.json    tasks as JSON

They hold no storage options: a reader adds those that the pool is opened with.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from transforms.storage import Folder

FOLDER = "runs/tasks"
FILE_BYTES = 1 << 18  # so that several workers have something to read


@dataclass(frozen=True)
class TaskReader:
    """What it takes to read tasks from files; picklable.

    Attributes:
        kind: the tasks' type: a dataclass, or lists of one.
        storage: the options that the pool's shards are opened with.
    """

    folder: Folder
    kind: Any
    storage: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def read(self, name: str) -> list[Any]:
        """The tasks of one file."""
        content = self.folder.read_bytes(name)
        found: list[Any] = _adapter(list[self.kind]).validate_json(content, context=dict(self.storage))  # type: ignore[name-defined]
        return found


def lay_out(
    folder: Folder, tasks: Sequence[Any], most_bytes: int, storage: Mapping[str, Any]
) -> tuple[list[str], TaskReader] | None:
    """Writes tasks to files of the store, in place of those of the stage before; None where they are small.

    tasks: dataclasses of one type, or non-empty lists of such; most_bytes: of JSON, that are no files yet.
    Returns: the files' names, and what reads them.
    """
    if not tasks:
        return None
    kind: Any = list[type(tasks[0][0])] if isinstance(tasks[0], list) else type(tasks[0])  # type: ignore[misc]
    adapter = _adapter(kind)
    written = [adapter.dump_json(task) for task in tasks]
    if sum(map(len, written)) <= most_bytes:
        return None
    drop_tasks(folder)
    names: list[str] = []
    below = f"{FOLDER}/{uuid.uuid4().hex}"  # a job that outlived its launcher must find nothing of another's
    for number, some in enumerate(_packed(written)):
        names.append(f"{below}/{number:06d}.json")
        with folder.commit(names[-1]) as path:
            path.write_bytes(b"[" + b",\n".join(some) + b"]")
    return names, TaskReader(folder, kind, storage)


def drop_tasks(folder: Folder) -> None:
    """Deletes the files of a stage that has ended; the caller holds the store's lock."""
    folder.remove(FOLDER)


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _packed(written: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Neighbours, each time about FILE_BYTES of them."""
    some: list[bytes] = []
    size = 0
    for one in written:
        if some and size + len(one) > FILE_BYTES:
            yield some
            some, size = [], 0
        some.append(one)
        size += len(one)
    yield some
