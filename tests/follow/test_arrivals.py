"""A shard is taken when it is complete, and once."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from curate.follow.arrivals import Arrivals
from curate.recipe import PoolSection
from tests.pools import photo, sample, write_tar


def arrivals(pattern: str) -> Arrivals:
    return Arrivals([pattern], PoolSection())


def complete(looker: Arrivals, done: set[str] | None = None) -> dict[str, bool]:
    return {Path(one.shard.uri).name: one.complete for one in looker.look(done or set())}


def grow(path: Path, rows: int) -> Path:
    members = [member for at in range(rows) for member in sample(f"{at}", photo(at), "a picture")]
    return write_tar(path, members)


def test_a_shard_is_left_until_it_has_stopped_growing(tmp_path: Path) -> None:
    looker = arrivals(str(tmp_path / "*.tar"))
    assert complete(looker) == {}
    grow(tmp_path / "0.tar", 1)
    assert complete(looker) == {"0.tar": False}
    grow(tmp_path / "0.tar", 2)
    assert complete(looker) == {"0.tar": False}
    assert complete(looker) == {"0.tar": True}


def test_a_shard_of_the_same_size_and_another_time_is_still_being_written(tmp_path: Path) -> None:
    looker = arrivals(str(tmp_path / "*.tar"))
    path = grow(tmp_path / "0.tar", 1)
    assert complete(looker) == {"0.tar": False}
    os.utime(path, (1, 1))
    assert complete(looker) == {"0.tar": False}
    assert complete(looker) == {"0.tar": True}


@pytest.mark.parametrize("beside", ["0_stats.json", "0.done", "0.tar.done"])
def test_a_file_beside_a_shard_says_that_it_is_complete(tmp_path: Path, beside: str) -> None:
    grow(tmp_path / "0.tar", 1)
    (tmp_path / beside).write_text("{}")
    assert complete(arrivals(str(tmp_path / "*.tar"))) == {"0.tar": True}


def test_what_is_done_is_left_alone_also_when_it_is_written_again(tmp_path: Path) -> None:
    looker = arrivals(str(tmp_path / "*.tar"))
    path = grow(tmp_path / "0.tar", 1)
    grow(tmp_path / "1.tar", 1)
    assert complete(looker, {str(path)}) == {"1.tar": False}
    grow(path, 2)
    assert complete(looker, {str(path)}) == {"1.tar": True}


def test_a_file_without_bytes_and_a_name_without_a_file_have_not_arrived(tmp_path: Path) -> None:
    (tmp_path / "0.tar").touch()
    (tmp_path / "0_stats.json").touch()
    assert complete(arrivals(str(tmp_path / "{0..3}.tar"))) == {}


def test_a_folder_may_be_empty_at_first(tmp_path: Path) -> None:
    looker = arrivals(str(tmp_path))
    assert complete(looker) == {}
    grow(tmp_path / "0.tar", 1)
    assert complete(looker) == {"0.tar": False}


def test_on_an_object_store_what_is_there_is_complete() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/arrived/0.tar", b"some bytes")
    try:
        assert complete(arrivals("memory://arrived/*.tar")) == {"0.tar": True}
    finally:
        memory.rm("/arrived", recursive=True)


def test_the_time_of_a_shard_s_last_change_is_told(tmp_path: Path) -> None:
    os.utime(grow(tmp_path / "0.tar", 1), (1000, 1000))
    (one,) = arrivals(str(tmp_path / "*.tar")).look(set())
    assert one.changed == 1000
