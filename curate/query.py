"""SQL over a store: documented views of one decision, closed to everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from curate.view_columns import (
    CLUSTER_COLUMNS,
    COMPARED_SAMPLE,
    DROPS_MEANING,
    FAILURES_MEANING,
    LEDGER_MEANING,
    RUNS_MEANING,
    relation_column,
)
from filters.core.catalogue import find_filter, nearest
from filters.core.decide import decide
from filters.core.errors import QueryError, StoreError
from transforms.failures import FAILURES_SCHEMA
from transforms.measure import Column, find_measure
from transforms.samples import Samples
from transforms.storage import redact
from transforms.store import Store

VIEWS = ("samples", "drops", "failures", "runs", "clusters")
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


def connect(decision: Decision) -> duckdb.DuckDBPyConnection:
    """A connection with the views `samples`, `drops`, `failures`, `runs` and `clusters`.

    Each filter that compares samples has a view of its own too, see `relation_views`. SQL can read the store's files and nothing else: no other file, network, extension or setting.
    """
    connection = duckdb.connect()
    folder = decision.store.folder
    if not folder.local:
        connection.register_filesystem(folder.fs)
    tables = {
        "drops_table": _drops(decision),
        "failures_table": _failures(decision),
        "runs_table": _runs(decision.store),
    }
    for name, table in tables.items():
        connection.register(name, table)
        connection.execute(f"CREATE VIEW {name.removesuffix('_table')} AS SELECT * FROM {name}")  # noqa: S608  (our own three names)
    _create_samples(connection, decision)
    for step, view in relation_views(decision).items():
        _create_relation(connection, decision, step, view)
    _create_clusters(connection, decision)
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
    declared = [(relation_column(field.name, field.type), field) for field in schema]
    return [replace(column, type=field.type) for column, field in declared]


def _create_relation(
    connection: duckdb.DuckDBPyConnection, decision: Decision, step: str, view: str
) -> None:
    """What a step's comparison wrote, laid beside the samples that it is about."""
    name = quoted_name(view)
    group = decision.manifest["relations"][step]
    if not decision.files(group):
        columns = [*COMPARED_SAMPLE, *relation_columns(decision, step)]
        table = pa.schema([(column.name, column.type) for column in columns]).empty_table()
        connection.register(f"{view}_table", table)
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {quoted_name(f'{view}_table')}")  # noqa: S608
        return
    chosen = {
        decision.manifest["samples"]: 'uid, key, caption, shard, "row"',
        f"ledger/{decision.ledger}": "verdict, dropped_by",
        group: ", ".join(quoted_name(column.name) for column in relation_columns(decision, step)),
    }
    sides = []
    for number, (side, columns) in enumerate(chosen.items()):
        files = ", ".join(_quoted(path) for path in decision.files(side))
        sides.append(f"(SELECT {columns} FROM read_parquet([{files}])) AS t{number}")  # noqa: S608  (quoted)
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {' POSITIONAL JOIN '.join(sides)}")  # noqa: S608


def _create_clusters(connection: duckdb.DuckDBPyConnection, decision: Decision) -> None:
    """One row for each cluster of each step that has clusters."""
    connection.register("clusters_table", _quotas(decision))
    views = [
        (number, step, view)
        for number, (step, view) in enumerate(relation_views(decision).items())
        if any(column.name == "cluster_id" for column in relation_columns(decision, step))
    ]
    members = " UNION ALL ".join(_members(decision, *item) for item in views)
    kinds = {"kept": "k.kept", "kept_share": "k.kept / k.samples"}
    fitted = ("inter_distance", "complexity", "quota")
    chosen = ", ".join(
        f"{'q' if column.name in fitted else 'k'}.{column.name}"
        if column.name not in kinds
        else f"{kinds[column.name]} AS {column.name}"
        for column in CLUSTER_COLUMNS
    )
    if views:
        connection.execute(
            f"CREATE VIEW clusters AS SELECT {chosen} FROM ({members}) AS k "  # noqa: S608  (quoted)
            "LEFT JOIN clusters_table AS q USING (step, cluster_id) ORDER BY k.place, k.cluster_id"
        )
    else:
        nothing = pa.schema([(column.name, column.type) for column in CLUSTER_COLUMNS]).empty_table()
        connection.register("clusters_table", nothing)
        connection.execute("CREATE VIEW clusters AS SELECT * FROM clusters_table")


def _members(decision: Decision, place: int, step: str, view: str) -> str:
    """The clusters of one step, counted."""
    names = [column.name for column in relation_columns(decision, step)]
    # Summed as integers, so that the answer does not depend on the order of the rows.
    distance = "1 - CAST(centroid_cosine AS DOUBLE)" if "centroid_cosine" in names else "NULL::DOUBLE"
    units = f"CAST(round(greatest({distance}, 0) * 1073741824) AS BIGINT)"
    return (
        f"SELECT {place} AS place, {_quoted(step)} AS step, cluster_id, count(*) AS samples, "  # noqa: S608
        f"count(*) FILTER (dropped_by IS DISTINCT FROM {_quoted(step)}) AS passed, "
        "count(*) FILTER (verdict = 'keep') AS kept, "
        f"sum({units}) / 1073741824.0 / count({units}) AS mean_distance, "
        f"max(greatest({distance}, 0)) AS greatest_distance "
        f"FROM {quoted_name(view)} WHERE cluster_id IS NOT NULL GROUP BY cluster_id"
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


def quoted_name(name: str) -> str:
    """The name as SQL writes an identifier."""
    return '"' + name.replace('"', '""') + '"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def describe_samples(decision: Decision) -> list[tuple[str, str, str]]:
    """Every column of the view `samples`: name, meaning, unit."""
    found = [(column.name, column.meaning, column.unit) for column in _measured_columns(decision)]
    return found + [(name, meaning, "") for name, meaning in LEDGER_MEANING.items()]


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
    described["clusters"] = [(one.name, one.meaning, one.unit) for one in CLUSTER_COLUMNS]
    for step, view in relation_views(decision).items():
        columns = [*COMPARED_SAMPLE, *relation_columns(decision, step)]
        described[view] = [(column.name, column.meaning, column.unit) for column in columns]
    return {"samples": describe_samples(decision), **described}
