"""The store and its decisions: overview, columns, schema, clusters, duplicates, comparison."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from curate.explore.columns import Kind
from curate.explore.explorer import Explorer
from curate.explore.order import nth_rows
from curate.query import connect, describe_views, run_sql
from curate.report.counts import failures, quarantines, signal_schema, waterfall
from curate.serve.routes.signals import plain
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
    has_images: bool
    embeddings: list[str]
    curate: str


class ColumnItem(BaseModel):
    """A column: what it means, what can be asked of it, and the filters that judge by it."""

    name: str
    meaning: str
    unit: str
    type: str
    kind: Kind
    read_by: list[str]


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
        has_images=any(place.startswith("image_offset") for place in explorer.columns.places)
        and manifest["recipe"]["pool"].get("format") != "datacomp",
        embeddings=[item["name"] for item in manifest["measures"] if item.get("embeddings")],
        curate=manifest["curate_version"],
    )


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
    return [
        ColumnItem(
            name=name,
            meaning=at.meaning,
            unit=at.unit,
            type=str(at.type),
            kind=at.kind,
            read_by=readers.get(name, []),
        )
        for name, at in explorer.columns.places.items()
    ]


@router.get("/decisions/{ledger}/schema")
def schema(explorer: WithExplorer) -> dict[str, list[ViewColumn]]:
    """The views of SQL, and what their columns mean."""
    return {
        view: [ViewColumn(name=name, meaning=meaning, unit=unit) for name, meaning, unit in described]
        for view, described in describe_views(explorer.decision).items()
    }


class ClusterItem(BaseModel):
    """A cluster of a filter, with a few of its samples."""

    step: str
    cluster_id: int
    samples: int
    kept: int
    kept_share: float
    mean_distance: float | None
    examples: list[dict[str, Any]]


class ClustersAnswer(BaseModel):
    """A page of clusters."""

    total: int
    clusters: list[ClusterItem]


class DuplicateGroup(BaseModel):
    """Samples that a filter dropped as copies of one: some of them, behind that one."""

    step: str
    original: str
    count: int
    samples: list[dict[str, Any]]


class DuplicatesAnswer(BaseModel):
    """A page of groups of copies."""

    total: int
    groups: list[DuplicateGroup]


ORDERS = {
    "samples": "samples DESC",
    "smallest": "samples",
    "kept_share": "kept_share",
    "most_kept": "kept_share DESC",
    "density": "mean_distance",
}
EXAMPLES = 8
Offset = Annotated[int, Query(ge=0, le=10_000_000)]
Limit = Annotated[int, Query(ge=0, le=100)]


@router.get("/decisions/{ledger}/clusters")
def clusters(
    explorer: WithExplorer,
    service: WithService,
    order: Annotated[str, Query(pattern=f"^({'|'.join(ORDERS)})$")] = "samples",
    offset: Offset = 0,
    limit: Limit = 24,
) -> ClustersAnswer:
    """Clusters of every filter that has some, each with up to eight samples."""
    with service.heavy():
        with connect(explorer.decision) as connection:
            total = run_sql(connection, "SELECT count(*) AS n FROM clusters")["n"][0].as_py()
            rows = run_sql(
                connection,
                "SELECT step, cluster_id, samples, kept, kept_share, mean_distance FROM clusters "  # noqa: S608
                f"ORDER BY {ORDERS[order]}, step, cluster_id LIMIT {limit} OFFSET {offset}",
            ).to_pylist()
        found = []
        for row in rows:
            labels = explorer.columns.clusters(f"{row['step']}/cluster_id")
            code = labels.labels.index(str(row["cluster_id"]))
            members = nth_rows(labels.codes == code, 0, EXAMPLES)
            examples = [plain(sample) for sample in explorer.read(members)]
            found.append(ClusterItem(**row, examples=examples))
    return ClustersAnswer(total=total, clusters=found)


@router.get("/decisions/{ledger}/duplicates")
def duplicates(
    explorer: WithExplorer, service: WithService, offset: Offset = 0, limit: Limit = 24
) -> DuplicatesAnswer:
    """Samples that were dropped as copies, by the sample they are copies of; large groups first."""
    grouped = "FROM samples WHERE duplicate_of IS NOT NULL GROUP BY dropped_by, duplicate_of"
    with service.heavy():
        with connect(explorer.decision) as connection:
            total = run_sql(connection, f"SELECT count(*) AS n FROM (SELECT 1 {grouped})")["n"][0].as_py()  # noqa: S608
            rows = run_sql(
                connection,
                "SELECT dropped_by AS step, duplicate_of AS original, count(*) AS count, "
                f"min(uid, {EXAMPLES}) AS copies {grouped} "
                f"ORDER BY count DESC, original, step LIMIT {limit} OFFSET {offset}",
            ).to_pylist()
        return DuplicatesAnswer(total=total, groups=_groups(explorer, rows))


def _groups(explorer: Explorer, rows: list[dict[str, Any]]) -> list[DuplicateGroup]:
    """The groups with their samples, all read at once."""
    named = {uid for row in rows for uid in (row["original"], *row["copies"])}
    at = explorer.reader.of_uids(sorted(named))
    numbers = sorted({number for found in at.values() for number in found})
    read = {sample["number"]: plain(sample) for sample in explorer.read(numbers)}
    found = []
    for row in rows:
        # Copies with the same caption share their uid: then every row of it belongs to the group.
        members = [
            number for uid in (row["original"], *sorted(set(row["copies"]))) for number in at.get(uid, ())
        ]
        members.sort(key=lambda number: read[number]["dropped_by"] == row["step"])
        samples = [read[number] for number in dict.fromkeys(members)][: EXAMPLES + 1]
        group = {name: row[name] for name in ("step", "original", "count")}
        found.append(DuplicateGroup(**group, samples=samples))
    return found
