"""DataComp's subset file of the kept samples, or of any others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from filters.core.uids import UID_DTYPE, format_uids
from tests.export.conftest import exported
from tests.pools import write_tar
from tests.running import EVERYDAY, ask, curate


def uids_of(folder: Path) -> list[str]:
    (path,) = folder.iterdir()
    found = np.load(path)
    assert found.dtype == UID_DTYPE
    assert np.array_equal(found, np.sort(found))
    return format_uids(found.view(np.uint64).reshape(-1, 2))


def test_the_kept_samples_are_the_runs_own_subset(given: Path, tmp_path: Path) -> None:
    (name,) = exported(given, "datacomp", tmp_path)
    assert (tmp_path / name).read_bytes() == (given / "subsets" / name).read_bytes()
    assert uids_of(tmp_path) == sorted(
        row["uid"] for row in ask(given, "SELECT uid FROM samples WHERE verdict = 'keep'")
    )


def test_without_the_runs_subset_it_is_made_equal(given: Path, tmp_path: Path) -> None:
    exported(given, "datacomp", tmp_path / "kept")
    exported(given, "datacomp", tmp_path / "asked", "verdict = 'keep'")
    (one,), (other,) = (list((tmp_path / name).iterdir()) for name in ("kept", "asked"))
    assert one.read_bytes() == other.read_bytes()


def test_any_selection_is_written_also_of_dropped_samples(given: Path, tmp_path: Path) -> None:
    where = "dropped_by = 'min_side_pixels' OR verdict = 'failed'"
    exported(given, "datacomp", tmp_path, where)
    expected = ask(given, f"SELECT uid FROM samples WHERE {where}")  # noqa: S608
    assert uids_of(tmp_path) == sorted(row["uid"] for row in expected)
    assert len(expected) == 4


@pytest.mark.parametrize("rows", [0, 1])
def test_a_selection_of_no_or_one_sample(given: Path, tmp_path: Path, rows: int) -> None:
    exported(given, "datacomp", tmp_path, "key = '0000'" if rows else "false")
    assert len(uids_of(tmp_path)) == rows


def test_an_empty_store_gives_an_empty_subset(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [])
    curate(EVERYDAY, tmp_path / "pool", tmp_path / "store")
    exported(tmp_path / "store", "datacomp", tmp_path / "kept")
    exported(tmp_path / "store", "datacomp", tmp_path / "asked", "true")
    assert uids_of(tmp_path / "kept") == uids_of(tmp_path / "asked") == []


def test_a_file_system_that_is_not_local_is_written_to(given: Path) -> None:
    (name,) = exported(given, "datacomp", "memory://exports/subset")
    import fsspec

    content = fsspec.filesystem("memory").cat_file(f"/exports/subset/{name}")
    assert content == (given / "subsets" / name).read_bytes()
