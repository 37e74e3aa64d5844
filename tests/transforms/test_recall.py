"""What the clusters miss is counted against every earlier row of the pool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from filters.drop_near_duplicates import DropNearDuplicates
from tests.relating import cut, relate, scope_of
from tests.transforms.relations.test_near_duplicates import pool
from transforms import recall
from transforms.recall import nearest_of_all, recall_table

RECORD = np.dtype(
    [("uid", "<u8", (2,)), ("part", "<i4"), ("row", "<i4"), ("order", "<u8"), ("vector", "<f2", (4,))]
)


def records(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    found = np.zeros(count, RECORD)
    found["uid"][:, 1] = generator.integers(0, count // 2 + 1, count)  # some are equal
    found["order"] = generator.integers(0, 3, count)
    found["row"] = np.arange(count)
    found["vector"] = generator.normal(size=(count, 4))
    return found


def test_only_rows_that_come_before_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "_ROWS_AT_ONCE", 7)
    rows = records(60)
    key = [(row["order"], row["uid"][0], row["uid"][1], row["part"], row["row"]) for row in rows]
    unit = rows["vector"].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    queries = [3, 17, 17, 59, 0]
    expected = [max([0.0, *(unit[i] @ unit[q] for i in range(60) if key[i] < key[q])]) for q in queries]
    assert np.allclose(nearest_of_all(rows[queries], rows), expected, atol=1e-6)
    foreign = rows[queries].copy()
    foreign["part"] = -1  # of another lot, and before every equal uid of this one
    assert (nearest_of_all(foreign, rows) <= nearest_of_all(rows[queries], rows) + 1e-6).all()


def test_nothing_to_compare_is_zero() -> None:
    rows = records(5)
    assert nearest_of_all(rows[:0], rows).shape == (0,)
    assert nearest_of_all(rows[:2], rows[:0]).tolist() == [0, 0]


def test_the_table_counts_what_was_found_of_what_is_there() -> None:
    truth, found = np.array([0.99, 0.96, 0.5], np.float32), np.array([0.99, 0.9, 0.5], np.float32)
    assert recall_table(truth, found, [0.95, 0.4]) == [
        {"above": 0.95, "have_one": 2, "found": 1},
        {"above": 0.4, "have_one": 3, "found": 3},
    ]


@pytest.mark.parametrize("parts", [1, 3])
def test_every_run_reports_recall(tmp_path: Path, parts: int) -> None:
    rows = pool(300, seed=4)
    rows["failure"] = [None] * 300
    told = {}
    for clusters in (1, 12):
        rule = DropNearDuplicates(cosine_above=0.9, clusters=clusters)
        pieces = cut(rows, np.array_split(np.arange(300), parts))
        scope, decided = scope_of(tmp_path / str(clusters), rule, pieces)
        relate(scope, decided)
        told[clusters] = scope.folder.read_json("relations/r/summary.json")
    whole, torn = told[1], told[12]
    assert whole["rows"] == torn["rows"] == whole["recall_sample"] == 300
    assert whole["clusters"] == 1
    assert all(line["found"] == line["have_one"] for line in whole["recall"])
    assert any(line["found"] < line["have_one"] for line in torn["recall"])
