"""What tests share: the folder of real data, and tiny pools made on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pools import Member, photo, sample, write_tar


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models; tests that ask for it skip where it is absent."""
    folder = Path(os.environ.get("CURATE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder}: set CURATE_SHARED")
    return folder


@pytest.fixture
def small_pool(tmp_path: Path) -> Path:
    """Two tars of six good samples each; returns the folder."""
    for number in range(2):
        members: list[Member] = []
        for at in range(6):
            seed = 10 * number + at
            members += sample(
                f"{number:05d}{at:04d}", photo(seed, side=40 + seed), f"a small picture number {seed}"
            )
        write_tar(tmp_path / "pool" / f"{number:05d}.tar", members)
    return tmp_path / "pool"
