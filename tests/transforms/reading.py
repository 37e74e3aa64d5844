"""Reads tiny pools the way a run does, for tests that look at single stages."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from transforms.measure import NamedMeasure, find_measure
from transforms.measuring import MeasureConfig, ShardReport, measure_shards
from transforms.pool import PoolOptions, Shard, list_pool
from transforms.store import Store
from transforms.stream import MeasuredShard, ShardTask, stream_shards


def shards_of(*patterns: str | Path, options: PoolOptions | None = None) -> list[Shard]:
    """The shards of a local pool."""
    return list_pool([str(pattern) for pattern in patterns], options or PoolOptions(), {})


def named(kind: str, name: str = "", depends: tuple[str, ...] = (), **options: Any) -> NamedMeasure:
    """A measure under its own or another name."""
    return NamedMeasure(name or kind, kind, find_measure(kind)(**options), depends)


def stream(
    shards: Sequence[Shard],
    *measures: NamedMeasure,
    options: PoolOptions | None = None,
    threads: int = 2,
) -> list[MeasuredShard]:
    """Every shard, streamed for these measures."""
    tasks = [ShardTask(shard, frozenset(measure.name for measure in measures)) for shard in shards]
    return list(stream_shards(tasks, measures, options or PoolOptions(), decode_threads=threads))


def failures_of(found: MeasuredShard) -> dict[str, str | None]:
    """Key -> failure code of each row; of rows with one key, the last."""
    return {sample.raw.key: sample.failure for sample in found.samples}


def measure(
    store: Store, shards: Sequence[Shard], *measures: NamedMeasure, options: PoolOptions | None = None
) -> list[ShardReport]:
    """Brings the shards up to date in the store."""
    return list(measure_shards(shards, MeasureConfig(store, options or PoolOptions(), measures)))


class WatchedFiles(MemoryFileSystem):  # type: ignore[misc]
    """Files in memory that count how often each is opened and fail as often as they are told."""

    protocol = "watched"
    store: dict[str, Any] = {}  # noqa: RUF012  (of this class, not of MemoryFileSystem)
    pseudo_dirs = [""]  # noqa: RUF012
    opened: list[str] = []  # noqa: RUF012
    errors: list[BaseException] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("watched://")))

    def _open(self, path: str, *args: Any, **how: Any) -> Any:
        if args[:1] == ("rb",) or how.get("mode", "rb") == "rb":
            self.opened.append(path)
            if self.errors:
                raise self.errors.pop(0)
        return super()._open(path, *args, **how)


@contextmanager
def watched_files() -> Iterator[WatchedFiles]:
    """A fresh `watched://` file system."""
    fsspec.register_implementation("watched", WatchedFiles, clobber=True)
    WatchedFiles.store.clear()
    WatchedFiles.pseudo_dirs[:] = [""]
    WatchedFiles.opened.clear()
    WatchedFiles.errors.clear()
    yield fsspec.filesystem("watched", skip_instance_cache=True)
    WatchedFiles.store.clear()


def memory_folder() -> str:
    """A folder of fsspec's memory file system that nobody else uses."""
    return f"memory://curate-{uuid.uuid4().hex}"
