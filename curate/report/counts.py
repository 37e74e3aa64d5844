"""The counts of a decision: what each filter took, what filters share, what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from curate.query import Decision, run_sql
from curate.report.cuts import bound_words
from filters.core.decide import Step
from transforms.failures import ROW_FAILURES, SHARD_FAILURES

EXAMPLES_OF_A_FAILURE = 5


@dataclass(frozen=True)
class Fall:
    """One filter in the waterfall.

    Attributes:
        entering: samples that reached it; stopped: those it dropped or quarantined.
        quarantined: as far as counted, else None.
        alone: samples that it would stop if it were the only filter.
    """

    filter: str
    bound: str
    entering: int
    stopped: int
    quarantined: int | None
    alone: int

    @property
    def remaining(self) -> int:
        """Samples that went on to the next filter."""
        return self.entering - self.stopped


@dataclass(frozen=True)
class Failure:
    """One failure code: its meaning, how often, and some of the places."""

    code: str
    meaning: str
    rows: int
    places: tuple[dict[str, Any], ...]


def waterfall(
    decision: Decision,
    steps: Sequence[Step],
    types: dict[str, pa.DataType],
    quarantined: dict[str, int] | None = None,
) -> list[Fall]:
    """Every filter in order; the last one's `remaining` is the number of kept samples."""
    manifest = decision.manifest
    entering = manifest["rows"] - manifest["verdicts"].get("failed", 0)
    found = []
    for at, step in enumerate(steps):
        stopped = manifest["dropped_by"].get(step.name, 0)
        parked = None if quarantined is None else quarantined.get(step.name, 0)
        words = bound_words(decision, step, types)
        if step.rule.only_tag:
            words = f"all, only tagged: {words}"
        found.append(Fall(step.name, words, entering, stopped, parked, manifest["overlap"][at][at]))
        entering -= stopped
    return found


def quarantines(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Filter -> samples whose value was missing and that it therefore set aside."""
    found = run_sql(
        connection,
        "SELECT dropped_by, count(*) AS rows FROM samples WHERE verdict = 'quarantine' GROUP BY 1",
    )
    return {item["dropped_by"]: item["rows"] for item in found.to_pylist()}


def failures(connection: duckdb.DuckDBPyConnection) -> list[Failure]:
    """Every code that occurred, most frequent first, with its first places in the pool."""
    # Nulls would make the order of a struct ambiguous: a shard that failed as a whole comes first.
    place = (
        'struct_pack(shard := shard, at := coalesce("row", -1), "offset" := "offset", '
        "key := key, detail := detail)"
    )
    found = run_sql(
        connection,
        f"SELECT code, count(*) AS rows, min({place}, {EXAMPLES_OF_A_FAILURE}) AS places "  # noqa: S608
        "FROM failures GROUP BY code ORDER BY rows DESC, code",
    )
    meanings = {**ROW_FAILURES, **SHARD_FAILURES}
    return [
        Failure(item["code"], meanings.get(item["code"], ""), item["rows"], tuple(item["places"]))
        for item in found.to_pylist()
    ]


def signal_schema(connection: duckdb.DuckDBPyConnection) -> pa.Schema:
    """Names and types of the columns of the view `samples`."""
    return run_sql(connection, "SELECT * FROM samples LIMIT 0").schema
