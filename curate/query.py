"""SQL over a store: documented views of one decision, closed to everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from curate.copy_views import duplicates_sql
from curate.quoting import quoted_name
from curate.quoting import quoted_text as _quoted
from curate.rate_views import CONCEPTS_FILE, ConceptColumn, create_concepts, create_sources, find_concepts
from curate.view_columns import (
    CLUSTER_COLUMNS,
    COMPARED_SAMPLE,
    CONCEPT_COLUMNS,
    DROPS_MEANING,
    DUPLICATE_COLUMNS,
    FAILURES_MEANING,
    LEDGER_MEANING,
    RUNS_MEANING,
    SOURCE_COLUMNS,
    relation_column,
)
from filters.core.catalogue import find_filter, nearest
from filters.core.decide import decide
from filters.core.errors import QueryError, StoreError
from filters.core.quotas import DISTANCE_UNIT
from filters.core.tags import TAGS
from transforms.failures import FAILURES_SCHEMA
from transforms.measure import Column, find_measure
from transforms.read_ahead import ReadAhead
from transforms.samples import Samples
from transforms.storage import redact
from transforms.store import Store

VIEWS = ("samples", "drops", "failures", "runs", "clusters", "duplicates", "concepts", "sources")
RUNS_SCHEMA = pa.schema(
    [
        ("started", pa.string()),
        ("recipe", pa.string()),
        ("ledger", pa.string()),
        ("measure_seconds", pa.float64()),
        ("decide_seconds", pa.float64()),
        ("write_seconds", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Decision:
    """One decision of a store: a ledger and its manifest."""

    store: Store
    manifest: Mapping[str, Any]

    @property
    def ledger(self) -> str:
        """Its name, `<recipe>-<fp>`."""
        return str(self.manifest["ledger"])

    def groups(self) -> list[str]:
        """Samples, then every measure: the row-aligned groups of its signals."""
        return [self.manifest["samples"], *(item["group"] for item in self.manifest["measures"])]

    def files(self, group: str) -> list[str]:
        """The files of a group in pool order, as DuckDB opens them; parts without rows left out."""
        folder = self.store.folder
        names = [part["part"] for part in self.manifest["parts"] if part["rows"]]
        paths = [folder.path(f"{group}/{name}.parquet") for name in names]
        return paths if folder.local else [str(folder.fs.unstrip_protocol(path)) for path in paths]


def open_decision(store: Store, ledger: str | None = None) -> Decision:
    """The decision of this name, or the only one of this recipe, or the latest.

    Raises: StoreError where the store holds none that is finished; QueryError for an unknown name.
    """
    store.check()
    where = redact(store.folder.url)
    if ledger is None:
        if not store.folder.exists("latest.json"):
            msg = f"{where} holds no finished run yet: run a recipe with --store {where}"
            raise StoreError(msg)
        ledger = str(store.folder.read_json("latest.json")["ledger"])
    known = store.folder.names("ledger")
    chosen = [name for name in known if ledger in (name, name.rpartition("-")[0])]
    if ledger in chosen:
        chosen = [ledger]
    if len(chosen) != 1:
        msg = f"{where} has no single decision {ledger!r}; {nearest(ledger, chosen or known)}"
        raise QueryError(msg)
    name = f"ledger/{chosen[0]}/manifest.json"
    if not store.folder.exists(name):
        msg = f"the decision {chosen[0]} in {where} is not finished: run its recipe again"
        raise StoreError(msg)
    return Decision(store, store.folder.read_json(name))


def connect(decision: Decision, settings: Mapping[str, str] = {}) -> duckdb.DuckDBPyConnection:
    """A connection with the views of `VIEWS`, and those that `relation_views` names.

    SQL can read the store's files and nothing else: no other file, network, extension or setting.
    settings: of DuckDB, such as memory_limit.
    """
    connection = duckdb.connect(config=dict(settings))
    folder = decision.store.folder
    if not folder.local:
        connection.register_filesystem(ReadAhead(folder.fs))
    tables = {
        "drops_table": _drops(decision),
        "failures_table": _failures(decision),
        "runs_table": _runs(decision.store),
    }
    for name, table in tables.items():
        connection.register(name, table)
        connection.execute(f"CREATE VIEW {name.removesuffix('_table')} AS SELECT * FROM {name}")  # noqa: S608  (our own three names)
    _create_samples(connection, decision)
    relations = [_Relation(decision, *item) for item in relation_views(decision).items()]
    for relation in relations:
        _create_relation(connection, relation)
    _create_duplicates(connection, relations)
    clustered = [one for one in relations if "cluster_id" in one.names]
    _create_clusters(connection, decision, clustered)
    _create_rates(connection, decision, {one.step: one.view for one in clustered})
    root = folder.root if folder.local else str(folder.fs.unstrip_protocol(folder.root))
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET python_enable_replacements = false")  # tables are views, not our variables
    connection.execute(f"SET allowed_directories = [{_quoted(root + '/')}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def run_sql(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The answer to one SELECT.

    Raises: QueryError with DuckDB's reason, or where it is no single SELECT (EXPLAIN ANALYZE would
    run whatever stands behind it).
    """
    try:
        statements = duckdb.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            msg = "one SELECT at a time: the store is read-only"
            raise QueryError(msg)
        return connection.sql(statements[0].query).to_arrow_table()
    except duckdb.Error as cause:
        msg = f"SQL: {cause}"
        raise QueryError(msg) from cause


