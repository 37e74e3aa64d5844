"""Samples: pages by conditions and order, search by text, image or likeness, and one in full."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, Query
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from curate.explore.conditions import Condition
from curate.explore.explained import explain_row
from curate.explore.explorer import Explorer, Rows
from curate.serve.errors import AbsentError
from curate.serve.routes.signals import Conditions, plain
from curate.serve.searching import nearest_to_image, nearest_to_row, nearest_to_text
from curate.serve.settings import WithExplorer, WithService
from filters.core.errors import QueryError

router = APIRouter(tags=["samples"])

MOST_FOUND = 200
MOST_COPIES = 50
MOST_QUERY = 4000  # characters: written with % they fit into the 64 KiB that a request line may have
LISTED: TypeAdapter[list[Condition]] = TypeAdapter(Conditions)
MOST_BYTES = 64  # of a value that are shown: a hash is, a thumbnail's pixels are not


class SamplesQuestion(BaseModel):
    """Which samples, in which order; `columns` are signals to show beside them."""

    conditions: Conditions
    sort: str | None = None
    descending: bool = Field(default=False, strict=True)
    offset: int = Field(default=0, ge=0, le=2_000_000_000, strict=True)
    limit: int = Field(default=60, ge=0, le=MOST_FOUND, strict=True)
    columns: list[str] = Field(default_factory=list, max_length=20)


class SamplesAnswer(BaseModel):
    """A page of samples, and how many there are in all."""

    matching: int
    samples: list[dict[str, Any]]


class SearchQuestion(BaseModel):
    """Nearest neighbours of a text or of a sample, among those that meet the conditions."""

    text: str | None = Field(default=None, min_length=1, max_length=2000)
    like: str | None = Field(default=None, min_length=1, max_length=200)
    conditions: Conditions
    k: int = Field(default=60, ge=1, le=MOST_FOUND, strict=True)


class SampleAnswer(BaseModel):
    """One sample: what is stored of it, and why it was kept or dropped."""

    sample: dict[str, Any]
    votes: list[dict[str, Any]]
    originals: list[dict[str, Any]]
    clusters: list[dict[str, Any]]
    copies: list[dict[str, Any]]
    others: list[int]


@router.post("/decisions/{ledger}/samples")
def samples(asked: SamplesQuestion, explorer: WithExplorer, service: WithService) -> SamplesAnswer:
    """A page of the samples that meet all conditions; those without a value to sort by come last."""
    with service.heavy():
        matching, rows = explorer.page(
            asked.conditions,
            sort=asked.sort,
            descending=asked.descending,
            offset=asked.offset,
            limit=asked.limit,
        )
        found = explorer.read(rows)
        names = {*asked.columns, *([] if asked.sort is None else [asked.sort])}
        _add(explorer, found, sorted(names))
    return SamplesAnswer(matching=matching, samples=[plain(sample) for sample in found])


def _add(explorer: Explorer, found: list[dict[str, Any]], columns: list[str]) -> None:
    """Puts the values of further columns beside the samples."""
    for name in columns:
        place = explorer.columns.place(name)
        if place.kind == "number":
            values = explorer.columns.numbers(name)
            for sample in found:
                value = float(values[sample["number"]])
                sample[name] = value if np.isfinite(value) else None
        else:
            labels = explorer.columns.categories(name)
            for sample in found:
                code = int(labels.codes[sample["number"]])
                sample[name] = None if code < 0 else labels.labels[code]


@router.post("/decisions/{ledger}/search")
def search(asked: SearchQuestion, explorer: WithExplorer, service: WithService) -> SamplesAnswer:
    """The nearest neighbours of a text or sample by the CLIP that measured the pool."""
    if (asked.text is None) == (asked.like is None):
        msg = "give a text, or the uid of a sample to search like it: one of them"
        raise QueryError(msg)
    with service.heavy():
        engine = service.searchers.of(explorer.decision.ledger)
        mask = explorer.mask(asked.conditions)
        if asked.text is not None:
            found = nearest_to_text(engine, asked.text, asked.k, mask)
        else:
            found = nearest_to_row(engine, _rows(explorer, str(asked.like))[0], asked.k, mask)
        return _found(explorer, *found)


@router.post(
    "/decisions/{ledger}/search/image",
    openapi_extra={"requestBody": {"content": {"application/octet-stream": {}}, "required": True}},
)
def search_image(
    explorer: WithExplorer,
    service: WithService,
    content: Annotated[bytes, Body(media_type="application/octet-stream")],
    k: Annotated[int, Query(ge=1, le=MOST_FOUND)] = 60,
    conditions: Annotated[
        str, Query(max_length=MOST_QUERY, description="Conditions, as a JSON list.")
    ] = "[]",
) -> SamplesAnswer:
    """The nearest neighbours of a picture: the body is the encoded image, at most 20 MiB."""
    try:
        wanted = LISTED.validate_json(conditions)
    except ValidationError as cause:
        msg = f"conditions: {cause.errors()[0]['msg']}"
        raise QueryError(msg) from cause
    with service.heavy():
        engine = service.searchers.of(explorer.decision.ledger)
        return _found(explorer, *nearest_to_image(engine, content, k, explorer.mask(wanted)))


def _found(explorer: Explorer, rows: Rows, cosines: NDArray[np.float64]) -> SamplesAnswer:
    samples = explorer.read(rows)
    for sample, cosine in zip(samples, cosines, strict=True):
        sample["cosine"] = float(cosine)
    return SamplesAnswer(matching=len(samples), samples=[plain(sample) for sample in samples])


def _rows(explorer: Explorer, name: str) -> list[int]:
    rows = explorer.find(name)
    if not rows:
        msg = f"no sample with uid or key {name!r} in {explorer.decision.ledger}"
        raise AbsentError(msg)
    return rows


@router.get("/decisions/{ledger}/samples/{name}")
def sample(
    name: str,
    explorer: WithExplorer,
    service: WithService,
    number: Annotated[int | None, Query(description="Which row, where several have the name.")] = None,
) -> SampleAnswer:
    """Everything about the sample with this uid or key, and every filter's vote."""
    with service.heavy():
        rows = _rows(explorer, name)
        row = number if number in rows else rows[0]
        others = [one for one in rows if one != row][:MOST_FOUND]
        found = explain_row(explorer, row)
        copies = explorer.read(explorer.reader.copies_of(str(found.sample["uid"]), MOST_COPIES))
    votes = [asdict(vote) for vote in found.votes]
    return SampleAnswer(
        sample={"number": row, **plain({key: _shown(value) for key, value in found.sample.items()})},
        votes=votes,
        originals=[{**asdict(one), "sample": plain(dict(one.sample))} for one in found.originals],
        clusters=[{"filter": one.filter, **plain(dict(one.cluster))} for one in found.clusters],
        copies=[plain(one) for one in copies],
        others=others,
    )


def _shown(value: Any) -> Any:
    """Bytes and times as text."""
    if isinstance(value, bytes):
        return value.hex() if len(value) <= MOST_BYTES else f"{len(value):,} bytes"
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)
