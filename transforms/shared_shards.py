"""Shards that the workers of one machine share out among themselves: each takes the next one left.

Shards differ, and so do the moments of a machine; with lanes dealt out beforehand the slowest decides.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transforms.pool import Shard

SHARDS = "shards.pickle"


@dataclass(frozen=True)
class Lane:
    """The shards that lie in a folder of this machine, for each worker the same; iterating takes them.

    Attributes:
        folder: the shards, and a file for each that was taken.
    """

    folder: str

    def __iter__(self) -> Iterator[Shard]:
        for at, shard in enumerate(self._shards()):
            if self._take(at):
                yield shard

    def _shards(self) -> Sequence[Shard]:
        found: Sequence[Shard] = pickle.loads(Path(self.folder, SHARDS).read_bytes())  # noqa: S301  (our own)
        return found

    def _take(self, at: int) -> bool:
        """Whether this worker is the first that asks for this one."""
        try:
            os.close(os.open(Path(self.folder, f"{at}.taken"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def share_out(shards: Sequence[Shard], workers: int, folder: Path) -> list[Lane]:
    """A lane for each worker, with the shards in an empty folder."""
    (folder / SHARDS).write_bytes(pickle.dumps(tuple(shards)))
    return [Lane(str(folder))] * workers
