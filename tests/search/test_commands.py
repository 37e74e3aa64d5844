"""`curate index` and `curate search` as a user meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate.search.engine import FOUND
from tests.curate.test_command_line import curate
from tests.pools import photo
from tests.running import ask
from transforms.store import Store


@pytest.fixture
def store(pictures: Path, tmp_path: Path) -> Path:
    shutil.copytree(pictures, tmp_path / "store")
    return tmp_path / "store"


def rows_of(capfd: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_all_embeddings_are_indexed_and_searched_without_a_note(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert curate(monkeypatch, "search", str(store), "a ship", "--format", "json") == 0
    captured = capfd.readouterr()
    assert "note: clip_image has no index" in captured.err
    assert curate(monkeypatch, "index", str(store)) == 0
    said = capfd.readouterr().out
    assert "clip_image  24 of 26 rows, 64 numbers each; exact" in said
    assert "clip_text  24 of 26 rows" in said
    assert len(list(store.glob("index/*/*/manifest.json"))) == 2
    assert curate(monkeypatch, "search", str(store), "a ship", "--format", "json") == 0
    again = capfd.readouterr()
    assert again.err == ""
    assert again.out == captured.out


def test_one_kind_of_embeddings_can_be_indexed(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    assert curate(monkeypatch, "index", str(store), "--embedding", "clip_text") == 0
    assert [path.parent.name for path in store.glob("index/*/*/manifest.json")] == ["txt"]


def test_search_by_text_image_and_sample_under_a_condition(
    monkeypatch: pytest.MonkeyPatch, store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo(4))
    words = ["search", str(store), "-k", "2", "--format", "json"]
    assert curate(monkeypatch, *words, "--image", str(tmp_path / "photo.jpg")) == 0
    found = rows_of(capfd)
    assert [row["rank"] for row in found] == [1, 2]
    assert found[0]["key"] == "0004"
    assert curate(monkeypatch, *words, "--like", str(found[0]["uid"]), "--where", "verdict = 'drop'") == 0
    assert {row["verdict"] for row in rows_of(capfd)} == {"drop"}
    assert curate(monkeypatch, *words, "a ship", "--embedding", "clip_text") == 0
    assert len(rows_of(capfd)) == 2


def test_results_are_printed_as_a_table_and_written_as_parquet(
    monkeypatch: pytest.MonkeyPatch, store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert curate(monkeypatch, "search", str(store), "a ship", "-k", "30") == 0
    said = capfd.readouterr().out
    assert "\x1b" not in said
    assert "rank" in said
    path = tmp_path / "found.parquet"
    words = ["search", str(store), "a ship", "--format", "parquet", "--output", str(path)]
    assert curate(monkeypatch, *words) == 0
    assert pq.read_schema(path).equals(FOUND)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "search for one thing"),
        (["a ship", "--like", "0" * 32], "search for one thing"),
        (["--image", "/nowhere.jpg"], "can't read the image /nowhere.jpg: No such file"),
        (["--image", "/"], "Is a directory"),
        (["--image", __file__], "can't be searched with: not_an_image"),
        (["--like", "0" * 32], "no sample with the uid"),
        (["a ship", "--where", "true) OR (1"], None),
        (["a ship", "--where", "wdth > 3"], "wdth"),
        (["a ship", "-k", "0"], "finds 1 to 10,000"),
        (["a ship", "--embedding", "nonsense"], "has no embeddings 'nonsense'; known: clip_image, clip_text"),
        (["a ship", "--decision", "nonsense"], "no single decision 'nonsense'"),
    ],
)
def test_wrong_questions_are_answered_with_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
    pictures: Path,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    message: str | None,
) -> None:
    code = curate(monkeypatch, "search", str(pictures), *words)
    said = " ".join(capfd.readouterr().err.split())
    assert code == (0 if message is None else 2)
    assert message is None or message in said
    assert "Traceback" not in said


def test_an_index_waits_for_no_run_that_holds_the_store(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Store.at(str(store)).lock():
        assert curate(monkeypatch, "index", str(store)) == 4
    assert "is writing to the store" in capfd.readouterr().err
    assert ask(store, "SELECT count(*) AS n FROM samples") == [{"n": 26}]
