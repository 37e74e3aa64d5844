"""The diversity of kept samples beside a random draw, without an engine."""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from filters.core.errors import StoreError
from transforms.deciding import DecideConfig, DecidePart
from transforms.diversity_of_parts import CONTROLS, Diversity, DiversityOptions, diversity_scope
from transforms.noise.diversity import gram, rank_me, vendi
from transforms.store import Store

WIDTH = 16
Rows = list[tuple[str, str, NDArray[np.float16]]]  # uid, verdict, embedding


def pool_of(count: int, keeps: Any = lambda number: number % 2 == 0, seed: int = 0) -> Rows:
    """Rows with a few strong directions and many weak ones."""
    values = np.random.default_rng(seed).standard_normal((count, WIDTH)) / np.arange(1, WIDTH + 1)
    return [
        (f"{number + 1:032x}", "keep" if keeps(number) else "drop", row)
        for number, row in enumerate(values.astype(np.float16))
    ]


def measured(
    folder: Path, parts: Sequence[Rows], *, at_most: int = 1000, seed: int = 0, workers: int = 1
) -> dict[str, Any]:
    """What is found of the embeddings; tasks in any order, each as a worker gets it: pickled."""
    store = Store.at(str(folder))
    decided = []
    for number, rows in enumerate(parts):
        part = f"p{number}"
        uids, verdicts, vectors = zip(*rows, strict=True) if rows else ((), (), ())
        table = {
            "uid": pa.array(uids, pa.string()),
            "verdict": pa.array(verdicts, pa.string()).dictionary_encode(),
        }
        store.write_part("ledger/l", part, pa.table(table), marker={})
        with store.folder.commit(f"embeddings/i/{part}.npy") as path, path.open("wb") as stream:
            np.save(stream, np.array(vectors, np.float16) if rows else np.zeros((0, 0), np.float16))
        decided.append(DecidePart(part, number, len(rows)))
    every = [verdict for rows in parts for _, verdict, _ in rows]
    options = DiversityOptions(at_most, len(every) - every.count("failed"), every.count("keep"))
    config = DecideConfig(store, {}, (), "ledger/l", {}, {"clip_image": "embeddings/i"})
    relation = Diversity(diversity_scope(config, options, decided, workers))
    tasks = relation.waiting("draw", decided)
    for task in random.Random(seed).sample(tasks, len(tasks)):  # noqa: S311  (no secrets here)
        worker, sent = pickle.loads(pickle.dumps((relation, task)))  # noqa: S301  (our own bytes)
        worker.perform("draw", sent)
    relation.finish(decided)
    assert relation.complete()
    group = Diversity.group("l", at_most)
    assert store.folder.names(group) == ["summary.json"], "working files are gone"
    found: dict[str, Any] = store.folder.read_json(f"{group}/summary.json")
    assert found["at_most"] == at_most
    one: dict[str, Any] = found["embeddings"]["clip_image"]
    return one


def vectors_of(rows: Rows, *verdicts: str) -> NDArray[np.float16]:
    return np.array([vector for _, verdict, vector in rows if verdict in verdicts])


def test_pool_and_kept_are_measured_whole_where_they_are_few(tmp_path: Path) -> None:
    rows = pool_of(300)
    found = measured(tmp_path, [rows[:100], rows[100:]])
    assert found["width"] == WIDTH
    for name, verdicts in (("pool", ("keep", "drop")), ("kept", ("keep",))):
        mine = gram(vectors_of(rows, *verdicts))
        assert found[name]["rows"] == mine.rows
        assert found[name]["rank_me"] == pytest.approx(rank_me(mine), abs=6e-5)
        assert found[name]["vendi"] == pytest.approx(vendi(mine), abs=6e-5)


def test_the_control_has_as_many_rows_as_are_kept_and_tells_its_range(tmp_path: Path) -> None:
    found = measured(tmp_path, [pool_of(300, lambda number: number % 3 == 0)])
    assert found["control"]["rows"] == found["kept"]["rows"] == 100
    assert CONTROLS > 1
    for name in ("rank_me", "vendi"):
        least, most = found["control"][f"{name}_range"]
        assert least < found["control"][name] < most
        assert f"{name}_range" not in found["kept"]


