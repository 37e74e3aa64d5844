"""A stream that has work and does none is told from one that is slow, or has nothing to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.follow.in_place import commit_lock, workers_are_busy
from curate.follow.ledger import Ledger
from curate.follow.standstill import Standstill
from filters.core.errors import WorkerLost
from transforms.storage import Folder


class Watched:
    """A stream under a clock of the test's."""

    def __init__(self, seconds: float) -> None:
        self.now = 1000.0
        self.asked = 0
        self._watch = Standstill(seconds, lambda: self.now)

    def look(self, after: float, *, waiting: int = 2, committed: int = 0, works: bool = False) -> None:
        def busy() -> bool:
            self.asked += 1
            return works

        self.now += after
        self._watch.check(waiting, committed, busy)


def test_what_does_nothing_for_too_long_is_lost() -> None:
    stream = Watched(60)
    for _ in range(6):
        stream.look(10)
    stream.look(10)
    said = "2 shards wait, and for 70 s nothing was measured or committed: the engine has lost work"
    with pytest.raises(WorkerLost, match=said):
        stream.look(10)


def test_who_works_is_only_slow() -> None:
    stream = Watched(60)
    for _ in range(100):
        stream.look(50, works=True)
    assert stream.asked >= 50


def test_who_commits_is_not_even_asked() -> None:
    stream = Watched(60)
    for batch in range(100):
        stream.look(50, committed=batch)
    assert stream.asked == 0


def test_where_nothing_waits_there_is_nothing_to_do() -> None:
    stream = Watched(60)
    for _ in range(100):
        stream.look(50, waiting=0)
    stream.look(25)
    assert stream.asked == 0


def test_workers_are_busy_while_one_measures_or_commits(tmp_path: Path) -> None:
    ledger = Ledger(Folder(str(tmp_path)), "everyday-0")
    assert not workers_are_busy(ledger, "this")
    with commit_lock(ledger):
        assert workers_are_busy(ledger, "this")
    assert not workers_are_busy(ledger, "this")
    ledger.folder.write_json("attempts/part.json", {"run": "this", "given_up": False})
    assert workers_are_busy(ledger, "this")
    assert not workers_are_busy(ledger, "another"), "what an older stream left is no sign of this one"
