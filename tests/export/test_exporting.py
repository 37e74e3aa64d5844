"""What all exports share, and `curate export` as a user meets it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer

from curate.cli import app
from curate.exporting import Export, Selection, export_targets, find_export, write_metadata
from curate.query import open_decision
from filters.core.errors import QueryError, StoreError
from tests.curate.test_command_line import curate
from tests.export.conftest import exported
from tests.running import ask
from tests.search.conftest import opened
from transforms.storage import Folder
from transforms.store import Store


@pytest.mark.parametrize("name", export_targets())
def test_every_target_is_found_and_says_what_it_writes(name: str) -> None:
    target = find_export(name)
    assert issubclass(target, Export)
    assert target.__doc__


def test_the_command_names_every_target() -> None:
    command = typer.main.get_command(app).commands["export"]  # type: ignore[attr-defined]
    (option,) = (one for one in command.params if one.name == "to")
    assert all(name in option.help for name in export_targets())


def test_an_unknown_target_is_answered_with_the_nearest(given: Path, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="no export 'hugging-face'; did you mean huggingface"):
        exported(given, "hugging-face", tmp_path)


@pytest.mark.parametrize("name", export_targets())
@pytest.mark.parametrize(
    "where",
    ["", "true) LIMIT (1", "nonsense = 1", "EXISTS (FROM read_text('/etc/passwd'))", "true); DROP VIEW x"],
)
def test_what_is_no_condition_is_refused(given: Path, tmp_path: Path, name: str, where: str) -> None:
    with pytest.raises(QueryError):
        exported(given, name, tmp_path / "out", where or " ")


def test_a_folder_with_something_in_it_is_refused(given: Path, tmp_path: Path) -> None:
    (tmp_path / "old.npy").write_bytes(b"")
    with pytest.raises(QueryError, match="is not empty: give a new folder"):
        exported(given, "datacomp", tmp_path)


def test_a_folder_that_cannot_be_written_is_told(given: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't write"):
        exported(given, "datacomp", tmp_path / "file" / "out")


def test_metadata_streams_in_the_order_of_the_pool(given: Path, tmp_path: Path) -> None:
    selection = Selection(opened(given), "verdict <> 'failed'")
    write_metadata(selection, Folder(str(tmp_path)))
    found = pq.read_table(tmp_path / "metadata.parquet")
    assert found["uid"].to_pylist() == [
        row["uid"] for row in ask(given, "SELECT uid FROM samples WHERE verdict <> 'failed'")
    ]
    small = list(selection.batches(["uid"], rows=5))
    assert sum(table.num_rows for table in small) == selection.count == found.num_rows


def test_rows_are_numbered_over_the_parts(given: Path) -> None:
    selection = Selection(opened(given), "key LIKE '%900'")
    ((numbers, table),) = selection.numbered(["key"])
    assert numbers.dtype == np.int64
    assert dict(zip(table["key"].to_pylist(), numbers.tolist(), strict=True)) == {"0900": 10, "1900": 23}


def test_a_condition_may_ask_other_views(given: Path) -> None:
    selection = Selection(
        opened(given), "uid IN (SELECT uid FROM duplicates) AND 1 < (SELECT count(*) FROM drops)"
    )
    assert selection.count == 7
    assert sum(table.num_rows for table in selection.batches(["uid"])) == 7


def test_exports_read_a_store_that_is_no_local_folder(given: Path, tmp_path: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").put(f"{given}/", "/exported/store/", recursive=True)
    for name in ("huggingface", "clip-retrieval"):
        here = exported(given, name, tmp_path / "local" / name)
        there = exported("memory://exported/store", name, tmp_path / "remote" / name)
        assert here == there
        for file in here:
            if file != "README.md":
                one, other = (tmp_path / place / name / file for place in ("local", "remote"))
                assert one.read_bytes() == other.read_bytes(), file


def test_the_command_writes_and_says_what(
    monkeypatch: pytest.MonkeyPatch, given: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "out")
    words = ["export", str(given), target, "--to", "datacomp", "--where", "verdict = 'failed'"]
    assert curate(monkeypatch, *words) == 0
    ledger = open_decision(Store.at(str(given))).ledger
    assert capfd.readouterr().out == f"2 samples: {target}/{ledger}.npy\n"
    assert curate(monkeypatch, *words) == 2
    assert "is not empty" in capfd.readouterr().err
