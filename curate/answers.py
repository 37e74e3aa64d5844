"""Answers as tables, CSV, JSON lines or Parquet: on the terminal, through a pipe or into a file."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape

from curate.describe import plain_table
from curate.report.wording import clean_text
from filters.core.errors import QueryError
from transforms.storage import Folder

Form = Literal["table", "csv", "json", "parquet"]
MAX_ROWS = 1000  # of a table on the terminal; the other forms hold all
_ROWS_AT_ONCE = 1024


def safe_text(text: object) -> str:
    """Text of a pool as a terminal may show it: no markup, no control character to obey."""
    return escape(clean_text(str(text)))


def show_answer(answer: pa.Table, form: Form, output: Path | None, out: Console) -> None:
    """Prints the answer, or writes it whole to the file `output`.

    Raises: QueryError for a table into a file, or Parquet onto a terminal; StoreError where the
    file can't be written.
    """
    if form == "table":
        if output is not None:
            msg = f"a table is for reading: give --format csv, json or parquet to write {output}"
            raise QueryError(msg)
        _print_table(answer, out)
        return
    if form == "parquet" and output is None and sys.stdout.isatty():
        msg = "Parquet is not for a terminal: give --output FILE, or send it through a pipe"
        raise QueryError(msg)
    with _target(output) as stream:
        _WRITERS[form](answer, stream)


@contextlib.contextmanager
def _target(output: Path | None) -> Iterator[IO[bytes]]:
    """Where the bytes go; a file appears whole or not at all."""
    if output is not None:
        with Folder(str(output.absolute().parent)).commit(output.name) as path, path.open("wb") as stream:
            yield stream
    elif sys.stdout.isatty():
        held = io.BytesIO()
        yield held
        lines = held.getvalue().decode().split("\n")
        sys.stdout.write("\n".join(map(clean_text, lines)))
    else:
        yield sys.stdout.buffer


def _print_table(answer: pa.Table, out: Console) -> None:
    table = plain_table(*map(safe_text, answer.column_names))
    for row in answer.slice(0, MAX_ROWS).to_pylist():
        table.add_row(*map(_cell, row.values()))
    out.print(table)
    if answer.num_rows > MAX_ROWS:
        out.print(f"… {answer.num_rows - MAX_ROWS} more rows: use LIMIT, or --format csv", style="dim")


def _cell(value: object) -> str:
    """A value of an answer; the other forms have all digits of a number."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else safe_text(value)


def _write_csv(answer: pa.Table, stream: IO[bytes]) -> None:
    """Structs as columns of their own; lists, and what else CSV has no form for, as JSON."""
    while any(pa.types.is_struct(item.type) for item in answer.schema):
        answer = answer.flatten()
    columns = [_plain_column(answer.column(at)) for at in range(answer.num_columns)]
    pyarrow.csv.write_csv(pa.table(columns, names=answer.column_names), stream)


def _plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_nested(column.type):
        try:
            pyarrow.csv.write_csv(pa.table([column.slice(0, 1)], names=["value"]), io.BytesIO())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return pa.chunked_array([[None if one is None else str(one) for one in column.to_pylist()]])
        return column
    return pa.chunked_array(
        [[None if one is None else _json(one) for one in column.to_pylist()]], pa.string()
    )


def shortest_decimals(answer: pa.Table) -> pa.Table:
    """The answer with its float32 columns as float64 of the shortest decimals: 0.1, not 0.10000000149."""
    for at, item in enumerate(answer.schema):
        if pa.types.is_float32(item.type) or pa.types.is_float16(item.type):
            column = answer.column(at).cast(pa.float32()).cast(pa.string()).cast(pa.float64())
            answer = answer.set_column(at, item.name, column)
    return answer


def _write_json(answer: pa.Table, stream: IO[bytes]) -> None:
    """One object for each row; NaN and infinity are null, which JSON has no numbers for."""
    for batch in shortest_decimals(answer).to_batches(max_chunksize=_ROWS_AT_ONCE):
        stream.write("".join(_json(row) + "\n" for row in batch.to_pylist()).encode())


def _json(value: Any) -> str:
    return json.dumps(_finite(value), default=str, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_parquet(answer: pa.Table, stream: IO[bytes]) -> None:
    built = pa.BufferOutputStream()
    try:
        pq.write_table(answer, built, compression="zstd")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as cause:
        msg = f"Parquet has no form for a column of this answer: CAST it in the question ({cause})"
        raise QueryError(msg) from cause
    stream.write(built.getvalue())


_WRITERS = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}