def _create_samples(connection: duckdb.DuckDBPyConnection, decision: Decision) -> None:
    """Every group is row-aligned with `samples`, so the files are laid side by side, not joined."""
    ledger = f"ledger/{decision.ledger}"
    if not decision.files(ledger):
        connection.register("samples_table", _no_samples(decision))
        connection.execute("CREATE VIEW samples AS SELECT * FROM samples_table")
        return
    sides = []
    for number, group in enumerate([*decision.groups(), ledger]):
        files = ", ".join(_quoted(path) for path in decision.files(group))
        chosen = "* EXCLUDE (uid)" if group == ledger else "*"
        sides.append(f"(SELECT {chosen} FROM read_parquet([{files}])) AS t{number}")  # noqa: S608  (quoted)
    joined = " POSITIONAL JOIN ".join(sides)
    connection.execute(f"CREATE VIEW samples AS SELECT * FROM {joined}")  # noqa: S608  (as above)


def relation_views(decision: Decision) -> dict[str, str]:
    """Step -> its view, for every step that compares samples, in the recipe's order.

    A view is named after its step; where that name is taken, `_step` is appended.
    """
    taken = {word for name in VIEWS for word in (name, f"{name}_table")}
    found: dict[str, str] = {}
    for item in decision.manifest["recipe"]["filters"]:
        step = view = str(item["name"])
        if step not in decision.manifest["relations"]:
            continue
        while view.lower() in taken:
            view += "_step"
        taken.add(view.lower())
        found[step] = view
    return found


def relation_columns(decision: Decision, step: str) -> list[Column]:
    """The columns that the step's comparison wrote, with their types."""
    parts = decision.manifest["parts"]
    if not parts:
        item = next(item for item in decision.manifest["recipe"]["filters"] if item["name"] == step)
        return [relation_column(name) for name in find_filter(item["filter"]).relation_reads]
    with decision.store.folder.open(
        f"{decision.manifest['relations'][step]}/{parts[0]['part']}.parquet"
    ) as stream:
        schema = pq.read_schema(stream)
    return [replace(relation_column(field.name), type=field.type) for field in schema]


@dataclass(frozen=True)
class _Relation:
    """What the comparison of one step wrote, and the view of it."""

    decision: Decision
    step: str
    view: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns of the comparison."""
        return tuple(column.name for column in relation_columns(self.decision, self.step))


def _create_relation(connection: duckdb.DuckDBPyConnection, relation: _Relation) -> None:
    """What a step's comparison wrote, laid beside the samples that it is about."""
    decision, name = relation.decision, quoted_name(relation.view)
    group = decision.manifest["relations"][relation.step]
    if not decision.files(group):
        columns = [*COMPARED_SAMPLE, *relation_columns(decision, relation.step)]
        _create_empty(connection, relation.view, columns)
        return
    chosen = {
        decision.manifest["samples"]: 'uid, key, caption, shard, "row"',
        f"ledger/{decision.ledger}": "verdict, dropped_by",
        group: ", ".join(map(quoted_name, relation.names)),
    }
    sides = []
    for number, (side, names) in enumerate(chosen.items()):
        files = ", ".join(_quoted(path) for path in decision.files(side))
        sides.append(f"(SELECT {names} FROM read_parquet([{files}])) AS t{number}")  # noqa: S608  (quoted)
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {' POSITIONAL JOIN '.join(sides)}")  # noqa: S608


