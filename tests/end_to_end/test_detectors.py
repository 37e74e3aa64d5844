"""Detectors of wrong captions that compare the pool's rows, in a real run over real annotation noise."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.running import ask, curate
from tests.transforms.relations.labelled import rank

RECIPE = """\
name: detectors
measures:
  clip: {{model: "local-dir:{model}", batch_size: 256}}
  label_agreement: {{labels: "{labels}"}}
  prototypes: {{labels: "{labels}"}}
  separation: {{}}
  doubted: {{measure: separation, seeds: prototypes, seeds_say: p_clean, rounds: 1}}
filters:
  - signal_between: {{by: separation, at_most: 0.5}}
output: {{report: false}}
"""
VOCABULARY = """\
templates: ["a photo of a {}"]
concepts: [airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck]
"""


@pytest.mark.slow
def test_each_ranks_wrong_captions_of_real_annotators_high(shared: Path, tmp_path: Path) -> None:
    labels = tmp_path / "concepts.yaml"
    labels.write_text(VOCABULARY, encoding="utf-8")
    text = RECIPE.format(model=shared / "models" / "cifar-clip", labels=labels)
    folder = shared / "data" / "human-noise-random_label1"
    shards = [str(folder / "shards" / f"0000{number}.tar") for number in range(2)]
    result = curate(text, shards, tmp_path / "store", workers=2)
    assert result.counts["failed"] == 0
    columns = "label_agreement, label_agreement_credibility, prototypes, separation, doubted"
    rows = ask(tmp_path / "store", f"SELECT key, verdict, {columns} FROM samples")  # noqa: S608  (ours)
    with (folder / "truth.csv").open(encoding="utf-8") as stream:
        truth = {row["key"]: row["is_wrong"] == "1" for row in csv.DictReader(stream)}
    wrong = np.array([truth[row["key"]] for row in rows])
    for name, sign, least in (
        ("label_agreement", 1, 0.855),
        ("label_agreement_credibility", -1, 0.9),
        ("prototypes", -1, 0.9),
        ("separation", 1, 0.88),
        ("doubted", 1, 0.88),
    ):
        scores = sign * np.array([row[name] for row in rows], np.float64)
        assert rank(scores, wrong) > least, name
    for row in rows:
        assert row["verdict"] == ("keep" if row["separation"] <= 0.5 else "drop")
