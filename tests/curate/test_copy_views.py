"""The view `duplicates`: every sample that was dropped as a copy, by whichever filter."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.query import connect, describe_views, open_decision, run_sql
from tests.compared import EMPTY, MODEL, compared_pool, compared_run
from tests.pools import photo, sample, write_tar
from tests.running import EVERYDAY, ask, curate
from transforms.store import Store

COPIES = f"""\
name: copies
pool: {{retry_seconds: []}}
measures: {{clip: {{model: "local-dir:{MODEL}"}}}}
filters:
  - drop_copies: pdq
  - drop_similar_captions: {{jaccard_above: 0.9, clusters: 1}}
output: {{report: false, shards: false}}
max_failed_fraction: 1
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose filters compare samples."""
    folder = tmp_path_factory.mktemp("copies")
    compared_run(folder)
    return folder / "store"


def test_every_sample_that_the_ledger_calls_a_copy_is_there_once(compared: Path) -> None:
    mine = ask(compared, "SELECT uid, key, shard, row, duplicate_of, step FROM duplicates")
    theirs = ask(
        compared,
        "SELECT uid, key, shard, row, duplicate_of, dropped_by AS step FROM samples "
        "WHERE duplicate_of IS NOT NULL",
    )
    assert len(mine) > 5
    assert {row["step"] for row in mine} == {"drop_exact_duplicates", "drop_near_duplicates"}
    place = ["shard", "row"]
    assert sorted(mine, key=lambda row: [row[name] for name in place]) == theirs


def test_each_step_says_how_similar_the_two_are_as_far_as_it_measured_it(compared: Path) -> None:
    rows = ask(compared, "SELECT step, nearest_cosine, distance, caption_jaccard FROM duplicates")
    for row in rows:
        assert (row["nearest_cosine"] is not None) == (row["step"] == "drop_near_duplicates")
        assert row["distance"] is None
        assert row["caption_jaccard"] is None


def test_perceptual_copies_have_a_distance_and_captions_a_similarity(tmp_path: Path) -> None:
    compared_pool(tmp_path / "pool")
    curate(COPIES, tmp_path / "pool", tmp_path / "store")
    rows = ask(tmp_path / "store", "SELECT * FROM duplicates")
    steps = {row["step"]: row for row in rows}
    assert steps["drop_copies"]["distance"] >= 0
    assert steps["drop_copies"]["duplicate_kind"]
    assert steps["drop_similar_captions"]["caption_jaccard"] >= 0.9
    assert ask(tmp_path / "store", "SELECT count(*) AS n FROM samples WHERE duplicate_of IS NOT NULL") == [
        {"n": len(rows)}
    ]


@pytest.mark.parametrize("recipe", ["nothing compares", "no rows"])
def test_without_copies_the_view_is_empty_and_has_its_columns(tmp_path: Path, recipe: str) -> None:
    members = sample("a", photo(1), "a small picture here") if recipe == "nothing compares" else []
    write_tar(tmp_path / "pool" / "0.tar", members)
    text = EVERYDAY.replace("  - drop_exact_duplicates: pixels\n", "") if members else EMPTY
    curate(text, tmp_path / "pool", tmp_path / "store")
    decision = open_decision(Store.at(str(tmp_path / "store")))
    found = run_sql(connect(decision), "FROM duplicates")
    assert found.num_rows == 0
    assert found.column_names == [name for name, _, _ in describe_views(decision)["duplicates"]]


def test_described_columns_have_the_types_of_the_view(compared: Path) -> None:
    decision = open_decision(Store.at(str(compared)))
    found = run_sql(connect(decision), "FROM duplicates LIMIT 0")
    assert found.column_names == [name for name, _, _ in describe_views(decision)["duplicates"]]
    assert all(meaning for _, meaning, _ in describe_views(decision)["duplicates"])
