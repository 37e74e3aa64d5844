"""The curation record of a selection: what it is made of, what was removed and why, what to beware of.

After the Dataset Nutrition Label (Chmielinski et al. 2022, "The Dataset Nutrition Label (2nd Gen)",
arXiv 2201.03954): facts first, then known gaps and alerts for uses. Everything here is read from
the decision; what a recipe did not look at is said, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from curate.explain import stored_steps
from curate.exporting import Selection
from curate.query import Decision, connect, run_sql
from curate.quoting import quoted_text
from curate.report.counts import Failure, Fall, failures, signal_schema, waterfall
from curate.report.diversity import EmbeddingDiversity, read_diversity
from curate.report.losses import find_losses
from curate.report.page import recipe_text
from curate.report.wording import share_words
from filters.core.decide import Step

MOST_LISTED = 10
_COPIES = frozenset({"drop_exact_duplicates", "drop_near_duplicates", "drop_copies"})
_SAFETY = ("nsfw", "safe", "toxic")  # in the name of a filter or measure
# (use, what to beware of)
_AUTHORS = (
    "Publishing",
    "Images and captions belong to their authors; neither their licence nor their consent was checked.",
)
_PERSONS = ("Any use", "Faces, names and other personal data were neither looked for nor removed.")
_CONTENT = (
    "Generation, products",
    "No filter of the recipe looks for sexual, violent or hateful content.",
)
_LEAKED = (
    "Evaluation",
    "Evaluation sets were not searched for: a model may have seen what it is tested on.",
)
_COPIED = ("Generation", "Copies were not removed: a model may memorise what stands here often.")
_LANGUAGE = ("Text towers", "Captions were not selected by language.")
_SCORED = (
    "Comparison of models, fairness",
    "Selected by a CLIP model: what it knows badly (rare things, other languages, cultures) is rarer here.",
)


@dataclass(frozen=True)
class Share:
    """A source or language with its samples: in the pool, and of them in the decision's kept ones."""

    name: str
    pool: int
    kept: int


@dataclass(frozen=True)
class NutritionLabel:
    """What a card tells of a selection.

    Attributes:
        samples: in the selection; rows: in the pool; verdicts: of the pool's rows.
        origin: the pool's patterns or folders; shards: how many were read; lost: how many could not be.
        taken: the day of the first run that took the decision, as YYYY-MM-DD.
        measures: (name, what it is) of every measure, with the model where it has one.
        gaps: what is known to be missing; alerts: what to beware of, by use.
    """

    decision: Decision
    where: str | None
    samples: int
    rows: int
    verdicts: dict[str, int]
    origin: tuple[str, ...]
    taken: str | None
    shards: int
    lost: int
    sources: tuple[Share, ...]
    languages: tuple[Share, ...]
    measures: tuple[tuple[str, str], ...]
    falls: tuple[Fall, ...]
    failures: tuple[Failure, ...]
    diversity: tuple[EmbeddingDiversity, ...]
    gaps: tuple[str, ...]
    alerts: tuple[tuple[str, str], ...]
    recipe: str


def nutrition_label(selection: Selection) -> NutritionLabel:
    """The label of a selection."""
    decision = selection.decision
    manifest = decision.manifest
    connection = connect(decision)
    steps = stored_steps(manifest)
    schema = signal_schema(connection)
    failed = tuple(failures(connection))
    diversity = tuple(read_diversity(decision))
    return NutritionLabel(
        decision=decision,
        where=selection.where,
        samples=selection.count,
        rows=manifest["rows"],
        verdicts=dict(manifest["verdicts"]),
        origin=tuple(_origin(manifest)),
        taken=_taken(decision, connection),
        shards=len(manifest["parts"]),
        lost=len(manifest["failed_shards"]),
        sources=_sources(connection),
        languages=_languages(connection) if "language" in schema.names else (),
        measures=tuple(_measures(decision)),
        falls=tuple(waterfall(decision, steps, dict(zip(schema.names, schema.types, strict=True)))),
        failures=failed,
        diversity=diversity,
        gaps=tuple(_gaps(decision, connection, failed, diversity)),
        alerts=tuple(_alerts(manifest["recipe"], steps)),
        recipe=recipe_text(manifest),
    )


