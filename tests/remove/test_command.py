"""`curate remove` as a user meets it: what it shows, asks, writes, and refuses."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from curate import cli
from tests.remove.conftest import CAPTION, KEY, PLAIN, SECRETS, UID, URL, zebra
from tests.remove.looking import files_with
from tests.running import curate, files_of
from transforms import storage
from transforms.store import Store

SIGNED = ("--by", "A. Person", "--reason", "asked by mail", "--yes")


@pytest.fixture
def store(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "store"))


def run(monkeypatch: pytest.MonkeyPatch, store: Path, *words: str) -> int:
    """Runs `curate remove`; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["curate", "remove", str(store), *words])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_it_says_what_went_and_where_the_record_lies(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, store, "--uid", UID, *SIGNED) == 0
    said = capfd.readouterr()
    assert "3 samples: uid 1, same url 1, same image 1" in said.out
    assert "removed 3 samples: " in said.out
    (record,) = (store / "removed").glob("*-0001.json")
    assert f"record  {record}" in said.out
    assert "the pool itself, exports, saved states" in said.err
    assert json.loads(record.read_text())["by"] == "A. Person"
    assert files_with(store, *SECRETS) == []


def test_a_dry_run_shows_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = files_of(store)
    assert run(monkeypatch, store, "--url", URL, "--dry-run") == 0
    said = capfd.readouterr()
    assert all(text in said.out for text in (UID, KEY, CAPTION, "3 samples: url 2, same image 1"))
    assert "nothing was removed: this was a dry run" in said.err
    assert files_of(store) == before
    assert not (store / "removed").exists()


def test_the_same_command_again_finds_it_done(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, store, "--uid", UID, *SIGNED) == 0
    before = files_of(store)
    capfd.readouterr()
    assert run(monkeypatch, store, "--uid", UID, *SIGNED) == 0
    said = capfd.readouterr()
    assert f"uid {UID} was removed before" in said.err
    assert "nothing to remove" in said.out
    assert files_of(store) == before


@pytest.mark.parametrize("missing", ["--by", "--reason"])
def test_it_must_be_signed(
    monkeypatch: pytest.MonkeyPatch, store: Path, missing: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = list(SIGNED)
    words[words.index(missing) + 1] = " "
    assert run(monkeypatch, store, "--uid", UID, *words) == 2
    assert "a removal is signed: give --by NAME and --reason TEXT" in capfd.readouterr().err
    assert files_with(store, UID)


@pytest.mark.parametrize(("answer", "code"), [(True, 0), (False, 2), (None, 2)])
def test_it_asks_before_it_removes(
    monkeypatch: pytest.MonkeyPatch,
    store: Path,
    answer: bool | None,  # noqa: FBT001  (what a person says; None where nobody is there)
    code: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def confirm(question: str, **_: object) -> bool:
        asked.append(question)
        if answer is None:
            raise typer.Abort
        return answer

    monkeypatch.setattr(typer, "confirm", confirm)
    assert run(monkeypatch, store, "--uid", UID, *SIGNED[:-1]) == code
    assert asked == [f"Remove 3 samples from {store} for good?"]
    assert bool(files_with(store, UID)) == (code != 0)
    said = capfd.readouterr().err
    assert {True: "", False: "not agreed", None: "give --yes"}[answer] in said


def test_an_image_file_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, store, "--like", str(tmp_path / "none.jpg"), *SIGNED) == 2
    assert "can't read the image" in capfd.readouterr().err
    (tmp_path / "zebra.jpg").write_bytes(zebra())
    assert run(monkeypatch, store, "--like", str(tmp_path / "zebra.jpg"), *SIGNED) == 0
    assert files_with(store, *SECRETS) == []


def test_a_store_that_is_being_written_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Store.at(str(store)).lock():
        assert run(monkeypatch, store, "--uid", UID, *SIGNED) == 4
        assert "is writing to the store" in capfd.readouterr().err
        assert run(monkeypatch, store, "--uid", UID, "--dry-run") == 0
    assert files_with(store, UID)


def test_a_read_only_store_is_told_of(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(final: Path) -> Iterator[Path]:
        raise OSError(errno.EROFS, "Read-only file system", str(final))
        yield final

    before = files_of(store)
    monkeypatch.setattr(storage, "_commit_local", refused)
    assert run(monkeypatch, store, "--uid", UID, *SIGNED) == 4
    assert "not allowed to write" in capfd.readouterr().err
    assert files_of(store) == before
    (store / "run.lock").unlink()
    (store / "run.lock").mkdir()
    assert run(monkeypatch, store, "--uid", UID, *SIGNED) == 4
    assert "can't write to the store" in capfd.readouterr().err


def test_what_is_no_store_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path / "nothing", "--uid", UID, *SIGNED) == 4
    assert "is not a Curate store" in capfd.readouterr().err
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("fault", ["gone", "cut", "another"])
def test_a_curated_tar_that_is_not_as_it_was_written_stops_it_before_anything(
    monkeypatch: pytest.MonkeyPatch, store: Path, pool: Path, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tar = next(path for path in (store / "curated").rglob("*.tar") if UID.encode() in path.read_bytes())
    if fault == "gone":
        tar.unlink()
    elif fault == "cut":
        tar.write_bytes(tar.read_bytes()[:-1024])
    else:
        tar.write_bytes(tar.with_name("00000000.tar").read_bytes())
    before = files_of(store)
    assert run(monkeypatch, store, "--uid", UID, *SIGNED) == 4
    said = capfd.readouterr().err
    assert tar.name in said
    assert {"gone": "put it back, or delete", "cut": "can't be read", "another": "by its decision 1"}[
        fault
    ] in said
    assert {name: text for name, text in files_of(store).items() if name != "removed/key.json"} == before
    # The way out that the message names.
    tar.unlink(missing_ok=True)
    tar.with_name(tar.name.replace(".tar", ".done.json")).unlink()
    assert run(monkeypatch, store, "--uid", UID, *SIGNED) == 0
    curate(PLAIN, pool, store)
    assert files_with(store, *SECRETS) == []


def test_an_interrupted_removal_is_told_of_and_finished(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, store, "--uid", UID, *SIGNED) == 0
    (record,) = (store / "removed").glob("*-0001.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "state": "samples"}))
    capfd.readouterr()
    run(monkeypatch, store, "--uid", UID, "--dry-run")
    assert f"removed/{record.name} was interrupted" in capfd.readouterr().err
    run(monkeypatch, store, "--uid", UID, *SIGNED)
    assert f"finished removed/{record.name}, which was interrupted" in capfd.readouterr().err
    assert json.loads(record.read_text())["state"] == "done"
