"""The SQL console: one SELECT over the views, closed and bounded."""

from __future__ import annotations

import io
import json
import math
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from curate.answers import shortest_decimals
from curate.serve.errors import file_answer
from curate.serve.settings import WithExplorer, WithService

router = APIRouter(tags=["sql"])

SHOWN_ROWS = 1000
CELL = 2000  # characters of a cell that are sent
EXACT = 2**53  # greater whole numbers are sent as text


class SqlQuestion(BaseModel):
    """One SELECT over the views that /schema describes."""

    sql: str = Field(min_length=1, max_length=100_000)
    limit: int = Field(default=SHOWN_ROWS, ge=1, le=10_000, strict=True)


class SqlColumn(BaseModel):
    """A column of an answer."""

    name: str
    type: str


class SqlAnswer(BaseModel):
    """Rows as lists of values that JSON can hold; long texts are cut."""

    columns: list[SqlColumn]
    rows: list[list[Any]]
    truncated: bool
    seconds: float


class DownloadQuestion(SqlQuestion):
    """The same, as a file."""

    limit: int = Field(default=10_000, ge=1, le=10_000, strict=True)
    format: Literal["csv", "json", "parquet"] = "csv"


@router.post("/decisions/{ledger}/sql")
def ask(asked: SqlQuestion, explorer: WithExplorer, service: WithService) -> SqlAnswer:
    """The answer to one SELECT. Nothing can be written, read from files, or configured."""
    found = service.sql.ask(explorer.decision.ledger, asked.sql, asked.limit)
    names = [SqlColumn(name=item.name, type=str(item.type)) for item in found.table.schema]
    table = shortest_decimals(found.table)
    columns = [table.column(at).to_pylist() for at in range(table.num_columns)]
    rows = [[plain_cell(value) for value in row] for row in zip(*columns, strict=True)]
    return SqlAnswer(columns=names, rows=rows, truncated=found.truncated, seconds=round(found.seconds, 4))


@router.post(
    "/decisions/{ledger}/sql/download",
    response_class=Response,
    responses=file_answer("text/csv", "application/x-ndjson", "application/vnd.apache.parquet"),
)
def download(asked: DownloadQuestion, explorer: WithExplorer, service: WithService) -> Response:
    """The answer to one SELECT as a file: CSV, JSON lines or Parquet; at most 10,000 rows."""
    found = service.sql.ask(explorer.decision.ledger, asked.sql, asked.limit).table
    content, kind = FORMATS[asked.format](found)
    name = f"{explorer.decision.ledger}.{asked.format}"
    disposition = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=kind, headers=disposition)


def plain_cell(value: Any) -> Any:
    """A value of Arrow as one of JSON; long texts are cut."""
    if isinstance(value, list | tuple):
        return [plain_cell(one) for one in value[:CELL]]
    if isinstance(value, dict):
        return {str(key): plain_cell(one) for key, one in value.items()}
    if value is None or isinstance(value, bool) or _fits(value):
        return value
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= CELL else text[:CELL] + "…"


def _fits(value: Any) -> bool:
    """True for numbers that JSON has and JavaScript holds exactly."""
    return isinstance(value, float | int) and math.isfinite(value) and abs(value) < EXACT


def _csv(table: pa.Table) -> tuple[bytes, str]:
    flat = [column.cast(pa.string()) if _flat(column.type) else _texts(column) for column in table.columns]
    stream = io.BytesIO()
    pa.csv.write_csv(pa.table(flat, names=table.column_names), stream)
    return stream.getvalue(), "text/csv"


def _flat(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _texts(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())


def _json(table: pa.Table) -> tuple[bytes, str]:
    lines = [
        json.dumps({key: plain_cell(value) for key, value in row.items()}, ensure_ascii=False)
        for row in shortest_decimals(table).to_pylist()
    ]
    return "\n".join(lines).encode(), "application/x-ndjson"


def _parquet(table: pa.Table) -> tuple[bytes, str]:
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    return stream.getvalue(), "application/vnd.apache.parquet"


FORMATS = {"csv": _csv, "json": _json, "parquet": _parquet}