def _create_empty(connection: duckdb.DuckDBPyConnection, view: str, columns: Sequence[Column]) -> None:
    """A view without rows."""
    table = pa.schema([(column.name, column.type) for column in columns]).empty_table()
    connection.register(f"{view}_table", table)
    connection.execute(f"CREATE VIEW {quoted_name(view)} AS SELECT * FROM {quoted_name(f'{view}_table')}")  # noqa: S608


def _create_duplicates(connection: duckdb.DuckDBPyConnection, relations: Sequence[_Relation]) -> None:
    """One row for each sample that was dropped as a copy."""
    copies = {one.step: (one.view, one.names) for one in relations if "duplicate_of" in one.names}
    if copies:
        connection.execute(f"CREATE VIEW duplicates AS {duplicates_sql(copies)}")
    else:
        _create_empty(connection, "duplicates", DUPLICATE_COLUMNS)


def _create_clusters(
    connection: duckdb.DuckDBPyConnection, decision: Decision, relations: Sequence[_Relation]
) -> None:
    """One row for each cluster of each step that has clusters."""
    if not relations:
        _create_empty(connection, "clusters", CLUSTER_COLUMNS)
        return
    connection.register("clusters_table", _quotas(decision))
    members = " UNION ALL ".join(_members(relation, place) for place, relation in enumerate(relations))
    connection.execute(
        "CREATE VIEW clusters AS SELECT step, cluster_id, samples, passed, kept, "  # noqa: S608  (quoted)
        "kept / samples AS kept_share, mean_distance, greatest_distance, inter_distance, complexity, quota "
        f"FROM ({members}) LEFT JOIN clusters_table USING (step, cluster_id) ORDER BY place, cluster_id"
    )


def concept_column(decision: Decision) -> ConceptColumn | None:
    """Where the concepts of the view `concepts` stand; None where nothing tells them."""
    views = relation_views(decision).items()
    relations = [_Relation(decision, step, view) for step, view in views]
    return find_concepts(
        decision.manifest, {one.step: one.view for one in relations if "cluster_id" in one.names}
    )


def _create_rates(
    connection: duckdb.DuckDBPyConnection, decision: Decision, clustered: Mapping[str, str]
) -> None:
    """What each filter took of each concept and of each source."""
    steps = [item["name"] for item in decision.manifest["recipe"]["filters"]]
    create_sources(connection, steps)
    concept = find_concepts(decision.manifest, clustered)
    if concept is None:
        _create_empty(connection, "concepts", CONCEPT_COLUMNS)
        return
    name = f"report/{decision.ledger}/{CONCEPTS_FILE}"
    folder = decision.store.folder
    words = folder.read_json(name)["words"] if folder.exists(name) else {}
    create_concepts(connection, steps, concept, words)


def _members(relation: _Relation, place: int) -> str:
    """The clusters of one step, counted; distances are summed as integers, in any order the same."""
    distance = "greatest(1 - CAST(centroid_cosine AS DOUBLE), 0)"
    if "centroid_cosine" not in relation.names:
        distance = "NULL::DOUBLE"
    units = f"CAST(round({distance} / {DISTANCE_UNIT!r}) AS BIGINT)"
    step = _quoted(relation.step)
    return (
        f"SELECT {place} AS place, {step} AS step, cluster_id, count(*) AS samples, "  # noqa: S608  (quoted)
        f"count(*) FILTER (dropped_by IS DISTINCT FROM {step}) AS passed, "
        "count(*) FILTER (verdict = 'keep') AS kept, "
        f"CAST(sum({units}) AS DOUBLE) * {DISTANCE_UNIT!r} / count({units}) AS mean_distance, "
        f"max({distance}) AS greatest_distance "
        f"FROM {quoted_name(relation.view)} WHERE cluster_id IS NOT NULL GROUP BY cluster_id"
    )


def _quotas(decision: Decision) -> pa.Table:
    """Quota, inter distance and complexity of every cluster that a step fitted them for."""
    rows = []
    for step in relation_views(decision):
        artefact = decision.manifest["artefacts"].get(step, {})
        inters = artefact.get("inter_distance", [])
        intras = artefact.get("intra_distance", [])
        for cluster, quota in enumerate(artefact.get("quotas", [])):
            inter, intra = inters[cluster], intras[cluster]
            complexity = None if inter is None or intra is None else max(intra, 0.0) * max(inter, 0.0)
            row = {"step": step, "cluster_id": cluster, "inter_distance": inter}
            rows.append({**row, "complexity": complexity, "quota": quota})
    names = ("step", "cluster_id", "inter_distance", "complexity", "quota")
    kinds = [(column.name, column.type) for column in CLUSTER_COLUMNS if column.name in names]
    return pa.Table.from_pylist(rows, pa.schema(kinds))


