"""Answers in every form: onto a terminal, through a pipe, into a file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from curate.answers import MAX_ROWS, Form, show_answer
from filters.core.errors import QueryError, StoreError

HOSTILE = "a [red]cap\x1b[2Jtion[/red], \x9b2J with\na line"


def shown(answer: pa.Table, form: Form = "table", output: Path | None = None) -> str:
    """What a table prints."""
    stream = io.StringIO()
    show_answer(answer, form, output, Console(file=stream, highlight=False, width=200))
    return stream.getvalue()


def rows_of(sql: str) -> pa.Table:
    return duckdb.connect().sql(sql).to_arrow_table()


def test_a_table_shows_no_markup_and_no_control_character() -> None:
    said = shown(pa.table({"[/x]": [HOSTILE]}))
    assert "[red]" in said
    assert "[/x]" in said
    assert "\x1b" not in said
    assert "\x9b" not in said


def test_a_long_table_says_how_much_is_left_out() -> None:
    assert "2 more rows" in shown(pa.table({"a": range(MAX_ROWS + 2)}))


def test_parquet_into_a_file_is_the_answer_itself(tmp_path: Path) -> None:
    answer = rows_of("SELECT {'a': 1, 'b': [1, 2]} AS votes, 'x' AS text, 0.5::FLOAT AS cosine")
    shown(answer, "parquet", tmp_path / "answer.parquet")
    assert pq.read_table(tmp_path / "answer.parquet").equals(answer)
    assert [path.name for path in tmp_path.iterdir()] == ["answer.parquet"]


def test_parquet_goes_through_a_pipe(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    shown(pa.table({"a": [1, None]}), "parquet")
    assert pq.read_table(io.BytesIO(capfdbinary.readouterr().out)).to_pydict() == {"a": [1, None]}


def test_parquet_is_not_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with pytest.raises(QueryError, match="not for a terminal: give --output FILE"):
        shown(pa.table({"a": [1]}), "parquet")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_text_obeys_no_control_character_on_a_terminal(
    form: Form, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    shown(pa.table({"caption": [HOSTILE, "two"]}), form)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\x9b" not in said
    assert said.endswith("\n")


def test_a_table_is_not_written_into_a_file(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="give --format csv, json or parquet"):
        shown(pa.table({"a": [1]}), "table", tmp_path / "answer.txt")


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't write"):
        shown(pa.table({"a": [1]}), "csv", tmp_path / "file" / "answer.csv")


def test_csv_spreads_structs_and_writes_lists_as_json(tmp_path: Path) -> None:
    answer = rows_of("SELECT {'a': true, 'b': NULL} AS votes, [1, NULL] AS list, INTERVAL 1 DAY AS span")
    shown(answer, "csv", tmp_path / "answer.csv")
    found = pyarrow.csv.read_csv(tmp_path / "answer.csv").to_pydict()
    assert found.keys() == {"votes.a", "votes.b", "list", "span"}
    assert found["list"] == ["[1, null]"]
    assert "days=1" in found["span"][0]


def test_json_keeps_nested_values_and_has_no_nan(tmp_path: Path) -> None:
    answer = rows_of("SELECT {'a': ['NaN'::DOUBLE, 1.5]} AS deep, 'é' AS text, 10::HUGEINT AS whole")
    shown(answer, "json", tmp_path / "answer.json")
    text = (tmp_path / "answer.json").read_text(encoding="utf-8")
    assert "é" in text
    assert json.loads(text) == {"deep": {"a": [None, 1.5]}, "text": "é", "whole": "10"}


def test_a_type_that_parquet_has_no_form_for_is_told(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="CAST it in the question"):
        shown(rows_of("SELECT INTERVAL 1 DAY AS span"), "parquet", tmp_path / "answer.parquet")
    assert not (tmp_path / "answer.parquet").exists()


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_an_empty_answer_has_its_columns(form: Form, tmp_path: Path) -> None:
    path = tmp_path / f"answer.{form}"
    shown(rows_of("SELECT 1 AS a, 'x' AS b LIMIT 0"), form, path)
    if form == "parquet":
        assert pq.read_schema(path).names == ["a", "b"]
    else:
        assert path.read_text() == {"csv": '"a","b"\n', "json": ""}[form]


def test_json_has_the_shortest_decimals_of_a_float32(tmp_path: Path) -> None:
    values = pa.array([0.1, None, float("nan"), -16777216.0], pa.float32())
    shown(
        pa.table({"one": values, "half": values.slice(0, 4).cast(pa.float16(), safe=False)}),
        "json",
        tmp_path / "a",
    )
    found = [json.loads(line) for line in (tmp_path / "a").read_text().splitlines()]
    assert [row["one"] for row in found] == [0.1, None, None, -16777216.0]
    assert found[0]["half"] == pytest.approx(0.1, abs=1e-4)
