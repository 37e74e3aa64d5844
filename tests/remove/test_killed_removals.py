"""A removal that is killed at any moment, and finished by whoever writes next, is an unbroken one."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from filters.core.errors import StoreError
from tests.remove.conftest import PLAIN, SECRETS, take, zebra
from tests.remove.looking import check_markers, files_with
from tests.running import ask, curate, files_of
from transforms import storage
from transforms.removal import finish_removals
from transforms.store import Store


class KilledError(BaseException):
    """The process ends here."""


class Moments:
    """Every commit is two moments: before a file has its name, and after; a deletion is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed: list[str] = []
        self.last: int | None = None
        commit, delete = storage._commit_local, LocalFileSystem.rm_file

        def commit_local(final: Path) -> Iterator[Path]:
            held = commit(final)
            yield next(held)
            self._pass(str(final))
            yield from held
            self._pass(str(final))

        def rm_file(fs: LocalFileSystem, path: str) -> None:
            delete(fs, path)
            self._pass(path)

        monkeypatch.setattr(storage, "_commit_local", commit_local)
        monkeypatch.setattr(LocalFileSystem, "rm_file", rm_file)

    def _pass(self, name: str) -> None:
        self.passed.append(name)
        if self.last is not None and len(self.passed) > self.last:
            raise KilledError(name)

    def kill_at(self, last: int | None) -> None:
        """The next work ends at this moment."""
        self.passed, self.last = [], last


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Moments:
    return Moments(monkeypatch)


def finish(store: Path) -> list[str]:
    opened = Store.at(str(store))
    with opened.lock():
        return finish_removals(opened)


def left(store: Path) -> dict[str, bytes]:
    """What a removal leaves, without its record: that holds times and hashes under a new key."""
    return {name: content for name, content in files_of(store).items() if not name.startswith("removed/")}


def copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target))


@pytest.mark.slow
def test_killed_at_any_moment_it_is_finished_to_the_same_bytes(
    plain: Path, tmp_path: Path, moments: Moments
) -> None:
    unbroken = copied(plain, tmp_path / "unbroken")
    take(unbroken)
    expected, every = left(unbroken), list(moments.passed)
    assert len(every) > 60
    chance = random.Random(7)  # noqa: S311  (moments, not secrets)
    begun = next(at for at, name in enumerate(every) if "-0001.json" in name)
    for at in (*range(begun + 3), *sorted(chance.sample(range(begun + 3, len(every)), 12))):
        store = copied(plain, tmp_path / "killed")
        moments.kill_at(at)
        with pytest.raises(KilledError):
            take(store)
        if at > begun:
            # Killed again while it goes on.
            moments.kill_at(chance.randrange(1, 20))
            with pytest.raises(KilledError):
                finish(store)
        moments.kill_at(None)
        finished = finish(store)
        if at <= begun:
            assert finished == []
            assert left(store) == left(plain), "nothing was begun"
            continue
        assert left(store) == expected, f"killed at {every[at]}"
        (record,) = (store / "removed").glob("*-0001.json")
        assert json.loads(record.read_text())["state"] == "done"
        assert files_with(store, *SECRETS, zebra()) == []
        assert finish(store) == []


def test_a_run_finishes_it_before_anything_else(
    plain: Path, pool: Path, tmp_path: Path, moments: Moments
) -> None:
    take(copied(plain, tmp_path / "unbroken"))
    many = len(moments.passed)
    for at in (many // 3, 2 * many // 3, many - 3):
        store = copied(plain, tmp_path / "killed")
        moments.kill_at(at)
        with pytest.raises(KilledError):
            take(store)
        moments.kill_at(None)
        curate(PLAIN, pool, store)
        assert left(store) == left(tmp_path / "unbroken")
        assert check_markers(store) > 10


def test_readers_see_every_row_in_between(plain: Path, tmp_path: Path, moments: Moments) -> None:
    """Files are replaced whole, so the groups stay side by side at any moment."""
    take(copied(plain, tmp_path / "unbroken"))
    for at in range(5, len(moments.passed), 9):
        store = copied(plain, tmp_path / "killed")
        moments.kill_at(at)
        with pytest.raises(KilledError):
            take(store)
        moments.kill_at(None)
        (counted,) = ask(store, "SELECT count(*) AS rows, count(verdict) AS decided FROM samples")
        assert counted == {"rows": 25, "decided": 25}


@pytest.mark.slow
def test_a_store_of_everything_is_finished_too(untouched: Path, tmp_path: Path, moments: Moments) -> None:
    take(copied(untouched, tmp_path / "unbroken"))
    expected, many = left(tmp_path / "unbroken"), len(moments.passed)
    for at in range(8, many, many // 8):
        store = copied(untouched, tmp_path / "killed")
        moments.kill_at(at)
        with pytest.raises(KilledError):
            take(store)
        moments.kill_at(None)
        assert len(finish(store)) == 1
        assert left(store) == expected


def test_a_full_disk_stops_it_and_it_goes_on(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = copied(plain, tmp_path / "full")
    commit = storage._commit_local

    def full(final: Path) -> Iterator[Path]:
        if "/ledger/" in str(final):
            raise OSError(28, "No space left on device")
        yield from commit(final)

    monkeypatch.setattr(storage, "_commit_local", full)
    with pytest.raises(StoreError, match="no space left for"):
        take(store)
    monkeypatch.undo()
    assert len(finish(store)) == 1
    take(copied(plain, tmp_path / "unbroken"))
    assert left(store) == left(tmp_path / "unbroken")


def test_a_record_of_another_version_is_not_touched(plain: Path, tmp_path: Path) -> None:
    store = copied(plain, tmp_path / "other")
    (store / "removed").mkdir()
    (store / "removed" / "20300101T000000Z-0001.json").write_text('{"curate_removal": 2, "state": "begun"}')
    with pytest.raises(StoreError, match="no record that this Curate reads"):
        finish(store)
    assert left(store) == left(plain)