def _no_samples(decision: Decision) -> pa.Table:
    """The view `samples` of a decision over no rows: every column with its type."""
    nothing = pa.array([], pa.string())
    ledger = decide({"uid": nothing, "failure": nothing}, ()).schema
    types = {field.name: field.type for field in ledger}
    types.update({name: TAGS[name].type for name in _tags(decision)})
    filters = [item["name"] for item in decision.manifest["recipe"]["filters"]]
    if filters:
        types["votes"] = pa.struct([(name, pa.bool_()) for name in filters])
    types.update({column.name: column.type for column in _measured_columns(decision)})
    names = [name for name, _, _ in describe_samples(decision)]
    return pa.schema([(name, types[name]) for name in names]).empty_table()


def _drops(decision: Decision) -> pa.Table:
    dropped = decision.manifest["dropped_by"]
    overlap = decision.manifest["overlap"]
    failed = decision.manifest["verdicts"]["failed"]
    rows = [{"place": 0, "filter": "failed", "dropped": failed, "alone": None}]
    for at, item in enumerate(decision.manifest["recipe"]["filters"]):
        name = item["name"]
        row = {"place": at + 1, "filter": name, "dropped": dropped.get(name, 0), "alone": overlap[at][at]}
        rows.append(row)
    kinds = {"place": pa.int32(), "filter": pa.string(), "dropped": pa.int64(), "alone": pa.int64()}
    return pa.Table.from_pylist(rows, pa.schema(list(kinds.items())))


def _failures(decision: Decision) -> pa.Table:
    """Failed members and shards; a few per part, so they are read at once."""
    store = decision.store
    group = f"failures/{decision.manifest['samples'].removeprefix('signals/')}"
    present = set(store.folder.names(group))
    names = [part["part"] for part in decision.manifest["parts"]]
    members = [store.read_part(group, name) for name in names if f"{name}.parquet" in present]
    shards = pa.Table.from_pylist(list(decision.manifest["failed_shards"]), FAILURES_SCHEMA)
    return pa.concat_tables([shards, *(table.cast(FAILURES_SCHEMA) for table in members)])


def _runs(store: Store) -> pa.Table:
    rows = []
    for name in store.folder.names("runs"):
        if name.endswith(".json"):
            found = store.folder.read_json(f"runs/{name}")
            times = {f"{stage}_seconds": value for stage, value in found["seconds"].items()}
            rows.append({**{key: found[key] for key in ("started", "recipe", "ledger")}, **times})
    return pa.Table.from_pylist(rows, RUNS_SCHEMA)


def describe_samples(decision: Decision) -> list[tuple[str, str, str]]:
    """Every column of the view `samples`: name, meaning, unit."""
    found = [(column.name, column.meaning, column.unit) for column in _measured_columns(decision)]
    absent = TAGS.keys() - _tags(decision)
    return found + [(name, meaning, "") for name, meaning in LEDGER_MEANING.items() if name not in absent]


def _tags(decision: Decision) -> set[str]:
    """The tags that this decision's ledger holds; decisions taken before there were any name none."""
    return set(decision.manifest.get("tags", ()))


def _measured_columns(decision: Decision) -> list[Column]:
    """The columns of the samples table and of every measure, in the order of the view."""
    found = list(Samples.model_construct().columns("samples"))
    for item in decision.manifest["measures"]:
        found += find_measure(item["kind"]).model_construct().columns(item["name"])
    return found


def describe_views(decision: Decision) -> dict[str, list[tuple[str, str, str]]]:
    """Every view with its columns: name, meaning, unit."""
    others: dict[str, Mapping[str, str]] = {
        "drops": DROPS_MEANING,
        "failures": FAILURES_MEANING,
        "runs": RUNS_MEANING,
    }
    described = {view: [(n, m, "") for n, m in columns.items()] for view, columns in others.items()}
    counted = {
        "clusters": CLUSTER_COLUMNS,
        "duplicates": DUPLICATE_COLUMNS,
        "concepts": CONCEPT_COLUMNS,
        "sources": SOURCE_COLUMNS,
    }
    for view, declared in counted.items():
        described[view] = [(one.name, one.meaning, one.unit) for one in declared]
    for step, view in relation_views(decision).items():
        columns = [*COMPARED_SAMPLE, *relation_columns(decision, step)]
        described[view] = [(column.name, column.meaning, column.unit) for column in columns]
    return {"samples": describe_samples(decision), **described}
