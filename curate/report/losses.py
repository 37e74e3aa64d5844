"""What filters take of concepts and sources: who loses most, and which rare concepts are flagged.

A filter is flagged for a rare concept where it removes more than the stated share of those samples
that reach it, and where that is no accident: the one-sided bound of Clopper and Pearson 1934 lies
above the share. Filters and concepts are many, so of those whose true share is just at the bound a
few are flagged by accident all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any

import duckdb

from curate.explain import stored_steps
from curate.query import Decision, concept_column, run_sql
from curate.rate_views import ConceptColumn
from curate.recipe import RareConcepts
from curate.report.cluster_words import cluster_words
from curate.report.clusters import LISTED, draw_members
from curate.report.wording import share_words
from filters.core.binomial import binomial_tail

WORST = 5  # of each filter, that lose more than others
CANDIDATES = 50  # of each filter, that are tested
CHANCE = 0.01  # a loss that is this likely at the filter's usual share is no loss of its own
FLAGS_SHOWN = 8  # of each filter, on the page
FLAGS_STORED = 1000
VERSION = 1
_QUANTILE = 2.3263478740408408  # of the normal distribution at 1 - CHANCE


@dataclass(frozen=True)
class Loss:
    """What one filter took of one concept or source.

    Attributes:
        name: the tag, number of the cluster, host or shard; kind: tag, cluster, host or shard.
        usual: the share that the filter stopped of all concepts or sources together.
        pool: samples of it before the first filter; kept: by the whole recipe.
        rare: whether it is a rare concept of which surely more than the stated share was removed.
        words: of a cluster, for those that are shown.
    """

    step: str
    name: str
    kind: str
    reached: int
    stopped: int
    usual: float
    pool: int
    kept: int
    rare: bool
    words: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Of those that reached the filter, in (0, 1]."""
        return self.stopped / self.reached

    @property
    def label(self) -> str:
        """Its name in words: "okapi", or "cluster 12 (ship, sea)"."""
        if self.kind != "cluster":
            return self.name
        words = f" ({', '.join(self.words)})" if self.words else ""
        return f"cluster {self.name}{words}"


@dataclass(frozen=True)
class StepLosses:
    """The losses of one filter, flagged ones first; unshown: flagged ones that are left out."""

    step: str
    usual: float
    losses: tuple[Loss, ...]
    unshown: int


@dataclass(frozen=True)
class Losses:
    """Everything that the report says of concepts and sources.

    Attributes:
        concept: where concepts come from; None where nothing tells them.
        concepts, sources: how many there are.
        of_concepts, of_sources: the greatest losses, in the recipe's order.
        flagged: every flagged loss, the surest of each filter first.
        words: of clusters, by number.
    """

    concept: ConceptColumn | None
    rare: RareConcepts
    concepts: int
    sources: int
    of_concepts: tuple[Loss, ...]
    of_sources: tuple[Loss, ...]
    flagged: tuple[Loss, ...]
    words: Mapping[str, tuple[str, ...]]

    def steps(self, losses: Sequence[Loss]) -> list[StepLosses]:
        """The losses by filter, cut to what a page can show."""
        found = []
        for step, group in groupby(losses, key=lambda loss: loss.step):
            mine = sorted(group, key=lambda loss: not loss.rare)  # stable: the surest first
            flags = sum(loss.rare for loss in mine)
            shown = mine[: min(flags, FLAGS_SHOWN)] + mine[flags:]
            found.append(StepLosses(step, mine[0].usual, tuple(shown), max(0, flags - FLAGS_SHOWN)))
        return found

    def warnings(self) -> list[str]:
        """One line for each filter that is flagged, of the surest loss and how many others there are."""
        said = []
        for step, group in groupby(self.flagged, key=lambda loss: loss.step):
            first, *others = group
            line = (
                f"{step} removes {share_words(first.stopped, first.reached)} of {_named(first)} "
                f"({first.stopped:,} of {first.reached:,}; of all samples {100 * first.usual:.1f} %)"
            )
            if others:
                noun = "concept" if len(others) == 1 else "concepts"
                bound = f"{100 * self.rare.removes_above:.12g} %"
                line += f", and more than {bound} of {len(others):,} other rare {noun}"
            said.append(line)
        return said

    def plain(self) -> dict[str, Any]:
        """As JSON values, for machines; at most `FLAGS_STORED` flagged losses, and their number."""
        return {
            "version": VERSION,
            "concepts_from": self.concept and {self.concept.kind: self.concept.name},
            "rare_concepts": self.rare.model_dump(mode="json"),
            "concepts": self.concepts,
            "sources": self.sources,
            "flagged_total": len(self.flagged),
            "flagged": [_plain(loss) for loss in self.flagged[:FLAGS_STORED]],
            "worst_concepts": [_plain(loss) for loss in self.of_concepts if not loss.rare],
            "worst_sources": [_plain(loss) for loss in self.of_sources],
            "words": {number: list(words) for number, words in self.words.items()},
        }


