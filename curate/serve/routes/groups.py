"""Samples that belong together: clusters, and groups of copies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from curate.explore.explorer import Explorer
from curate.explore.order import nth_rows
from curate.query import concept_column, connect, run_sql
from curate.rate_views import CONCEPTS_FILE
from curate.serve.routes.signals import plain
from curate.serve.settings import WithExplorer, WithService
from filters.core.catalogue import nearest
from filters.core.errors import QueryError

router = APIRouter(tags=["groups"])

EXAMPLES = 8
ORDERS = {
    "samples": ("samples", "descending"),
    "smallest": ("samples", "ascending"),
    "kept_share": ("kept_share", "ascending"),
    "most_kept": ("kept_share", "descending"),
    "density": ("mean_distance", "ascending"),
}
MOST = 10_000_000  # pages begin before that


class ClustersQuestion(BaseModel):
    """Which clusters, in which order."""

    step: str | None = Field(default=None, max_length=200, description="Only the clusters of this filter.")
    order: Literal["samples", "smallest", "kept_share", "most_kept", "density"] = "samples"
    offset: int = Field(default=0, ge=0, le=MOST)
    limit: int = Field(default=24, ge=0, le=100)


class DuplicatesQuestion(BaseModel):
    """Which page of the groups of copies."""

    offset: int = Field(default=0, ge=0, le=MOST)
    limit: int = Field(default=24, ge=0, le=100)


class ClusterItem(BaseModel):
    """A cluster of a filter, with a few of its samples; its words where the report found some."""

    step: str
    cluster_id: int
    samples: int
    kept: int
    kept_share: float
    mean_distance: float | None
    words: list[str]
    examples: list[dict[str, Any]]


class ClustersAnswer(BaseModel):
    """A page of clusters, and the filters that have some."""

    total: int
    steps: list[str]
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


@router.get("/decisions/{ledger}/clusters")
def clusters(
    explorer: WithExplorer,
    service: WithService,
    asked: Annotated[ClustersQuestion, Query()],
) -> ClustersAnswer:
    """Clusters of every filter that has some, each with up to eight samples."""
    with service.heavy():
        table = explorer.columns.held(("clusters", "table"), lambda: _clusters(explorer))
        steps = pc.unique(table["step"]).to_pylist()
        if asked.step is not None and asked.step not in steps:
            hint = nearest(asked.step, steps) if steps else "no filter of this recipe has some"
            msg = f"filter {asked.step!r} has no clusters; {hint}"
            raise QueryError(msg)
        if asked.step is not None:
            table = table.filter(pc.equal(table["step"], asked.step))
        keys = [ORDERS[asked.order], ("step", "ascending"), ("cluster_id", "ascending")]
        rows = table.sort_by(keys).slice(asked.offset, asked.limit).to_pylist()
        words = _words(explorer)
        found = [
            ClusterItem(
                **row,
                words=words.get((row["step"], str(row["cluster_id"])), []),
                examples=_members(explorer, row["step"], row["cluster_id"]),
            )
            for row in rows
        ]
    return ClustersAnswer(total=table.num_rows, steps=steps, clusters=found)


def _clusters(explorer: Explorer) -> pa.Table:
    """Every cluster with its counts; a decision never changes, so they are counted once."""
    question = "SELECT step, cluster_id, samples, kept, kept_share, mean_distance FROM clusters"
    with connect(explorer.decision) as connection:
        return run_sql(connection, question)


def _members(explorer: Explorer, step: str, cluster: int) -> list[dict[str, Any]]:
    """The first samples of a cluster."""
    labels = explorer.columns.clusters(f"{step}/cluster_id")
    code = labels.labels.index(str(cluster))
    members = nth_rows(labels.codes == code, 0, EXAMPLES)
    return [plain(sample) for sample in explorer.read(members)]


def _words(explorer: Explorer) -> dict[tuple[str, str], list[str]]:
    """(filter, cluster) -> words that set its captions apart, as the report wrote them down."""
    decision = explorer.decision
    concept = concept_column(decision)
    name = f"report/{decision.ledger}/{CONCEPTS_FILE}"
    if concept is None or concept.kind != "clusters" or not decision.store.folder.exists(name):
        return {}
    words = decision.store.folder.read_json(name)["words"]
    return {(concept.name, cluster): list(some) for cluster, some in words.items()}


@router.get("/decisions/{ledger}/duplicates")
def duplicates(
    explorer: WithExplorer, service: WithService, asked: Annotated[DuplicatesQuestion, Query()]
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
                f"ORDER BY count DESC, original, step LIMIT {asked.limit} OFFSET {asked.offset}",
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