def test_where_all_is_kept_the_control_is_the_same_rows(tmp_path: Path) -> None:
    found = measured(tmp_path, [pool_of(50, lambda _: True)])
    assert found["control"] == found["kept"] == found["pool"]


def test_a_filter_that_keeps_one_direction_is_seen(tmp_path: Path) -> None:
    rows = pool_of(400, lambda _: False)
    narrow = sorted(rows, key=lambda row: -abs(float(row[2][0])))[:60]
    names = {uid for uid, _, _ in narrow}
    found = measured(tmp_path, [[(uid, "keep" if uid in names else "drop", one) for uid, _, one in rows]])
    for name in ("rank_me", "vendi"):
        assert found["kept"][name] < found["control"][f"{name}_range"][0]


@pytest.mark.parametrize("at_most", [40, 1000])
def test_neither_shards_nor_the_order_of_tasks_matter(tmp_path: Path, at_most: int) -> None:
    rows = pool_of(200)
    whole = measured(tmp_path / "whole", [rows], at_most=at_most)
    cut = measured(tmp_path / "cut", [rows[:7], [], rows[7:130], rows[130:]], at_most=at_most, seed=1)
    shuffled = random.Random(2).sample(rows, len(rows))  # noqa: S311  (no secrets here)
    turned = measured(tmp_path / "turned", [shuffled[:90], shuffled[90:]], at_most=at_most, workers=100)
    assert whole == cut == turned


def test_no_more_than_asked_for_are_drawn_and_all_are_equally_many(tmp_path: Path) -> None:
    found = measured(tmp_path, [pool_of(3000), pool_of(3000, seed=1)], at_most=500)
    assert [found[name]["rows"] for name in ("pool", "control", "kept")] == [500, 500, 500]
    assert "rank_me_range" not in found["control"], "the pool's draw has no other 500 rows"


def test_copies_of_everything_change_nothing(tmp_path: Path) -> None:
    rows = pool_of(60, lambda _: True)
    once, twice = measured(tmp_path / "1", [rows]), measured(tmp_path / "2", [rows, rows])
    assert twice["kept"]["rows"] == 120
    assert twice["kept"]["rank_me"] == pytest.approx(once["kept"]["rank_me"], abs=2e-4)
    assert twice["kept"]["vendi"] == pytest.approx(once["kept"]["vendi"], abs=2e-4)


def test_failed_rows_and_rows_without_an_embedding_are_left_out(tmp_path: Path) -> None:
    rows = pool_of(40)
    nothing = np.full(WIDTH, np.nan, np.float16)
    broken: Rows = [
        (f"{1000 + number:032x}", verdict, vector)
        for number, (verdict, vector) in enumerate(
            [("failed", nothing), ("keep", nothing), ("drop", nothing), ("keep", np.zeros(WIDTH, np.float16))]
        )
    ]
    clean = measured(tmp_path / "clean", [rows])
    found = measured(tmp_path / "broken", [broken[:1], rows[:20] + broken[1:], rows[20:]])
    assert found == clean


def test_nothing_kept_has_no_value(tmp_path: Path) -> None:
    found = measured(tmp_path, [pool_of(10, lambda _: False)])
    nothing = {"rows": 0, "rank_me": None, "vendi": None}
    assert found["kept"] == found["control"] == nothing
    assert found["pool"]["rows"] == 10


def test_one_row_is_one_direction(tmp_path: Path) -> None:
    found = measured(tmp_path, [pool_of(1)])
    assert found["kept"]["rows"] == 1
    assert found["kept"]["rank_me"] == pytest.approx(1, abs=1e-4)
    assert found["kept"]["vendi"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("parts", [[[]], [[], []]])
def test_no_rows(tmp_path: Path, parts: list[Rows]) -> None:
    found = measured(tmp_path, parts)
    assert found["width"] == 0
    assert found["pool"] == {"rows": 0, "rank_me": None, "vendi": None}


def test_embeddings_of_two_widths_are_refused(tmp_path: Path) -> None:
    rows = pool_of(4)
    other: Rows = [(f"{77 + number:032x}", "keep", np.ones(3, np.float16)) for number in range(2)]
    with pytest.raises(StoreError, match="clip_image have different widths"):
        measured(tmp_path, [rows, other])
