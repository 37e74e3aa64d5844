"""What comparing samples found: clusters with pictures and words, copies beside their originals.

Bounded whatever the number of clusters: the largest and the most pruned are shown with pictures,
the largest are listed with words, the rest is counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from curate.explain import stored_steps
from curate.query import Decision, connect, relation_columns, relation_views, run_sql
from curate.quoting import quoted_name as quoted
from curate.report.cards import Card, load_cards
from curate.report.cluster_words import cluster_words
from curate.report.counts import Fall, waterfall
from curate.report.examples import Place
from curate.report.pairs import Likeness, PairGroup, likeness, pair_groups
from curate.report.wording import share_words, value_words
from filters.core.decide import Step
from transforms.clustering import unit_rows

SHOWN = 60  # clusters with pictures: two thirds the largest, the others the most pruned
LISTED = 1000  # clusters with words, in the table
TILES = 12  # pictures of a cluster
NEIGHBOURS = 3
TILE_PIXELS = 112
DRAW = 120  # samples of a cluster that its words and pictures are taken from
_CAPTION = 400  # characters of a caption that are read for words
_MOST_CELLS = 1 << 29  # of centroids, for neighbours: 1 M clusters of 512 numbers
_ROWS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Tile:
    """One sample of a cluster; state: kept, stopped (here) or later (stopped by a later filter)."""

    place: Place
    distance: float | None
    state: str


@dataclass(frozen=True)
class Neighbour:
    """A cluster whose centroid is near; shown: it has a card of its own."""

    cluster: int
    words: tuple[str, ...]
    cosine: float
    shown: bool


@dataclass(frozen=True)
class Cluster:
    """One cluster: its row in the view `clusters`, and what it is about."""

    row: Mapping[str, Any]
    words: tuple[str, ...]
    tiles: tuple[Tile, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()

    @property
    def number(self) -> int:
        """Its id in the step."""
        return int(self.row["cluster_id"])


@dataclass(frozen=True)
class Clusters:
    """The clusters of one step.

    Attributes:
        shown: with pictures, the largest first; listed: the largest, with words.
        mean_distance: of all samples to their centroids.
        widest: the right end of the chart's axis, of complexity where there are quotas, else of
            the mean distance; the left end is 0.
    """

    total: int
    samples: int
    passed: int
    median_size: int
    largest: int
    mean_distance: float | None
    shown: tuple[Cluster, ...]
    listed: tuple[Cluster, ...]
    axis: str
    widest: float

    @property
    def quotas(self) -> bool:
        """Whether the step has a quota for each cluster."""
        return any(cluster.row["quota"] is not None for cluster in self.listed)


@dataclass(frozen=True)
class SummaryTable:
    """A part of what the comparison says of itself, as rows of cells."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Section:
    """One step that compares samples."""

    fall: Fall
    clusters: Clusters | None
    likeness: Likeness | None
    pairs: tuple[PairGroup, ...]
    tables: tuple[SummaryTable, ...]


@dataclass(frozen=True)
class Comparisons:
    """Everything on the page: a section for each step, and the samples that they show."""

    sections: tuple[Section, ...]
    pairs: Mapping[Place, Card]
    tiles: Mapping[Place, Card]


def compared_steps(decision: Decision) -> list[str]:
    """The steps that the page is about, in the recipe's order; none where there is no such page."""
    return list(relation_views(decision)) if decision.manifest["rows"] else []


def comparisons(
    decision: Decision, storage_options: Mapping[str, Any], *, thumbnails: int = TILES
) -> Comparisons:
    """What the page shows; thumbnails: samples of a cluster, 0 leaves samples out everywhere."""
    connection = connect(decision)
    steps = stored_steps(decision.manifest)
    wanted = compared_steps(decision)
    sections = tuple(
        _section(decision, connection, step, fall, min(thumbnails, TILES))
        for step, fall in zip(steps, waterfall(decision, steps, {}), strict=True)
        if step.name in wanted
    )
    groups = [group for section in sections for group in section.pairs]
    pairs = [place for group in groups for pair in group.pairs for place in (pair.copy, pair.original)]
    shown = [cluster for one in sections if one.clusters for cluster in one.clusters.shown]
    tiles = [tile.place for cluster in shown for tile in cluster.tiles]
    return Comparisons(
        sections,
        load_cards(decision, [place for place in pairs if place is not None], storage_options),
        load_cards(decision, tiles, storage_options, side_pixels=TILE_PIXELS),
    )


