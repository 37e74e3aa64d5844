"""A full disk stops the run with its name; with more space the same run goes on to the end."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from filters.core.errors import StoreError
from tests.end_to_end.conftest import grow_disk
from tests.pools import photo, sample, write_tar
from tests.running import EVERYDAY, ask, curate, files_of


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_stops_the_run_and_more_space_lets_it_go_on(
    tmp_path: Path, small_disk: Path, workers: int
) -> None:
    for number in range(8):
        members = [m for at in range(20) for m in sample(f"{number}{at}", photo(20 * number + at), "a b c d")]
        write_tar(tmp_path / "pool" / f"{number}.tar", members)
    with pytest.raises(StoreError, match=r"no space left for \S+: free some and run again") as caught:
        curate(EVERYDAY, tmp_path / "pool", small_disk / "store", workers=workers)
    assert "while running" not in str(caught.value)
    assert caught.value.exit_code == 4
    assert list((small_disk / "store").rglob("*.done.json")), "what was done stays done"
    grow_disk(small_disk)
    curate(EVERYDAY, tmp_path / "pool", small_disk / "store", workers=workers)
    curate(EVERYDAY, tmp_path / "pool", tmp_path / "store")
    assert files_of(small_disk / "store") == files_of(tmp_path / "store")


def test_a_disk_that_is_full_from_the_start_is_told_and_leaves_the_store_readable(
    tmp_path: Path, small_disk: Path
) -> None:
    write_tar(tmp_path / "pool" / "0.tar", sample("a", photo(1), "a small picture here"))
    curate(EVERYDAY, tmp_path / "pool", small_disk / "store")
    fill(small_disk)
    other = EVERYDAY.replace("min_side_pixels: 30", "min_side_pixels: 31")
    with pytest.raises(StoreError, match="no space left"):
        curate(other, tmp_path / "pool", small_disk / "store")
    assert ask(small_disk / "store", "SELECT count(*) AS n FROM samples") == [{"n": 1}]


def fill(folder: Path) -> None:
    """Leaves no byte free."""
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as stream:
        while stream.write(bytes(4096)):
            pass
