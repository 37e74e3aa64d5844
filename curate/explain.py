"""Why one sample was kept or dropped: every filter's value, bound and vote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from curate.follow.calibration import read_calibration
from curate.query import Decision, connect, relation_views, run_sql
from curate.quoting import quoted_name
from filters.core.catalogue import find_filter
from filters.core.decide import Step, columns_read
from filters.core.declaration import Columns
from filters.core.errors import QueryError
from filters.core.tags import declared_tags
from transforms.deciding import flat

# The columns in which comparisons say how similar two samples are.
LIKENESS = ("nearest_cosine", "distance", "duplicate_kind")


@dataclass(frozen=True)
class Vote:
    """What one filter says of the sample.

    Attributes:
        vote: "keep", "drop", "null" (could not be evaluated) or "not compared".
        decided: True for the filter that dropped or quarantined the sample.
        only_tag: True for a filter whose vote drops nothing.
    """

    filter: str
    value: str
    bound: str
    vote: str
    decided: bool
    only_tag: bool = False


@dataclass(frozen=True)
class Original:
    """The earlier sample that a filter compared the explained one with.

    Attributes:
        sample: uid, key, caption, shard, row, verdict and dropped_by of the earlier one; only the
            uid where it is not in this pool, as a survivor of an earlier run may be.
        likeness: how similar they are, in words.
        decided: True where the explained sample was dropped as its copy.
    """

    filter: str
    sample: Mapping[str, Any]
    likeness: str
    decided: bool


@dataclass(frozen=True)
class Membership:
    """The cluster that a filter put the sample in: its row in the view `clusters`."""

    filter: str
    cluster: Mapping[str, Any]


@dataclass(frozen=True)
class Explanation:
    """A sample with its verdict and every filter's vote, in the recipe's order.

    Attributes:
        tags: tag -> what the ledger keeps of the sample; None where no filter could say.
    """

    sample: Mapping[str, Any]
    votes: tuple[Vote, ...]
    originals: tuple[Original, ...] = ()
    clusters: tuple[Membership, ...] = ()
    tags: Mapping[str, float | None] = field(default_factory=dict)


def explain(decision: Decision, name: str) -> list[Explanation]:
    """The explanations of every sample with this key or uid; most names have one.

    Raises: QueryError where no sample has it.
    """
    connection = connect(decision)
    wanted = _quoted(name)
    question = f"SELECT * FROM samples WHERE uid = lower({wanted}) OR key = {wanted}"  # noqa: S608  (quoted)
    found = run_sql(connection, question)
    if found.num_rows == 0:
        msg = f"no sample with key or uid {name!r} in {decision.ledger}"
        raise QueryError(msg)
    return [_explain(decision, connection, found.slice(at, 1)) for at in range(found.num_rows)]


def find_originals(
    connection: duckdb.DuckDBPyConnection, view: str, step: str, copies: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any] | None]:
    """The sample that each copy names in `duplicate_of`, None where there is none.

    A uid may stand in the pool twice, as copies with one caption do: then the original is another
    row than the copy's, one that the step let through before one that it dropped.
    copies: with `duplicate_of`, `shard` and `row`; from `view`, which belongs to `step`.
    """
    uids = sorted({copy["duplicate_of"] for copy in copies if copy["duplicate_of"] is not None})
    if not uids:
        return [None for _ in copies]
    listed = ", ".join(_quoted(uid) for uid in uids)
    rows = run_sql(
        connection,
        f'SELECT uid, key, caption, shard, "row", verdict, dropped_by FROM {quoted_name(view)} '  # noqa: S608
        f'WHERE uid IN ({listed}) ORDER BY dropped_by IS NOT DISTINCT FROM {_quoted(step)}, shard, "row"',
    ).to_pylist()
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["uid"], []).append(row)
    return [_other(found.get(copy["duplicate_of"], ()), copy) for copy in copies]


def likeness_words(found: Mapping[str, Any]) -> str:
    """How similar a copy and its original are, from what the comparison wrote (`LIKENESS`)."""
    said = []
    if (cosine := found.get("nearest_cosine")) is not None:
        said.append(f"cosine {cosine:.6g}")
    if (distance := found.get("distance")) is not None:
        said.append(f"distance {distance:.6g}")
    if (kind := found.get("duplicate_kind")) is not None:
        said.append(str(kind))
    return ", ".join(said) or "equal"


def _other(rows: Iterable[dict[str, Any]], copy: Mapping[str, Any]) -> dict[str, Any] | None:
    place = (copy["shard"], copy["row"])
    return next((row for row in rows if (row["shard"], row["row"]) != place), None)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def steps_of(decision: Decision, part: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps that judged a part: in a continuous run those of the part's own calibration."""
    manifest = decision.manifest
    number = part.get("calibration")
    if number and number != manifest["follow"]["calibration"]:
        found = read_calibration(decision.store, decision.ledger, number)
        manifest = {**manifest, "artefacts": found.content["artefacts"]}
    return stored_steps(manifest)


