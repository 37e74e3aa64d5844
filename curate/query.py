"""SQL over a store: documented views of one decision, closed to everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from filters.core.catalogue import nearest
from filters.core.decide import decide
from filters.core.errors import QueryError, StoreError
from transforms.failures import FAILURES_SCHEMA
from transforms.measure import Column, find_measure
from transforms.samples import Samples
from transforms.storage import redact
from transforms.store import Store

LEDGER_MEANING: dict[str, str] = {
    "verdict": "keep, drop, quarantine or failed",
    "dropped_by": "the first filter that dropped or quarantined the sample",
    "value": "the number that this filter compared with its bound",
    "value_text": "the text that this filter compared with its bound",
    "bound": "the bound of this filter, in words",
    "votes": "one bool for each filter: true keeps, false drops, null could not be evaluated",
    "weight": "how often the sample stands in the subset",
    "duplicate_of": "uid of the sample that this one is a copy of, where that is why it was dropped",
}
DROPS_MEANING: dict[str, str] = {
    "place": "the filter's place in the recipe, from 1; 0 for failed rows",
    "filter": "a filter of the recipe, or failed",
    "dropped": "samples that it dropped or quarantined, after those before it",
    "alone": "samples that it would drop if it were the only filter; null for failed",
}
RUNS_MEANING: dict[str, str] = {
    "started": "UTC time",
    "recipe": "name of the recipe",
    "ledger": "name of the decision that the run took or found",
    "measure_seconds": "time of the measure stage",
    "decide_seconds": "time of the decide stage",
    "write_seconds": "time of the write stage",
}
FAILURES_MEANING: dict[str, str] = {
    "shard": "path or URL of the shard",
    "row": "row in the shard; null where the shard itself failed",
    "key": "key of the sample",
    "member": "name of the member",
    "offset": "where in the shard, in bytes (Parquet: the row)",
    "code": "failure code, see docs/failures.md",
    "detail": "more about it",
}
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
    """A connection with the views `samples`, `drops`, `failures` and `runs` of this decision.

    SQL can read the store's files and nothing else: no other file, network, extension or setting.
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
    return {"samples": describe_samples(decision), **described}
