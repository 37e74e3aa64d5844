"""Captions that people got wrong: what detectors and their fusion are worth, measured by real runs."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from filters.core.fusion import ranked
from tests.running import ask, curate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RESAMPLES = 200
# The columns that vote, and whether high ones mean noise.
VOTES = {"clip_cosine": False, "s_clip_loss": False, "neighbourhood": True}
RECIPE = """\
name: {name}
measures:
  clip: {{model: "local-dir:{model}", batch_size: 256}}
  s_clip_loss: {{form: bank, batch: 2048}}
  neighbourhood: {{reference: 5000}}
filters:
  - fuse: {{votes: [clip_cosine, s_clip_loss, neighbourhood], {bounds}, abstain_to: quarantine}}
output: {{report: false, shards: false, subset: false}}
"""


@dataclass(frozen=True)
class Scored:
    """The measured pool: its rows in order, which of them are wrong, and how to decide again."""

    rows: list[dict[str, Any]]
    wrong: NDArray[np.bool_]
    shards: Path
    model: Path
    store: Path

    def column(self, name: str) -> NDArray[np.float64]:
        """(n,) float64, NaN for null."""
        return np.array([row[name] for row in self.rows], np.float64)

    def decide(self, name: str, bounds: str) -> list[dict[str, Any]]:
        """The rows of another decision over the same measurements."""
        text = RECIPE.format(name=name, model=self.model, bounds=bounds)
        said: list[str] = []
        curate(text, self.shards, self.store, said=said)
        assert said[0] == "all 10 shards are measured"
        return rows_of(self.store)


def rows_of(store: Path) -> list[dict[str, Any]]:
    return ask(
        store,
        "SELECT key, uid, verdict, bound, p_clean, clip_cosine, s_clip_loss, neighbourhood FROM samples "
        "ORDER BY key",
    )


@pytest.fixture(scope="module")
def scored(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """The pool with a fuse over it; shared, so not to be harmed."""
    folder, model = shared / "data" / "human-noise-random_label1", shared / "models" / "cifar-clip"
    store = tmp_path_factory.mktemp("noise") / "store"
    curate(
        RECIPE.format(name="fused", model=model, bounds="drop_if_p_noise_above: 0.7"),
        folder / "shards",
        store,
    )
    rows = rows_of(store)
    with (folder / "truth.csv").open(newline="", encoding="utf-8") as stream:
        truth = {row["key"]: row["is_wrong"] == "1" for row in csv.DictReader(stream)}
    return Scored(rows, np.array([truth[row["key"]] for row in rows]), folder / "shards", model, store)


def area(scores: NDArray[np.float64], wrong: NDArray[np.bool_]) -> float:
    """The area under the ROC curve of scores that are high where the caption is wrong."""
    ranks, bad = ranked(scores) * len(scores), int(wrong.sum())
    return float((ranks[wrong].sum() - bad * bad / 2) / (bad * (len(wrong) - bad)))


def half_width(scores: NDArray[np.float64], wrong: NDArray[np.bool_]) -> float:
    """Half of the 95 % bootstrap interval of the area."""
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(wrong), (RESAMPLES, len(wrong)))
    low, high = np.quantile([area(scores[draw], wrong[draw]) for draw in draws], [0.025, 0.975])
    return float(high - low) / 2


def test_detectors_together_rank_wrong_captions_as_well_as_the_best_of_them(scored: Scored) -> None:
    doubts = {
        name: scored.column(name) if high_is_noise else -scored.column(name)
        for name, high_is_noise in VOTES.items()
    }
    areas = {name: area(doubt, scored.wrong) for name, doubt in doubts.items()}
    best = max(areas, key=areas.__getitem__)
    assert areas[best] > 0.9
    fused = area(1 - scored.column("p_clean"), scored.wrong)
    assert fused > areas[best] - half_width(doubts[best], scored.wrong), areas


def test_what_is_dropped_is_mostly_wrong_and_what_is_kept_mostly_right(scored: Scored) -> None:
    verdicts = np.array([row["verdict"] for row in scored.rows])
    dropped, kept = verdicts == "drop", verdicts == "keep"
    assert dropped.sum() + kept.sum() == len(verdicts)
    assert scored.wrong.mean() == pytest.approx(0.171, abs=0.001)
    assert scored.wrong[dropped].mean() > 0.55
    assert scored.wrong[kept].mean() < 0.08


def test_an_audited_sample_holds_the_precision_and_what_it_cannot_judge_abstains(
    scored: Scored, tmp_path: Path
) -> None:
    """Even the most doubtful tenth is not wrong nine times of ten here, so nothing may be dropped."""
    drawn = np.random.default_rng(1).choice(len(scored.rows), 1500, replace=False)
    answers = tmp_path / "answers.csv"
    said = [f"{scored.rows[at]['uid']},{int(not scored.wrong[at])}" for at in sorted(drawn)]
    answers.write_text("\n".join(["uid,ok", *said]) + "\n")
    rows = scored.decide("audited", f"audited: {answers}, precision: 0.9")
    verdicts = np.array([row["verdict"] for row in rows])
    assert set(verdicts) == {"keep", "quarantine"}
    assert 1 - scored.wrong[verdicts == "keep"].mean() > 0.9
    assert (verdicts == "keep").mean() > 0.6
    (words,) = {row["bound"] for row in rows} - {None}
    assert "none is dropped (3 detectors; 0.9 right with confidence 0.95 by 1500 answers)" in words


def test_an_audited_sample_that_is_too_small_keeps_nothing_and_says_so(
    scored: Scored, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.csv"
    said = [f"{scored.rows[at]['uid']},{int(not scored.wrong[at])}" for at in range(20)]
    answers.write_text("\n".join(["uid,ok", *said]) + "\n")
    rows = scored.decide("small", f"audited: {answers}")
    assert {row["verdict"] for row in rows} == {"quarantine"}
    assert {row["bound"] for row in rows} == {
        "no answer: 20 audited samples are too few: it takes 104, all of them right"
    }
    assert all(row["p_clean"] is not None for row in rows)
