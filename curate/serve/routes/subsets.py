"""Selections as files: a DataComp subset, a list of uids, or Parquet with every column."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from curate.explore.explorer import Explorer, Rows
from curate.serve.errors import file_answer
from curate.serve.routes.signals import Conditions
from curate.serve.settings import WithExplorer, WithService
from filters.core.errors import QueryError
from filters.core.uids import UID_DTYPE, parse_uids

router = APIRouter(tags=["subsets"])

MOST_UIDS = 1_000_000
MOST_ROWS = 200_000  # of a Parquet file with every column


class SubsetQuestion(BaseModel):
    """Samples by conditions, or by their uids; where both are given, those that meet both."""

    conditions: Conditions
    uids: list[str] | None = Field(default=None, max_length=MOST_UIDS)
    format: Literal["datacomp", "uids", "parquet"] = "datacomp"


@router.post(
    "/decisions/{ledger}/subset",
    response_class=Response,
    responses=file_answer("application/octet-stream", "text/plain", "application/vnd.apache.parquet"),
)
def subset(asked: SubsetQuestion, explorer: WithExplorer, service: WithService) -> Response:
    """The selection as a file; the header `x-count` says how many samples it holds."""
    with service.heavy():
        rows = _chosen(explorer, asked)
        content, ending, kind = _file(explorer, rows, asked.format)
    headers = {
        "content-disposition": f'attachment; filename="{explorer.decision.ledger}-selection.{ending}"',
        "x-count": str(len(rows)),
    }
    return Response(content, media_type=kind, headers=headers)


def _chosen(explorer: Explorer, asked: SubsetQuestion) -> Rows:
    mask = explorer.mask(asked.conditions)
    rows = np.arange(explorer.rows) if mask is None else np.flatnonzero(mask)
    if asked.uids is None:
        return rows
    try:
        found = explorer.reader.of_uids(asked.uids)
    except ValueError as cause:
        msg = f"uids: {cause}"
        raise QueryError(msg) from cause
    return np.intersect1d(rows, np.array([row for places in found.values() for row in places], np.int64))


def _file(explorer: Explorer, rows: Rows, form: str) -> tuple[bytes, str, str]:
    if form == "parquet":
        return _parquet(explorer, rows), "parquet", "application/vnd.apache.parquet"
    uids = _uids(explorer, rows)
    if form == "uids":
        return "".join(f"{uid}\n" for uid in uids).encode(), "txt", "text/plain"
    pairs = parse_uids(pa.array(uids, pa.string()))
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    whole = np.ascontiguousarray(pairs[order]).view(UID_DTYPE).ravel()
    stream = io.BytesIO()
    np.save(stream, whole)
    return stream.getvalue(), "npy", "application/octet-stream"


def _uids(explorer: Explorer, rows: Rows) -> list[str]:
    """The uids of rows, read part by part."""
    columns, group = explorer.columns, explorer.decision.manifest["samples"]
    found: list[str] = []
    for number, part in enumerate(columns.parts):
        low, high = np.searchsorted(rows, columns.bounds[number : number + 2])
        if low < high:
            table = explorer.decision.store.read_part(group, part["part"], ["uid"])
            found += table["uid"].take(pa.array(rows[low:high] - columns.bounds[number])).to_pylist()
    return found


def _parquet(explorer: Explorer, rows: Rows) -> bytes:
    if len(rows) > MOST_ROWS:
        msg = (
            f"{len(rows):,} samples are more than the {MOST_ROWS:,} that are sent with every column: "
            "take the list of uids, or `curate export`"
        )
        raise QueryError(msg)
    wanted: dict[str, list[str]] = {}
    for name, place in explorer.columns.places.items():
        if "/" not in name and place.field is None:
            wanted.setdefault(place.group, []).append(place.column)
    samples = explorer.reader.read_groups(rows, wanted)
    schema = pa.schema(
        [
            (name, _stored(place.type))
            for name, place in explorer.columns.places.items()
            if "/" not in name and place.field is None
        ]
    )
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(samples, schema), stream, compression="zstd")
    return stream.getvalue()


def _stored(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_dictionary(kind) else kind
