"""The store and its decisions: overview, columns, schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from curate.explore.columns import Kind
from curate.explore.cuts import concept_column
from curate.query import connect, describe_views, run_sql
from curate.report.counts import failures, quarantines, signal_schema, waterfall
from curate.report.cuts import Sign, cuts
from curate.serve.settings import WithExplorer, WithService

router = APIRouter(tags=["decisions"])

MOST_RATES = 200
VERDICTS = ("keep", "drop", "quarantine", "failed")


class DecisionItem(BaseModel):
    """A decision in the list."""

    ledger: str
    recipe: str
    rows: int
    verdicts: dict[str, int]
    latest: bool
    images: bool
    embeddings: bool


class StoreAnswer(BaseModel):
    """What the store holds."""

    where: str
    writing: bool
    decisions: list[DecisionItem]


class FilterItem(BaseModel):
    """One filter in the waterfall: what reached it, what it stopped, and would stop alone."""

    step: str
    bound: str
    reaching: int
    stopped: int
    quarantined: int | None
    alone: int


class RateItem(BaseModel):
    """A concept or source: samples in the pool and kept; words of a cluster, where they are known."""

    name: str
    words: str
    samples: int
    kept: int


class FailureItem(BaseModel):
    """A failure code."""

    code: str
    meaning: str
    rows: int


class OverviewAnswer(BaseModel):
    """A decision at a glance."""

    ledger: str
    recipe: str
    description: str
    rows: int
    verdicts: dict[str, int]
    filters: list[FilterItem]
    failures: list[FailureItem]
    failed_shards: int
    sources: list[RateItem]
    concepts: list[RateItem]
    concept_column: str | None
    has_images: bool
    embeddings: list[str]
    curate: str


class CutItem(BaseModel):
    """Where a filter cuts a column: what a kept sample fulfils."""

    step: str
    sign: Sign
    value: float


class ColumnItem(BaseModel):
    """A column: what it means, what can be asked of it, the filters that judge by it, and their bounds."""

    name: str
    meaning: str
    unit: str
    type: str
    kind: Kind
    read_by: list[str]
    cuts: list[CutItem]


class ViewColumn(BaseModel):
    """A column of a view of SQL."""

    name: str
    meaning: str
    unit: str


@router.get("/health")
def health() -> dict[str, str]:
    """Whether the service is up."""
    return {"status": "ok"}


@router.get("/store")
def store(service: WithService) -> StoreAnswer:
    """The decisions of the store, the latest first."""
    library = service.library
    latest = library.latest()
    names = sorted(library.ledgers(), key=lambda name: (name != latest, name))
    found = []
    for name in names:
        manifest = library.store.folder.read_json(f"ledger/{name}/manifest.json")
        verdicts = {verdict: manifest["verdicts"].get(verdict, 0) for verdict in VERDICTS}
        found.append(
            DecisionItem(
                ledger=name,
                recipe=manifest["recipe"]["name"],
                rows=manifest["rows"],
                verdicts=verdicts,
                latest=name == latest,
                images=_has_images(manifest),
                embeddings=any(item.get("embeddings") for item in manifest["measures"]),
            )
        )
    return StoreAnswer(where=library.where, writing=library.writing(), decisions=found)


@router.get("/decisions/{ledger}/overview")
def overview(explorer: WithExplorer, service: WithService) -> OverviewAnswer:
    """The waterfall, failures, and the most frequent sources and concepts."""
    decision = explorer.decision
    manifest = decision.manifest
    with service.heavy(), connect(decision) as connection:
        schema = signal_schema(connection)
        types = dict(zip(schema.names, schema.types, strict=True))
        falls = waterfall(decision, explorer.steps, types, quarantines(connection))
        failed = failures(connection)
        sources, concepts = _rates(connection, "sources", "source"), _rates(connection, "concepts", "concept")
    return OverviewAnswer(
        ledger=decision.ledger,
        recipe=manifest["recipe"]["name"],
        description=manifest["recipe"].get("description") or "",
        rows=manifest["rows"],
        verdicts={verdict: manifest["verdicts"].get(verdict, 0) for verdict in VERDICTS},
        filters=[
            FilterItem(
                step=fall.filter,
                bound=fall.bound,
                reaching=fall.entering,
                stopped=fall.stopped,
                quarantined=fall.quarantined,
                alone=fall.alone,
            )
            for fall in falls
        ],
        failures=[FailureItem(code=one.code, meaning=one.meaning, rows=one.rows) for one in failed],
        failed_shards=len(manifest["failed_shards"]),
        sources=sources,
        concepts=concepts,
        concept_column=concept_column(explorer),
        has_images=_has_images(manifest),
        embeddings=[item["name"] for item in manifest["measures"] if item.get("embeddings")],
        curate=manifest["curate_version"],
    )


def _has_images(manifest: Mapping[str, Any]) -> bool:
    """Whether the pool came with its pictures: DataComp's metadata does not."""
    return all(item["kind"] != "datacomp_columns" for item in manifest["measures"])


def _rates(connection: Any, view: str, name: str) -> list[RateItem]:
    """Of each concept or source, pool and kept; the most frequent."""
    words = "coalesce(any_value(words), '')" if view == "concepts" else "''"
    question = (
        f"SELECT {name} AS name, {words} AS words, any_value(pool) AS samples, any_value(kept) AS kept "  # noqa: S608
        f"FROM {view} GROUP BY {name} ORDER BY samples DESC, name LIMIT {MOST_RATES}"
    )
    return [RateItem(**row) for row in run_sql(connection, question).to_pylist()]


@router.get("/decisions/{ledger}/columns")
def columns(explorer: WithExplorer) -> list[ColumnItem]:
    """Every column that conditions, histograms and sorting can name."""
    readers: dict[str, list[str]] = {}
    for step in explorer.steps:
        for name in step.rule.reads():
            readers.setdefault(name, []).append(step.name)
    places = explorer.columns.places
    types = {name: place.type for name, place in places.items() if place.kind == "number"}
    bounds: dict[str, list[CutItem]] = {}
    for step in explorer.steps:
        for one in cuts(step, types):
            item = CutItem(step=step.name, sign=one.bound.sign, value=one.bound.value)
            bounds.setdefault(one.column, []).append(item)
    return [
        ColumnItem(
            name=name,
            meaning=at.meaning,
            unit=at.unit,
            type=str(at.type),
            kind=at.kind,
            read_by=readers.get(name, []),
            cuts=bounds.get(name, []),
        )
        for name, at in places.items()
    ]


@router.get("/decisions/{ledger}/schema")
def schema(explorer: WithExplorer, service: WithService) -> dict[str, list[ViewColumn]]:
    """The views of SQL, and what their columns mean."""
    service.sql.prepare()  # who reads this asks next
    return {
        view: [ViewColumn(name=name, meaning=meaning, unit=unit) for name, meaning, unit in described]
        for view, described in describe_views(explorer.decision).items()
    }