def find_losses(decision: Decision, connection: duckdb.DuckDBPyConnection) -> Losses:
    """The losses of a decision; a few passes over the columns that tell concept, source and verdict."""
    output = decision.manifest["recipe"]["output"]
    rare = RareConcepts.model_validate(output.get("rare_concepts", {}))
    concept = concept_column(decision)
    concepts, found = _asked(connection, "concepts", rare)
    sources, asked = _asked(connection, "sources", None)
    kind = "tag" if concept and concept.kind == "tags" else "cluster"
    judged = [_loss({**row, "kind": kind}, rare) for row in found]
    worst = {(loss.step, loss.name) for loss in _worst(judged)}
    listed = [loss for loss in judged if loss.rare or (loss.step, loss.name) in worst]
    words = _words(decision, connection, concept, [loss.name for loss in listed[:FLAGS_STORED]])
    of_concepts = tuple(replace(loss, words=words.get(loss.name, ())) for loss in listed)
    return Losses(
        concept,
        rare,
        concepts=concepts,
        sources=sources,
        of_concepts=of_concepts,
        of_sources=tuple(_worst([_loss(row, None) for row in asked])),
        flagged=tuple(loss for loss in of_concepts if loss.rare),
        words=words,
    )


def _asked(
    connection: duckdb.DuckDBPyConnection, view: str, rare: RareConcepts | None
) -> tuple[int, list[dict[str, Any]]]:
    """How many concepts or sources there are; of each filter the worst losses, and all to be flagged.

    Ordered by Wilson's bound, which SQL can compute (Wilson 1927, "Probable inference, the law of
    succession, and statistical inference"): of equal shares that of more samples comes first.
    """
    names = "concept AS name, NULL AS kind" if view == "concepts" else "source AS name, kind"
    square = repr(_QUANTILE**2)
    wilson = (
        f"(stopped + {square} / 2 - {_QUANTILE!r} * sqrt(stopped * ((reached - stopped) / reached) "
        f"+ {square} / 4)) / (reached + {square})"
    )
    flagged = "false"
    if rare is not None:
        whole = "(SELECT sum(pool) FROM rates WHERE place = (SELECT min(place) FROM rates))"
        flagged = f"pool < {rare.share_below!r} * {whole} AND stopped > {rare.removes_above!r} * reached"
    found = run_sql(
        connection,
        f"WITH rates AS MATERIALIZED (SELECT place, step, {names}, reached, stopped, pool, kept "  # noqa: S608
        f"FROM {view}), filters AS (SELECT place, "
        "CAST(sum(stopped) AS DOUBLE) / CAST(sum(reached) AS DOUBLE) AS usual FROM rates GROUP BY place), "
        f"judged AS (SELECT *, {wilson} AS surely, stopped > usual * reached AS more, {flagged} AS candidate "
        "FROM rates JOIN filters USING (place)), "
        "ranked AS (SELECT *, row_number() OVER "
        "(PARTITION BY place, more ORDER BY surely DESC, reached DESC, name) AS rank "
        "FROM judged WHERE more OR candidate) "
        "SELECT * FROM (SELECT count(DISTINCT name) AS groups FROM rates) LEFT JOIN "
        f"(FROM ranked WHERE more AND rank <= {CANDIDATES} OR candidate) ON true "
        "ORDER BY place, surely DESC, reached DESC, name",
    ).to_pylist()
    return int(found[0]["groups"]), [row for row in found if row["name"] is not None]


def _worst(losses: Sequence[Loss]) -> list[Loss]:
    """The first of each filter that are beyond chance."""
    found: list[Loss] = []
    for _, group in groupby(losses, key=lambda loss: loss.step):
        beyond = (loss for loss in group if binomial_tail(loss.reached, loss.stopped, loss.usual) < CHANCE)
        found += islice(beyond, WORST)
    return found


def _loss(row: Mapping[str, Any], rare: RareConcepts | None) -> Loss:
    reached, stopped = int(row["reached"]), int(row["stopped"])
    flagged = False
    if rare is not None and row["candidate"]:
        flagged = binomial_tail(reached, stopped, rare.removes_above) < 1 - rare.confidence
    return Loss(
        step=row["step"],
        name=row["name"],
        kind=row["kind"],
        reached=reached,
        stopped=stopped,
        usual=float(row["usual"]),
        pool=int(row["pool"]),
        kept=int(row["kept"]),
        rare=flagged,
    )


def _words(
    decision: Decision,
    connection: duckdb.DuckDBPyConnection,
    concept: ConceptColumn | None,
    shown: Sequence[str],
) -> dict[str, tuple[str, ...]]:
    """Words of the largest clusters, as on the page of clusters, and of those that are shown."""
    if concept is None or concept.kind != "clusters":
        return {}
    largest = run_sql(
        connection,
        "SELECT CAST(concept AS INTEGER) AS cluster FROM concepts "  # noqa: S608  (a number of ours)
        f"WHERE place = {concept.first + 1} ORDER BY pool DESC, cluster LIMIT {LISTED}",
    )["cluster"].to_pylist()
    wanted = sorted({*largest, *map(int, shown)})
    if not wanted:
        return {}
    step = stored_steps(decision.manifest)[concept.first]
    drawn = draw_members(decision, connection, step, wanted)
    found = cluster_words(
        {cluster: [one["caption"] or "" for one in draw] for cluster, draw in drawn.items()}
    )
    return {str(cluster): found[cluster] for cluster in sorted(found)}


def _named(loss: Loss) -> str:
    return loss.label if loss.kind == "cluster" else f"'{loss.label}'"


def _plain(loss: Loss) -> dict[str, Any]:
    name = "source" if loss.kind in ("host", "shard") else "concept"
    return {
        "filter": loss.step,
        name: loss.name,
        **({"words": list(loss.words)} if loss.kind == "cluster" else {}),
        "reached": loss.reached,
        "removed": loss.stopped,
        "share": round(loss.share, 6),
        "filter_share": round(loss.usual, 6),
        "pool": loss.pool,
        "kept": loss.kept,
    }
