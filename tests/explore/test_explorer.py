"""Answers about a decision equal those that SQL and plain sorting give."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate.explore import columns as columns_module
from curate.explore.columns import Columns, Place, Values
from curate.explore.conditions import Condition
from curate.explore.cuts import alive, cut
from curate.explore.explorer import Explorer
from curate.explore.histograms import BINS, binned
from curate.query import connect, run_sql
from filters.core.errors import QueryError
from tests.compared import compared_run
from tests.explore.conftest import ROWS, explorer_of
from tests.pools import metadata_shard
from tests.running import curate

WIDE = Condition(column="width", at_least=200, at_most=600)
SCORED = Condition(column="clip_l14_cosine", at_least=0.2)
SMALL = "name: n\nfilters: [{caption_words: 2}]\noutput: {report: false, subset: false}"
KEPT = Condition(column="verdict", one_of=("keep",))


def sql(explorer: Explorer, question: str) -> pa.Table:
    return run_sql(connect(explorer.decision), question)


def count(explorer: Explorer, where: str) -> int:
    return int(connect(explorer.decision).table("samples").filter(where).count("*").fetchall()[0][0])


@pytest.mark.parametrize(
    ("conditions", "where"),
    [
        ([], "true"),
        ([WIDE], "width BETWEEN 200 AND 600"),
        ([WIDE, SCORED], "width BETWEEN 200 AND 600 AND clip_l14_cosine >= CAST(0.2 AS FLOAT)"),
        ([KEPT, SCORED], "verdict = 'keep' AND clip_l14_cosine >= CAST(0.2 AS FLOAT)"),
        ([Condition(column="clip_l14_cosine", missing=True)], "clip_l14_cosine IS NULL"),
        ([Condition(column="clip_l14_cosine", missing=False)], "clip_l14_cosine IS NOT NULL"),
        ([Condition(column="dropped_by", missing=True)], "dropped_by IS NULL"),
        ([Condition(column="dropped_by", one_of=("caption_words", "top_fraction"))],
         "dropped_by IN ('caption_words', 'top_fraction')"),
        ([Condition(column="verdict", one_of=("nowhere",))], "false"),
        ([Condition(column="verdict", one_of=())], "false"),
        ([Condition(column="votes.caption_words", one_of=("false",))], "NOT votes.caption_words"),
        ([Condition(column="votes.min_clip_cosine", missing=True)], "votes.min_clip_cosine IS NULL"),
        ([Condition(column="width", at_most=-1)], "false"),
    ],
)  # fmt: skip
def test_conditions_mean_what_sql_means(explorer: Explorer, conditions: list[Condition], where: str) -> None:
    matching, rows = explorer.page(conditions, limit=1000)
    assert matching == len(rows) == count(explorer, where)
    met = connect(explorer.decision).table("samples").project(where).fetchall()
    assert rows.tolist() == [number for number, (it,) in enumerate(met) if it]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("column", ["clip_l14_cosine", "clip_b32_cosine", "width", "value"])
@pytest.mark.parametrize("conditions", [[], [WIDE, KEPT], [Condition(column="width", at_most=12)]])
@pytest.mark.parametrize(("offset", "limit"), [(0, 7), (0, 1000), (60, 40), (ROWS - 3, 10), (5000, 10)])
def test_pages_are_exactly_sorted(
    explorer: Explorer, column: str, conditions: list[Condition], offset: int, limit: int, *, descending: bool
) -> None:
    matching, rows = explorer.page(conditions, sort=column, descending=descending, offset=offset, limit=limit)
    values = explorer.columns.numbers(column)
    mask = explorer.mask(conditions)
    inside = np.flatnonzero(np.ones(ROWS, bool) if mask is None else mask)
    signed = np.where(np.isnan(values), np.inf, -values if descending else values)
    expected = sorted(inside.tolist(), key=lambda row: (signed[row], row))
    assert matching == len(expected)
    assert rows.tolist() == expected[offset : offset + limit]


def test_histograms_count_every_row_once(explorer: Explorer) -> None:
    for name, place in explorer.columns.places.items():
        if place.kind != "number":
            continue
        found = explorer.histogram(name)
        values = explorer.columns.numbers(name)
        assert found.counts.sum() + found.missing == ROWS
        assert found.missing == int(np.isnan(values).sum())
        assert (np.diff(found.edges) >= 0).all()
        assert len(found.edges) == len(found.counts) + 1 or len(found.counts) == 0


def test_bins_lie_between_their_edges(explorer: Explorer) -> None:
    values, bins = explorer.columns.numbers("clip_b32_cosine"), explorer.binned("clip_b32_cosine")
    edges = bins.edges.astype(np.float32)
    for code in range(bins.bins):
        inside = values[bins.codes == code]
        assert ((inside >= edges[code]) & (inside <= edges[code + 1])).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(bins.codes[order].astype(int)) >= 0).all()


def test_a_histogram_leaves_its_own_conditions_out(explorer: Explorer) -> None:
    own = Condition(column="width", at_most=100)
    free, held = explorer.histogram("width", [KEPT]), explorer.histogram("width", [KEPT, own])
    assert (free.counts == held.counts).all()
    other = explorer.histogram("height", [KEPT, own])
    assert other.counts.sum() == count(explorer, "verdict = 'keep' AND width <= 100")
    assert other.whole.sum() == ROWS


def test_facets_equal_sql(explorer: Explorer) -> None:
    expected = sql(
        explorer,
        "SELECT dropped_by, count(*) FILTER (width BETWEEN 200 AND 600), count(*) FROM samples "
        "WHERE dropped_by IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 3 DESC",
    )
    found = explorer.facets("dropped_by", [WIDE])
    assert found == [tuple(row.values()) for row in expected.to_pylist()]


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0],
        [np.nan, np.nan],
        [2.5] * 9,
        [0.0, 1.0],
        [np.inf, 1.0, -np.inf, 2.0],
        [np.inf, np.nan],
        list(range(100)),
        list(range(1000)),
    ],
)
def test_bins_of_odd_columns(values: list[float]) -> None:
    column = np.array(values, np.float32)
    bins = binned(column)
    counts, missing = bins.count(None)
    assert counts.sum() + missing == len(column)
    assert missing == int(np.isnan(column).sum())
    assert bins.bins <= BINS
    if values == list(range(100)):
        assert (counts == 1).all()


def test_samples_are_read_in_the_order_asked_for(explorer: Explorer) -> None:
    uids = sql(explorer, "SELECT uid FROM samples")["uid"].to_pylist()
    rows = [899, 0, 450, 0, 301]
    found = explorer.read(rows)
    assert [sample["uid"] for sample in found] == [uids[row] for row in rows]
    assert [sample["number"] for sample in found] == rows
    assert {"caption", "verdict", "dropped_by", "value", "bound"} <= found[0].keys()
    assert explorer.read([]) == []


def test_rows_lie_in_several_row_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("transforms.store.ROW_GROUP", 7)
    rows = [{"uid": f"{number:032x}", "text": f"two words {number}"} for number in range(40)]
    metadata_shard(tmp_path / "pool" / "0.parquet", rows)
    curate(SMALL, tmp_path / "pool", tmp_path / "store")
    explorer = explorer_of(tmp_path / "store")
    captions = [sample["caption"] for sample in explorer.read(list(range(40)))]
    assert captions == [f"two words {number}" for number in range(40)]


def test_samples_are_found_by_uid_and_key(explorer: Explorer) -> None:
    sample = explorer.read([777])[0]
    assert explorer.find(sample["uid"]) == explorer.find(f" {sample['uid'].upper()} ") == [777]
    assert explorer.find(sample["key"]) == [777]
    assert explorer.find("f" * 32) == explorer.find("nothing") == explorer.find("") == []


def test_a_cut_counts_what_would_pass(explorer: Explorer) -> None:
    found = cut(explorer, Condition(column="clip_l14_cosine", at_least=0.25), step="min_clip_cosine")
    others = "votes.caption_words AND votes.top_fraction"
    assert found.reaching == count(explorer, others)
    assert found.passing == count(explorer, f"{others} AND clip_l14_cosine >= CAST(0.25 AS FLOAT)")
    assert found.now == count(explorer, f"{others} AND votes.min_clip_cosine")
    assert found.approximate == ("top_fraction",)
    assert found.concepts == ()


def test_a_cut_shows_the_samples_nearest_to_it(explorer: Explorer) -> None:
    bound = Condition(column="clip_b32_cosine", at_least=0.27)
    found = cut(explorer, bound, conditions=[WIDE], examples=5)
    values = explorer.columns.numbers("clip_b32_cosine")
    reaching = np.flatnonzero(_reaching(explorer))
    for rows, side in ((found.inside, values >= 0.27), (found.outside, ~(values >= 0.27))):
        candidates = [row for row in reaching if side[row]]
        nearest = sorted(candidates, key=lambda row: abs(float(values[row]) - 0.27))[:5]
        near = [abs(float(values[row]) - 0.27) for row in rows]
        assert near == [abs(float(values[row]) - 0.27) for row in nearest]


def _reaching(explorer: Explorer) -> Any:
    mask = explorer.mask([WIDE, KEPT])
    assert mask is not None
    return mask


def test_a_cut_says_which_clusters_lose(tmp_path: Path) -> None:
    compared_run(tmp_path)
    explorer = explorer_of(tmp_path / "store")
    found = cut(explorer, Condition(column="width", at_least=60))
    assert found.concepts
    assert sum(loss.before - loss.after for loss in found.concepts) == found.reaching - found.passing
    assert all(loss.concept.startswith("cluster ") for loss in found.concepts)


def test_samples_that_were_never_compared_count_as_kept_by_the_comparison(tmp_path: Path) -> None:
    compared_run(tmp_path)
    explorer = explorer_of(tmp_path / "store")
    kept = alive(explorer, explorer.steps)
    verdicts = explorer.columns.categories("verdict")
    assert (kept == (verdicts.codes == verdicts.labels.index("keep"))).all()
    # Two pictures are 20 pixels wide: min_side_pixels stops them before anything is compared.
    found = cut(explorer, Condition(column="width", at_least=10), step="min_side_pixels")
    assert found.passing == found.now + 2 == int(kept.sum()) + 2
    stricter = cut(explorer, Condition(column="width", at_least=30), step="min_side_pixels")
    assert stricter.passing == stricter.now == int(kept.sum())


def test_votes_alone_give_the_verdicts(explorer: Explorer) -> None:
    from curate.explain import stored_steps

    kept = alive(explorer, stored_steps(explorer.decision.manifest))
    verdicts = explorer.columns.categories("verdict")
    assert (kept == (verdicts.codes == verdicts.labels.index("keep"))).all()


def test_unknown_and_unfit_columns_are_named(explorer: Explorer) -> None:
    with pytest.raises(QueryError, match=r"no column 'widht'.*did you mean width"):
        explorer.histogram("widht")
    with pytest.raises(QueryError, match=r"'verdict' holds .*, not numbers"):
        explorer.page(sort="verdict")
    with pytest.raises(QueryError, match="'width' holds int32: give a range"):
        explorer.facets("width")
    with pytest.raises(QueryError, match="no filter 'min_clip'"):
        cut(explorer, WIDE, step="min_clip")
    with pytest.raises(QueryError, match="a page has 0 to 1000 rows"):
        explorer.page(limit=5000)


def test_texts_that_are_too_many_are_refused(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns_module, "MOST_LABELS", 100)
    with pytest.raises(QueryError, match="'caption' has more than 100 different texts"):
        explorer.facets("caption")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"column": "x"}, "exactly one of them"),
        ({"column": "x", "at_least": 1, "missing": True}, "exactly one of them"),
        ({"column": "x", "at_least": 2, "at_most": 1}, "at_least 2 is above at_most 1"),
        ({"column": "x", "at_least": float("nan")}, "finite number"),
        ({"column": ""}, "at least 1 character"),
        ({"column": "x", "like": "y"}, "Extra inputs"),
    ],
)
def test_conditions_that_say_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Condition.model_validate(given)


def test_memory_is_bounded_and_answers_stay_the_same(explorer: Explorer) -> None:
    small = Explorer(explorer.decision, most_bytes=8000)
    for _ in range(2):
        for column in ("width", "height", "clip_b32_cosine"):
            one, other = small.histogram(column, [KEPT]), explorer.histogram(column, [KEPT])
            assert (one.counts == other.counts).all()
    assert small.columns.bytes <= 8000


def test_threads_share_what_is_loaded(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Explorer(explorer.decision)
    read: list[str] = []
    original = Columns._numbers

    def numbers(self: Columns, place: Place) -> Values:
        read.append(place.column)
        return original(self, place)

    monkeypatch.setattr(Columns, "_numbers", numbers)
    threads = [threading.Thread(target=fresh.histogram, args=("width",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == ["width"]


def test_a_decision_with_one_row(tmp_path: Path) -> None:
    metadata_shard(tmp_path / "pool" / "0.parquet", [{"uid": "0" * 32}])
    curate(SMALL, tmp_path / "pool", tmp_path / "store")
    one = explorer_of(tmp_path / "store")
    assert one.rows == 1
    assert one.page(sort="width")[1].tolist() == [0]
    assert one.histogram("width").counts.sum() == 1
