"""An evaluation from pool to table: what is trained, what is trained again, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from curate import cli
from curate.evaluate import comparison, held_out
from curate.evaluate.comparison import evaluate
from curate.evaluate.held_out import HeldOut, scenes
from curate.evaluate.settings import BATCH, Against, Settings
from curate.query import Decision
from filters.core.errors import QueryError
from tests.evaluate.conftest import RECIPE, decide

TINY = Settings(seeds=2, budget=2 * BATCH)


@pytest.fixture(scope="module")
def clean() -> HeldOut:
    return HeldOut.of(scenes(30, 32), None)


@pytest.fixture(scope="module")
def found(decision: Decision, clean: HeldOut) -> dict[str, Any]:
    return evaluate(decision, clean, TINY, {})


def test_sets_of_equal_size_and_the_pool_stand_side_by_side(
    decision: Decision, found: dict[str, Any]
) -> None:
    sizes = {name: one["samples"] for name, one in found["sets"].items()}
    kept = decision.manifest["verdicts"]["keep"]
    failed = decision.manifest["verdicts"]["failed"]
    assert sizes == {"kept": kept, "random": kept, "pool": decision.manifest["rows"] - failed}
    assert found["budget"] == 2 * BATCH
    for one in found["sets"].values():
        assert one["scores"].keys() == {
            f"{way}_recall_at_{best}" for way in ("image_to_text", "text_to_image") for best in (1, 5)
        }
        assert all(len(values) == 2 for values in one["scores"].values())
    assert decision.store.folder.read_json(f"evaluate/{decision.ledger}.json") == found


def test_what_was_trained_is_not_trained_again(
    decision: Decision, clean: HeldOut, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*_: object) -> None:
        pytest.fail("a training was repeated")

    monkeypatch.setattr(comparison, "trained_scores", again)
    monkeypatch.setattr(comparison, "read_rows", again)
    assert evaluate(decision, clean, TINY, {}) == found
    less = evaluate(decision, clean, Settings(1, 2 * BATCH, (Against.RANDOM,)), {})
    assert list(less["sets"]) == ["kept", "random"]


def test_a_decision_that_keeps_everything_is_the_pool(
    decision: Decision, clean: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Path(decision.manifest["parts"][0]["uri"]).parents[1]
    everything = decide(pool, tmp_path / "store", RECIPE.replace("at_least: 8", "at_least: 1"))
    trained: list[int] = []

    def scored(pairs: Any, _clean: HeldOut, _budget: int, seed: int, _heard: object) -> dict[str, float]:
        trained.append(len(pairs))
        return {"image_to_text_recall_at_1": seed / 10}

    monkeypatch.setattr(comparison, "trained_scores", scored)
    sets = evaluate(everything, clean, Settings(2, 4 * BATCH), {})["sets"]
    assert sets["kept"] == sets["random"] == sets["pool"]
    assert trained == [everything.manifest["verdicts"]["keep"]] * 2


def test_no_model_reads_more_than_it_sees(
    decision: Decision, clean: HeldOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def scored(pairs: Any, _clean: HeldOut, _budget: int, _seed: int, _heard: object) -> dict[str, float]:
        sizes.append(len(pairs))
        return {"image_to_text_recall_at_1": 0.5}

    monkeypatch.setattr(comparison, "trained_scores", scored)
    content = evaluate(decision, clean, Settings(1, BATCH), {})
    assert sizes == [BATCH] * 2  # a random part as large as what is seen of the pool is the same
    assert content["sets"]["kept"]["samples"] == decision.manifest["verdicts"]["keep"]


def test_a_set_below_a_batch_is_refused(decision: Decision, clean: HeldOut, tmp_path: Path) -> None:
    pool = Path(decision.manifest["parts"][0]["uri"]).parents[1]
    few = decide(pool, tmp_path / "store", RECIPE.replace("at_least: 8", "at_least: 14"))
    with pytest.raises(QueryError, match=r"keeps \d+ samples: a training takes at least a batch of 128"):
        evaluate(few, clean, TINY, {})


def test_held_out_samples_of_the_pool_are_refused(decision: Decision) -> None:
    uid = decision.store.read_part(decision.manifest["samples"], decision.manifest["parts"][0]["part"])["uid"]
    pairs = scenes(3, 32)
    leaked = HeldOut.of(type(pairs)(pairs.pixels, pairs.captions, (uid[0].as_py(), *pairs.uids[1:])), None)
    with pytest.raises(QueryError, match="1 held-out samples are in the pool, such as"):
        evaluate(decision, leaked, TINY, {})


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The command line's exit code."""
    monkeypatch.setattr(sys, "argv", ["curate", "evaluate", *words])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_command_prints_what_it_found(
    decision: Decision, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pool = str(Path(decision.manifest["parts"][0]["uri"]).parents[1] / "shards")
    store = str(decision.store.folder.url)
    monkeypatch.setattr(held_out, "SCENES", 60)
    asked = ("--eval-pool", "demo", "--seeds", "1", "--budget", str(BATCH), "--against", "random")
    assert run(monkeypatch, store, *asked) == 0
    said = capfd.readouterr()
    for words in ("image to text, R@1", "zero-shot accuracy", "kept less", "128 samples", "60 held-out"):
        assert words in said.out
    assert "pool" not in said.out
    assert "train" in said.err
    assert run(monkeypatch, store, "--eval-pool", pool) == 2
    assert "are in the pool" in capfd.readouterr().err
    assert run(monkeypatch, store, "--eval-pool", "demo", "--against", "everything") == 2