def _origin(manifest: Mapping[str, Any]) -> list[str]:
    """The recipe's patterns; where the pool was given otherwise, the folders of its shards."""
    if patterns := manifest["recipe"]["pool"]["uri"]:
        return list(patterns)
    folders = sorted({part["uri"].rpartition("/")[0] for part in manifest["parts"]})
    more = len(folders) - MOST_LISTED
    return folders[:MOST_LISTED] + ([f"and {more:,} more folders"] if more > 0 else [])


def _taken(decision: Decision, connection: duckdb.DuckDBPyConnection) -> str | None:
    asked = f"SELECT min(started) AS first FROM runs WHERE ledger = {quoted_text(decision.ledger)}"  # noqa: S608
    first = run_sql(connection, asked)["first"][0].as_py()
    return None if first is None else f"{first[:4]}-{first[4:6]}-{first[6:8]}"


def _sources(connection: duckdb.DuckDBPyConnection) -> tuple[Share, ...]:
    """The sources with the most kept samples."""
    asked = (
        "SELECT source AS name, max(pool) AS pool, max(kept) AS kept FROM sources GROUP BY source "  # noqa: S608
        f"ORDER BY kept DESC, pool DESC, name LIMIT {MOST_LISTED}"
    )
    return tuple(Share(**row) for row in run_sql(connection, asked).to_pylist())


def _languages(connection: duckdb.DuckDBPyConnection) -> tuple[Share, ...]:
    asked = (
        "SELECT language AS name, count(*) AS pool, "  # noqa: S608  (our own SQL)
        "count(*) FILTER (verdict = 'keep') AS kept FROM samples WHERE language IS NOT NULL "
        f"GROUP BY 1 ORDER BY kept DESC, pool DESC, 1 LIMIT {MOST_LISTED}"
    )
    return tuple(Share(**row) for row in run_sql(connection, asked).to_pylist())


def _measures(decision: Decision) -> list[tuple[str, str]]:
    given = decision.manifest["recipe"]["measures"]
    found = []
    for item in decision.manifest["measures"]:
        options = given.get(item["name"], {})
        model = " ".join(str(options[name]) for name in ("model", "pretrained") if options.get(name))
        found.append(
            (item["name"], f"{item['kind']}, version {item['version']}{f': {model}' if model else ''}")
        )
    return found


def _gaps(
    decision: Decision,
    connection: duckdb.DuckDBPyConnection,
    failed: Sequence[Failure],
    diversity: Sequence[EmbeddingDiversity],
) -> list[str]:
    """What is known to be missing from the kept samples, or was not measured."""
    manifest = decision.manifest
    rows, verdicts = manifest["rows"], manifest["verdicts"]
    gaps = []
    if lost := len(manifest["failed_shards"]):
        gaps.append(f"{lost:,} of {lost + len(manifest['parts']):,} shards of the pool could not be read.")
    if verdicts.get("failed"):
        codes = ", ".join(f"{failure.code} {failure.rows:,}" for failure in failed)
        gaps.append(
            f"{share_words(verdicts['failed'], rows)} of the pool could not be read or decoded: {codes}."
        )
    if verdicts.get("quarantine"):
        share = share_words(verdicts["quarantine"], rows)
        gaps.append(f"{share} of the pool was set aside, since a value that a filter needs was missing.")
    gaps += [f"{warning}." for warning in find_losses(decision, connection).warnings()]
    if not diversity:
        gaps.append("How diverse the kept samples are was not measured.")
    for one in diversity:
        less = [verdict for verdict in one.verdicts if "less" in verdict]
        gaps += [f"Diversity of {one.name}, {verdict}." for verdict in less]
    return gaps


def _alerts(recipe: Mapping[str, Any], steps: Sequence[Step]) -> list[tuple[str, str]]:
    """What always holds of pairs from the web, and what this recipe did not look at."""
    kinds = {str(item["filter"]) for item in recipe["filters"]}
    named = " ".join([*kinds, *(step.name for step in steps), *recipe["measures"]]).lower()
    unsafe = any(word in named for word in _SAFETY)
    scored = any(name.endswith("_cosine") for step in steps for name in step.rule.reads())
    alerts = [_AUTHORS, _PERSONS]
    alerts += [] if unsafe else [_CONTENT]
    alerts += [] if "drop_leaked" in kinds else [_LEAKED]
    alerts += [] if kinds & _COPIES else [_COPIED]
    alerts += [] if "language" in kinds else [_LANGUAGE]
    return alerts + ([_SCORED] if scored else [])
