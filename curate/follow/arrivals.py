"""Which shards of a growing pool have arrived, and which of them are complete.

A shard is complete when its size and time are as they were at the look before, or when a file beside
it says so: `<stem>_stats.json` (img2dataset), `<stem>.done` or `<name>.done`. On an object store a
file is there only when it is whole. A shard that is done stays done: what is written again under its
name is not read again. A file without bytes has not arrived.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from curate.recipe import PoolSection
from transforms.pool import Shard, find_format, find_shard, list_growing

SHARDS_AT_ONCE = 64  # of one batch: what a killed one does again


@dataclass(frozen=True)
class Waiting:
    """A shard that is not done yet.

    Attributes:
        changed: Unix seconds when it was last changed, as far as that is known.
        complete: whether it can be taken.
    """

    shard: Shard
    changed: float | None
    complete: bool

    @property
    def arrival(self) -> tuple[float, str]:
        """Who comes first: the shard that was changed first; those without a time by name."""
        return (self.changed if self.changed is not None else 0.0, self.shard.uri)


def in_order(waiting: Sequence[Waiting]) -> list[Shard]:
    """The shards that can be taken, in the order of their arrival."""
    ready = sorted((one for one in waiting if one.complete), key=lambda one: one.arrival)
    return [one.shard for one in ready]


@dataclass
class Arrivals:
    """Looks at a pool again and again.

    Attributes:
        patterns: those of the pool.
        before: URI -> part of the shards that waited at the look before.
    """

    patterns: Sequence[str]
    pool: PoolSection
    before: dict[str, str] = field(default_factory=dict)

    def look(self, done: Collection[str]) -> list[Waiting]:
        """The shards that are there and not done, by URI; done: URIs that are left alone."""
        storage = self.pool.storage_options
        uris = [uri for uri in list_growing(self.patterns, storage) if uri not in done]
        if not uris:
            self.before = {}
            return []
        form = find_format(uris[0], self.pool.options(), storage)
        named = (find_shard(number, uri, form, storage) for number, uri in enumerate(uris))
        found = [(shard, changed) for shard, changed in named if shard.size > 0]
        waiting = [Waiting(shard, changed, self._complete(shard)) for shard, changed in found]
        self.before = {shard.uri: shard.part for shard, _ in found}
        return waiting

    def _complete(self, shard: Shard) -> bool:
        # A part's name holds size and time.
        return self.before.get(shard.uri) == shard.part or _said_complete(shard)


def _said_complete(shard: Shard) -> bool:
    """Whether the file system or a file beside the shard says that nothing more will come."""
    fs, path = url_to_fs(shard.uri, **shard.options)
    if not isinstance(fs, LocalFileSystem):
        return True
    stem = path.rpartition(".")[0]
    return any(fs.exists(name) for name in (f"{stem}_stats.json", f"{stem}.done", f"{path}.done"))
