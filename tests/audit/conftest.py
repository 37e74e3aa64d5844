"""Decisions to audit, taken by real runs; and a pool of numbers whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from curate.audit.draw import BORDERLINE_BIT, FLAGS, Candidates, Drawn
from curate.query import Decision, open_decision
from tests.compared import RECIPE as COMPARED
from tests.compared import compared_pool
from tests.report.conftest import mixed_members, taken
from tests.running import curate
from transforms.store import Store

GROUPS = (("", "keep"), ("small", "drop"), ("small", "quarantine"), ("wrong", "drop"))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Decision:
    """Sixteen rows of which two failed, with hostile captions and keys; audits are written into it."""
    return taken(tmp_path_factory.mktemp("mixed"), [mixed_members()])


@pytest.fixture(scope="session")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Decision:
    """A decision whose recipe has clusters and copies."""
    folder = tmp_path_factory.mktemp("clustered")
    run = curate(COMPARED, compared_pool(folder / "pool"), folder / "store")
    return open_decision(Store.at(str(folder / "store")), run.ledger)


@dataclass(frozen=True)
class World:
    """A pool of numbers: the stratum of each row, its uid, and whether it is bad."""

    codes: NDArray[np.int64]
    uids: NDArray[np.uint64]
    bad: NDArray[np.bool_]

    def candidates(self, budget: int, seed: int) -> Candidates:
        """Its rows as one part."""
        found = Candidates(GROUPS, budget, seed)
        found.add(self.codes, self.uids, 0, np.arange(len(self.codes)))
        return found

    def uid(self, drawn: Drawn) -> str:
        """The uid of a drawn row."""
        return f"{int(self.uids[drawn.row, 0]):016x}{int(self.uids[drawn.row, 1]):016x}"


def make_world(sizes: dict[tuple[int, bool], tuple[int, float]]) -> World:
    """(group, borderline) -> rows and the share of bad ones among them."""
    codes, bad = [], []
    generator = np.random.default_rng(3)
    for (group, borderline), (rows, share) in sizes.items():
        codes += [group * FLAGS + BORDERLINE_BIT * borderline] * rows
        bad.append(generator.permutation(np.arange(rows) < round(rows * share)))
    uids = generator.integers(0, 2**63, (len(codes), 2), dtype=np.uint64)
    return World(np.array(codes), uids, np.concatenate(bad))


def metadata_pool(folder: Path, widths: list[int | None]) -> None:
    """A Parquet pool of captions without images; every picture is as high as wide."""
    count = len(widths)
    scores = {f"clip_{kind}_similarity_score": [0.3] * count for kind in ("b32", "l14")}
    columns = {
        "uid": [f"{at:032x}" for at in range(count)],
        "text": [f"a picture {at}" for at in range(count)],
        "url": pa.nulls(count, pa.string()),
        "original_width": pa.array(widths, pa.int32()),
        "original_height": pa.array(widths, pa.int32()),
    }
    folder.mkdir()
    pq.write_table(pa.table({**columns, **scores}), folder / "0.parquet")


@pytest.fixture
def answers_file(tmp_path: Path) -> Path:
    return tmp_path / "answers.csv"
