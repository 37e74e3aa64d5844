"""Why one sample was kept or dropped: every filter's value, bound and vote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate.query import Decision, connect, run_sql
from filters.core.catalogue import find_filter
from filters.core.decide import Step, columns_read
from filters.core.declaration import Columns
from filters.core.errors import QueryError
from transforms.deciding import flat


@dataclass(frozen=True)
class Vote:
    """What one filter says of the sample.

    Attributes:
        vote: "keep", "drop", "null" (could not be evaluated) or "not compared".
        decided: True for the filter that dropped or quarantined the sample.
    """

    filter: str
    value: str
    bound: str
    vote: str
    decided: bool


@dataclass(frozen=True)
class Explanation:
    """A sample with its verdict and every filter's vote, in the recipe's order."""

    sample: Mapping[str, Any]
    votes: tuple[Vote, ...]


def explain(decision: Decision, name: str) -> list[Explanation]:
    """The explanations of every sample with this key or uid; most names have one.

    Raises: QueryError where no sample has it.
    """
    connection = connect(decision)
    wanted = name.replace("'", "''")
    question = f"SELECT * FROM samples WHERE uid = lower('{wanted}') OR key = '{wanted}'"  # noqa: S608  (quoted)
    found = run_sql(connection, question)
    if found.num_rows == 0:
        msg = f"no sample with key or uid {name!r} in {decision.ledger}"
        raise QueryError(msg)
    steps = stored_steps(decision.manifest)
    return [_explain(decision, steps, found.slice(at, 1)) for at in range(found.num_rows)]


def stored_steps(manifest: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of a decision, as its manifest records them, ready to judge."""
    steps = []
    for item in manifest["recipe"]["filters"]:
        options = {key: value for key, value in item.items() if key not in ("name", "filter")}
        rule = find_filter(item["filter"]).model_validate(options)
        steps.append(Step(item["name"], rule, manifest["artefacts"].get(item["name"])))
    return tuple(steps)


def _explain(decision: Decision, steps: tuple[Step, ...], row: pa.Table) -> Explanation:
    sample = row.to_pylist()[0]
    if sample["failure"] is not None:
        return Explanation(sample, ())
    part = next(item for item in decision.manifest["parts"] if item["uri"] == sample["shard"])
    columns: Columns = {
        name: flat(row[name]) for name in (*columns_read(steps), "failure") if name in row.column_names
    }
    columns["shard_number"] = pa.array([part["number"]], pa.int32())
    for step in steps:
        if step.rule.relation is not None:
            group = decision.manifest["relations"][step.name]
            table = decision.store.read_part(group, part["part"]).slice(sample["row"], 1)
            columns.update({step.column(name): flat(table[name]) for name in table.column_names})
    return Explanation(sample, tuple(_vote(step, columns, sample) for step in steps))


def _vote(step: Step, columns: Columns, sample: Mapping[str, Any]) -> Vote:
    judgement = step.judge(columns)
    vote = "null" if judgement.null[0] else "keep" if judgement.passes[0] else "drop"
    if vote == "null" and step.rule.relation is not None:
        vote = "not compared"
    value = judgement.value[0]
    value = value.as_py() if isinstance(value, pa.Scalar) else value
    shown = "" if value is None or value != value else value if isinstance(value, str) else f"{value:.6g}"  # noqa: PLR0124
    return Vote(step.name, shown, judgement.bound, vote, decided=sample["dropped_by"] == step.name)
