"""Thumbnails, read from the original shards by offset; nothing is copied."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from curate.explore.explorer import Explorer
from curate.serve.errors import AbsentError, file_answer
from curate.serve.settings import WithExplorer, WithService
from transforms.thumbnails import read_original, thumbnail

router = APIRouter(tags=["samples"])

NOTHING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100"><g fill="none" stroke="#8a8f99" '
    'stroke-width="3"><rect x="22" y="28" width="56" height="44" rx="4"/><path d="M22 72 78 28"/></g></svg>'
)
PLACE = ["uid", "shard", "sample_offset", "image_offset", "image_bytes"]


@router.get(
    "/decisions/{ledger}/images/{number}",
    response_class=Response,
    responses=file_answer("image/jpeg", "image/svg+xml"),
)
def image(
    number: int,
    explorer: WithExplorer,
    service: WithService,
    side: Annotated[int, Query(ge=16, le=1024, description="Pixels of the longer side.")] = 224,
    placeholder: Annotated[bool, Query(description="A drawn placeholder instead of 404.")] = False,  # noqa: FBT002
) -> Response:
    """The picture of a row of the decision, by its `number`; 404 where its shard is gone or broken."""
    if not 0 <= number < explorer.rows:
        msg = f"the decision has {explorer.rows} rows, from 0, not {number}"
        raise AbsentError(msg)
    content = original(explorer, number, service)
    small = None if content is None else thumbnail(content, side)
    if small is None and placeholder:
        return Response(NOTHING, media_type="image/svg+xml")
    if small is None:
        msg = "no picture: its shard is gone, or the image can't be decoded"
        raise AbsentError(msg)
    # A decision never changes, nor does what its rows show.
    return Response(small, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})


def original(explorer: Explorer, number: int, service: WithService) -> bytes | None:
    """The encoded image of a row; None where it can't be read any more."""
    (found,) = explorer.reader.read([number], PLACE, ())
    if "image_bytes" not in found:
        return None
    pool = explorer.decision.manifest["recipe"]["pool"]
    return read_original(
        found["shard"],
        service.library.storage_options,
        found["sample_offset"],
        found["image_offset"],
        found["image_bytes"],
        # Only an image in a tar has an offset of its own.
        "parquet" if found["image_offset"] is None else "webdataset",
        pool["columns"]["image"],
    )
