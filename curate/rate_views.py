"""The views `concepts` and `sources`: what each filter took of each concept and of each source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import pyarrow as pa

from curate.quoting import quoted_name, quoted_text

# Beside the report: words of clusters, and what the report says of concepts.
CONCEPTS_FILE = "concepts.json"
# The host as in RFC 3986, section 3.2, in lower case and without "www."; empty where there is none.
# A regular expression on every URL takes several times longer than everything else of the view.
_AUTHORITY = "split_part(split_part(lower(url), '://', 2), '/', 1)"
_HOST = (
    "CASE WHEN contains(authority, ':') OR contains(authority, '@') OR contains(authority, '?') "
    "OR contains(authority, '#') "
    r"THEN regexp_extract(authority, '^([^?#]*@)?(\[[^]]*\]|[^:?#]+)', 2) ELSE authority END"
)
_SOURCES = (
    "SELECT CASE WHEN starts_with(host, 'www.') THEN substr(host, 5) ELSE host END AS host, "  # noqa: S608
    f"shard, verdict, dropped_by FROM (SELECT {_HOST} AS host, shard, verdict, dropped_by "
    f"FROM (SELECT {_AUTHORITY} AS authority, shard, verdict, dropped_by FROM samples))"
)


@dataclass(frozen=True)
class ConceptColumn:
    """Where the concept of each sample stands.

    Attributes:
        kind: "tags" of a measure, or "clusters" of a filter.
        name: of the measure or filter.
        view, column: where the concept is read.
        first: number of the first filter, from 0, that is judged by it: earlier ones did not show
            their samples to the filter that made the clusters.
    """

    kind: Literal["tags", "clusters"]
    name: str
    view: str
    column: str
    first: int = 0


def find_concepts(manifest: Mapping[str, Any], clustered: Mapping[str, str]) -> ConceptColumn | None:
    """The tags of the first measure `concepts`, else the clusters of the first filter that has some.

    clustered: filter -> its view, for those with a column cluster_id, in the recipe's order.
    """
    for item in manifest["measures"]:
        if item["kind"] == "concepts" and f"{item['name']}_top" in item["columns"]:
            return ConceptColumn("tags", item["name"], "samples", f"{item['name']}_top")
    steps = [item["name"] for item in manifest["recipe"]["filters"]]
    for step, view in clustered.items():
        return ConceptColumn("clusters", step, view, "cluster_id", steps.index(step))
    return None


def create_sources(connection: duckdb.DuckDBPyConnection, steps: Sequence[str]) -> None:
    """The view `sources`, over the view `samples`; steps: the recipe's filters."""
    rates = _rates(
        "SELECT CASE WHEN host <> '' THEN host ELSE shard END AS source, "  # noqa: S608  (our own SQL)
        "CASE WHEN host <> '' THEN 'host' ELSE 'shard' END AS kind, verdict, dropped_by "
        f"FROM ({_SOURCES})",
        "source, kind",
        steps,
    )
    connection.execute(
        "CREATE VIEW sources AS SELECT place, step, source, kind, reached, stopped, quarantined, "  # noqa: S608
        f"stopped_share, pool, failed, kept, kept_share FROM ({rates})"
    )


def create_concepts(
    connection: duckdb.DuckDBPyConnection,
    steps: Sequence[str],
    concept: ConceptColumn,
    words: Mapping[str, Sequence[str]],
) -> None:
    """The view `concepts`.

    words: of clusters, as far as they are known, by number.
    """
    named = pa.table(
        {
            "concept": pa.array(list(words), pa.string()),
            "words": pa.array([", ".join(some) for some in words.values()], pa.string()),
        }
    )
    connection.register("concept_words", named)
    column = quoted_name(concept.column)
    rates = _rates(
        f"SELECT CAST({column} AS VARCHAR) AS concept, verdict, dropped_by "  # noqa: S608  (quoted)
        f"FROM {quoted_name(concept.view)} WHERE {column} IS NOT NULL",
        "concept",
        steps,
        concept.first,
    )
    connection.execute(
        "CREATE VIEW concepts AS SELECT place, step, concept, words, reached, stopped, quarantined, "  # noqa: S608
        f"stopped_share, pool, kept, kept_share FROM ({rates}) LEFT JOIN concept_words USING (concept)"
    )


def _rates(samples: str, group: str, steps: Sequence[str], first: int = 0) -> str:
    """What each filter from the first on took of each group, and what the recipe kept of it."""
    judged = list(enumerate(steps))[first:]
    stopped = ", ".join(f"count(*) FILTER (dropped_by = {quoted_text(step)})" for _, step in judged)
    parked = ", ".join(
        f"count(*) FILTER (dropped_by = {quoted_text(step)} AND verdict = 'quarantine')" for _, step in judged
    )
    # A recipe without filters has one row for each group, which says what was kept.
    rows = [f"({number + 1}, {number - first + 1}, {quoted_text(step)})" for number, step in judged]
    listed = ", ".join(rows or ["(0, 1, NULL::VARCHAR)"])
    return (
        f"WITH counted AS (SELECT {group}, count(*) AS pool, "  # noqa: S608  (quoted)
        "count(*) FILTER (verdict = 'failed') AS failed, count(*) FILTER (verdict = 'keep') AS kept, "
        f"[{stopped}]::BIGINT[] AS stops, [{parked}]::BIGINT[] AS parks FROM ({samples}) GROUP BY {group}), "
        f"steps(place, number, step) AS (VALUES {listed}), "
        f"found AS (SELECT CAST(place AS INTEGER) AS place, step, {group}, pool, failed, kept, "
        "pool - failed - CAST(coalesce(list_sum(stops[1:number - 1]), 0) AS BIGINT) AS reached, "
        "coalesce(stops[number], 0) AS stopped, coalesce(parks[number], 0) AS quarantined "
        "FROM counted, steps) "
        "SELECT *, stopped / reached AS stopped_share, kept / pool AS kept_share FROM found WHERE reached > 0"
    )