def _section(
    decision: Decision, connection: duckdb.DuckDBPyConnection, step: Step, fall: Fall, thumbnails: int
) -> Section:
    view = relation_views(decision)[step.name]
    names = [column.name for column in relation_columns(decision, step.name)]
    pairs: list[PairGroup] = []
    if thumbnails and "duplicate_of" in names:
        pairs = pair_groups(connection, view, step, names)
    return Section(
        fall,
        _clusters(decision, connection, step, thumbnails) if "cluster_id" in names else None,
        likeness(connection, view, step) if {"nearest_cosine", "duplicate_of"} <= set(names) else None,
        tuple(pairs),
        _summary_tables(decision, step),
    )


# --- clusters


def _clusters(
    decision: Decision, connection: duckdb.DuckDBPyConnection, step: Step, thumbnails: int
) -> Clusters | None:
    question = f"SELECT * FROM clusters WHERE step = '{step.name}'"  # noqa: S608  (a filter's name)
    table = run_sql(connection, question)
    if table.num_rows == 0:
        return None
    samples, passed = (table[name].to_numpy() for name in ("samples", "passed"))
    order = np.lexsort((table["cluster_id"].to_numpy(), -samples))
    listed = table.take(order[:LISTED]).to_pylist()
    chosen = table.take(_chosen(samples, passed, order)).to_pylist()
    draws = draw_members(decision, connection, step, [row["cluster_id"] for row in (*listed, *chosen)])
    words = cluster_words(
        {cluster: [one["caption"] or "" for one in draw] for cluster, draw in draws.items()}
    )
    near = _neighbours(decision, step, [row["cluster_id"] for row in chosen], table["cluster_id"].to_numpy())
    shown = frozenset(near)
    cards = [
        Cluster(
            row,
            words[number],
            _tiles(draws[number], thumbnails),
            tuple(Neighbour(at, words.get(at, ()), cosine, at in shown) for at, cosine in near[number]),
        )
        for number, row in ((int(row["cluster_id"]), row) for row in chosen)
    ]
    distance = table["mean_distance"].to_numpy()
    axis = "complexity" if table["complexity"].null_count < len(table) else "mean_distance"
    return Clusters(
        total=len(table),
        samples=int(samples.sum()),
        passed=int(passed.sum()),
        median_size=int(np.sort(samples)[len(samples) // 2]),
        largest=int(samples.max()),
        mean_distance=None if np.isnan(distance).any() else float(distance @ samples / samples.sum()),
        shown=tuple(cards),
        listed=tuple(Cluster(row, words[row["cluster_id"]]) for row in listed),
        axis=axis,
        widest=max((row[axis] or 0.0 for row in listed), default=0.0),
    )


def _chosen(
    samples: NDArray[np.int64], passed: NDArray[np.int64], order: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Places of the clusters with pictures, the largest first: all where they are few."""
    if len(order) <= SHOWN:
        return order
    largest = order[: SHOWN * 2 // 3]
    rest = order[SHOWN * 2 // 3 :]
    # Among small ones a low share says little.
    rest = rest[samples[rest] >= np.median(samples)]
    pruned = rest[np.argsort(passed[rest] / samples[rest], kind="stable")][: SHOWN - len(largest)]
    chosen = np.concatenate([largest, pruned])
    result: NDArray[np.intp] = order[np.isin(order, chosen)]
    return result


def draw_members(
    decision: Decision, connection: duckdb.DuckDBPyConnection, step: Step, clusters: Sequence[int]
) -> dict[int, list[dict[str, Any]]]:
    """A fixed draw of each cluster, the samples with the smallest uids."""
    names = [column.name for column in relation_columns(decision, step.name)]
    cosine = "centroid_cosine" if "centroid_cosine" in names else "NULL::FLOAT"
    wanted = ", ".join(str(int(cluster)) for cluster in sorted(set(clusters)))
    found = run_sql(
        connection,
        'SELECT cluster_id, min(struct_pack(uid := uid, shard := shard, at := "row", '  # noqa: S608
        f"caption := left(caption, {_CAPTION}), cosine := {cosine}, verdict := verdict, "
        f"stopped := dropped_by IS NOT DISTINCT FROM '{step.name}'), {DRAW}) AS draw "
        f"FROM {quoted(relation_views(decision)[step.name])} WHERE cluster_id IN ({wanted}) GROUP BY 1",
    )
    return {item["cluster_id"]: item["draw"] for item in found.to_pylist()}


def _tiles(draw: Sequence[Mapping[str, Any]], wanted: int) -> tuple[Tile, ...]:
    """Samples of the draw from the centroid outwards, at even steps."""
    ordered = sorted(draw, key=lambda one: (-(one["cosine"] or 0.0), one["uid"], one["shard"], one["at"]))
    if len(ordered) > wanted:
        ordered = [ordered[round(at * (len(ordered) - 1) / max(1, wanted - 1))] for at in range(wanted)]
    return tuple(
        Tile(
            Place(one["shard"], one["at"]),
            None if one["cosine"] is None else max(0.0, 1 - one["cosine"]),
            "stopped" if one["stopped"] else "kept" if one["verdict"] == "keep" else "later",
        )
        for one in ordered
    )


def _neighbours(
    decision: Decision, step: Step, clusters: Sequence[int], filled: NDArray[np.int32]
) -> Mapping[int, Sequence[tuple[int, float]]]:
    """Cluster -> the clusters with the nearest centroids and their cosine; ties to the smaller id.

    filled: the clusters that hold samples. Nothing for each cluster where the centroids are gone
    or too many to read.
    """
    name = f"artefacts/{decision.manifest['relations'][step.name].rpartition('/')[2]}-centroids.npy"
    if not decision.store.folder.exists(name):
        return dict.fromkeys(clusters, ())
    centroids = decision.store.read_array(name)
    if centroids.size > _MOST_CELLS or len(centroids) <= int(filled.max()):
        return dict.fromkeys(clusters, ())
    here, _ = unit_rows(np.asarray(centroids[np.asarray(clusters)], np.float32))
    others = np.sort(filled)
    best: list[list[tuple[float, int]]] = [[] for _ in clusters]
    for start in range(0, len(others), _ROWS_AT_ONCE):
        block = others[start : start + _ROWS_AT_ONCE]
        cosines = here @ unit_rows(np.asarray(centroids[block], np.float32))[0].T
        for number, (cluster, line) in enumerate(zip(clusters, cosines, strict=True)):
            top = np.argsort(-line, kind="stable")[: NEIGHBOURS + 1]
            found = [(-float(line[at]), int(block[at])) for at in top if block[at] != cluster]
            best[number] = sorted([*best[number], *found])[:NEIGHBOURS]
    return {
        cluster: [(other, -cosine) for cosine, other in found]
        for cluster, found in zip(clusters, best, strict=True)
    }


# --- what a comparison says of itself


def _summary_tables(decision: Decision, step: Step) -> tuple[SummaryTable, ...]:
    """The relation's summary: each list of objects in a table, single values together in the last."""
    name = f"{decision.manifest['relations'][step.name]}/summary.json"
    if not decision.store.folder.exists(name):
        return ()
    summary = decision.store.folder.read_json(name)
    single: list[tuple[Any, ...]] = []
    tables = []
    for key, value in summary.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            tables.append(_table(key, value))
        elif isinstance(value, dict):
            single += [(_words(f"{key} {inner}"), _cell(one)) for inner, one in value.items()]
        else:
            single.append((_words(key), _cell(value)))
    if single:
        tables.append(SummaryTable("", (), tuple(single)))
    return tuple(tables)


def _table(title: str, items: Sequence[Mapping[str, Any]]) -> SummaryTable:
    header = tuple(dict.fromkeys(name for item in items for name in item))
    rows = [tuple(_cell(item.get(name)) for name in header) for item in items]
    whole = next((name for name in ("have_one", "pairs") if name in header), None)
    if whole and "found" in header:
        rows = [
            (*row, share_words(item["found"], item[whole])) for row, item in zip(rows, items, strict=True)
        ]
        header = (*header, "share")
    return SummaryTable(_words(title), tuple(map(_words, header)), tuple(rows))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value_words(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
