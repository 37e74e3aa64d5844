"""Real photographs and real annotation noise, with a checkpoint that somebody trained elsewhere."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.running import ask, curate

RECIPE = """\
name: real
measures:
  clip: {{model: "local-dir:{model}", batch_size: 256}}
filters:
  - min_side_pixels: 32
  - caption_words: 3
  - drop_exact_duplicates: pixels
  - top_fraction: {{by: clip_cosine, keep: 0.7}}
output: {{report: false}}
"""


def test_photographs_are_curated_and_add_up(shared: Path, tmp_path: Path) -> None:
    text = RECIPE.format(model=shared / "models" / "cifar-clip")
    result = curate(text, shared / "data" / "photographs" / "shards", tmp_path / "store", decode_threads=2)
    assert result.manifest["rows"] == sum(result.counts.values()) == 200
    assert result.counts["failed"] == 0
    assert result.counts["keep"] == 140
    (row,) = ask(tmp_path / "store", "SELECT min(width) AS width, count(clip_cosine) AS n FROM samples")
    assert row["width"] > 32
    assert row["n"] == 200


@pytest.mark.slow
def test_wrong_labels_of_real_annotators_are_dropped_first(shared: Path, tmp_path: Path) -> None:
    text = RECIPE.format(model=shared / "models" / "cifar-clip")
    folder = shared / "data" / "human-noise-random_label1"
    result = curate(text, folder / "shards", tmp_path / "store")
    assert result.manifest["rows"] == sum(result.counts.values()) == 10_000
    with (folder / "truth.csv").open() as stream:
        wrong = {row["key"] for row in csv.DictReader(stream) if row["is_wrong"] in ("1", "True", "true")}
    kept = {row["key"] for row in ask(tmp_path / "store", "SELECT key FROM samples WHERE verdict = 'keep'")}
    assert len(kept) == result.counts["keep"]
    before, after = len(wrong) / 10_000, len(kept & wrong) / len(kept)
    assert before == pytest.approx(0.171, abs=0.001)
    assert after < before / 2