def stored_steps(manifest: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of a decision, as its manifest records them, ready to judge."""
    steps = []
    for item in manifest["recipe"]["filters"]:
        options = {key: value for key, value in item.items() if key not in ("name", "filter")}
        rule = find_filter(item["filter"]).model_validate(options)
        steps.append(Step(item["name"], rule, manifest["artefacts"].get(item["name"])))
    return tuple(steps)


def _explain(decision: Decision, connection: duckdb.DuckDBPyConnection, row: pa.Table) -> Explanation:
    sample = row.to_pylist()[0]
    if sample["failure"] is not None:
        return Explanation(sample, ())
    part = next(item for item in decision.manifest["parts"] if item["uri"] == sample["shard"])
    steps = steps_of(decision, part)
    columns: Columns = {
        name: flat(row[name]) for name in (*columns_read(steps), "failure") if name in row.column_names
    }
    columns["shard_number"] = pa.array([part["number"]], pa.int32())
    for step in steps:
        if step.rule.relation is not None:
            group = decision.manifest["relations"][step.name]
            table = decision.store.read_part(group, part["part"]).slice(sample["row"], 1)
            columns.update({step.column(name): flat(table[name]) for name in table.column_names})
    votes = tuple(vote_of(step, columns, sample) for step in steps)
    views = relation_views(decision)
    related = [step for step in steps if step.name in views]
    originals = [_original(connection, views[step.name], step, columns, sample) for step in related]
    clusters = [_membership(connection, step, columns) for step in related]
    return Explanation(
        sample,
        votes,
        tuple(one for one in originals if one is not None),
        tuple(one for one in clusters if one is not None),
        {name: sample[name] for name in declared_tags(step.rule for step in steps) if name in sample},
    )


def _original(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    step: Step,
    columns: Columns,
    sample: Mapping[str, Any],
) -> Original | None:
    original = related(step, columns, "duplicate_of")
    copy = {"duplicate_of": original, "shard": sample["shard"], "row": sample["row"]}
    (found,) = find_originals(connection, view, step.name, [copy])
    if original is None:
        return None
    found = {"uid": original} if found is None else found
    said = {name: related(step, columns, name) for name in LIKENESS}
    return Original(step.name, found, likeness_words(said), decided=sample["dropped_by"] == step.name)


def _membership(connection: duckdb.DuckDBPyConnection, step: Step, columns: Columns) -> Membership | None:
    cluster = related(step, columns, "cluster_id")
    if cluster is None:
        return None
    question = f"FROM clusters WHERE step = {_quoted(step.name)} AND cluster_id = {int(cluster)}"
    (found,) = run_sql(connection, question).to_pylist()
    return Membership(step.name, found)


def related(step: Step, columns: Columns, name: str) -> Any:
    """What the step's comparison says of the row in this column; None where it has no such column."""
    column = columns.get(step.column(name))
    return None if column is None else column[0].as_py()


def vote_of(step: Step, columns: Columns, sample: Mapping[str, Any]) -> Vote:
    """What a filter says of one sample; columns hold its row alone, sample what the ledger says of it."""
    judgement = step.judge(columns)
    vote = "null" if judgement.null[0] else "keep" if judgement.passes[0] else "drop"
    if vote == "null" and step.rule.relation is not None:
        vote = "not compared"
    value = judgement.value[0]
    value = value.as_py() if isinstance(value, pa.Scalar) else value
    shown = "" if value is None or value != value else value if isinstance(value, str) else f"{value:.6g}"  # noqa: PLR0124
    decided = sample["dropped_by"] == step.name
    return Vote(step.name, shown, judgement.bound, vote, decided, step.rule.only_tag)
