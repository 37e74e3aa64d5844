"""Measuring gets past a shard that kills the process that reads it: a decoder that crashes, say.

No engine tells which shard it was, and a run in one process is itself gone. So a mark lies in the store
while a shard is measured:

    attempts/<part>.json    {"run": who began, "given_up": whether it killed processes of its own too}

A shard whose mark was left is under suspicion. Whoever comes to it next, a later run, a stream that
begins anew or an engine that tries again what it lost, measures it in a process of its own, whose death
costs nothing else. One that ends that process every time is recorded as failed.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from filters.core.errors import KillerShards, StoreError, WorkerLost
from transforms.apart import Apart
from transforms.measuring import (
    DoneParts,
    MeasureConfig,
    ShardReport,
    measure_shards,
    missing_measures,
    record_killer,
)
from transforms.pool import Shard
from transforms.storage import Folder

logger = logging.getLogger("curate.measure")
FOLDER, ENDING = "attempts", ".json"
MOST_IN_A_ROW = 3  # so many shards that end their process, and none that does not: it is the machine


@dataclass(frozen=True)
class Attempts:
    """Measures shards for a run, whose engine may try lost work again.

    Attributes:
        run: names it; what it has given up it does not try again.
    """

    config: MeasureConfig
    run: str

    def measure(self, shards: Iterable[Shard]) -> Iterator[ShardReport]:
        """Yields what `measure_shards` does; what is under suspicion comes last.

        Raises: what measuring raises; KillerShards where one shard after another ends its process and
            none is measured.
        """
        suspects = frozenset(_marks(self._folder))
        done = DoneParts(self.config.store)
        aside: list[Shard] = []
        begun: set[str] = set()
        works = False

        def trusted() -> Iterator[Shard]:
            for shard in shards:
                if _file(shard.part) in suspects and missing_measures(shard, self.config, done):
                    aside.append(shard)
                    continue
                begun.add(shard.part)
                self._mark(shard.part, given_up=False)
                yield shard

        try:
            for report in measure_shards(trusted(), self.config):
                begun.remove(report.part)
                self._folder.remove(_file(report.part))
                works = True
                yield report
        finally:  # whoever can raise lives
            with contextlib.suppress(StoreError, OSError):
                for part in list(begun):
                    self._folder.remove(_file(part))
        if aside:
            logger.warning(
                "%d shard%s being measured when a process ended: measured in a process of their own",
                len(aside),
                " was" if len(aside) == 1 else "s were",
            )
        yield from self._apart(aside, works=works)

    @property
    def _folder(self) -> Folder:
        return self.config.store.folder

    def _mark(self, part: str, *, given_up: bool) -> None:
        self._folder.write_json(_file(part), {"run": self.run, "given_up": given_up})

    def _apart(self, shards: Iterable[Shard], *, works: bool) -> Iterator[ShardReport]:
        """works: whether anything was measured here, so that it can't be the machine."""
        killed = 0
        with Apart(self.config) as apart:
            for shard in shards:
                mark = _mark_in(self._folder, _file(shard.part))
                if mark == {"run": self.run, "given_up": True}:
                    yield record_killer(shard, self.config)
                    continue
                logger.info("%s: measured in a process of its own", shard.uri)
                try:
                    found = self._alone(shard, apart)
                except WorkerLost as lost:
                    self._mark(shard.part, given_up=True)
                    killed += not (mark and mark["given_up"])  # of the others it was known
                    if killed == MOST_IN_A_ROW and not works:
                        raise killers(lost) from lost
                    found = record_killer(shard, self.config)
                else:
                    works = True
                    self._folder.remove(_file(shard.part))
                yield found

    def _alone(self, shard: Shard, apart: Apart) -> ShardReport:
        """The report; tried as often as a shard that can't be read, once at least, with its waits between.

        Raises: WorkerLost where it ended the other process every time; what measuring raises.
        """
        for wait in self.config.pool.retry_seconds[1:]:
            with contextlib.suppress(WorkerLost):
                return self._alive(shard, apart)
            time.sleep(wait)
        return self._alive(shard, apart)

    def _alive(self, shard: Shard, apart: Apart) -> ShardReport:
        found = apart.measure(shard)
        if found is None:  # who can raise lives, and raises here as well
            (found,) = measure_shards([shard], self.config)
        return found


def left_by(run: str, folder: Folder) -> list[str]:
    """The marks of what a run has begun, neither ended nor given up, as files of the store's folder."""
    return [name for name in _marks(folder) if _mark_in(folder, name) == {"run": run, "given_up": False}]


def acquit(parts: Iterable[str], folder: Folder) -> None:
    """Removes the marks of parts that are measured: whoever died with them died after that."""
    marks = set(_marks(folder))
    for part in parts if marks else ():
        if (name := _file(part)) in marks:
            folder.remove(name)


def killers(lost: WorkerLost) -> KillerShards:
    """The error after so many losses in a row; lost: the last of them."""
    return KillerShards(
        f"{MOST_IN_A_ROW} shards in a row ended the process that read them, so it is hardly the shards: "
        f"look at this machine's memory, driver and libraries. At last: {lost}"
    )


def _marks(folder: Folder) -> list[str]:
    """The files that are marks; others are still being written."""
    return [f"{FOLDER}/{name}" for name in folder.names(FOLDER) if name.endswith(ENDING)]


def _mark_in(folder: Folder, name: str) -> Any:
    """What the mark says; None where it is gone: another worker came to its end with the shard."""
    try:
        return folder.read_json(name)
    except FileNotFoundError:
        return None


def _file(part: str) -> str:
    return f"{FOLDER}/{part}{ENDING}"
