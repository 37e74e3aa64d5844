"""Alignment levels as a measure: steps of a score, in the store and with every kept sample."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.core.errors import RecipeError
from tests.pools import photo, sample, write_tar
from tests.running import ask, curate, plan_of
from transforms.measures.alignment_level import AlignmentLevel

RECIPE = """\
name: levels
measures:
  step: {measure: alignment_level, by: luminance_mean, low: 0, high: 255, levels: 4}
filters: []
output: {report: false}
"""


def test_levels_stand_in_the_store_and_in_the_json_of_kept_samples(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [*sample("a", photo(1), "one"), *sample("b", b"", "broken")])
    result = curate(RECIPE + "max_failed_fraction: 1\n", tmp_path / "0.tar", tmp_path / "store")
    rows = ask(tmp_path / "store", "SELECT key, step, luminance_mean FROM samples ORDER BY key")
    assert rows[1]["step"] is None
    assert rows[0]["step"] == int(rows[0]["luminance_mean"] * 4 // 255)
    with tarfile.open(tmp_path / "store/curated" / result.ledger / "00000000.tar") as tar:
        content = json.load(tar.extractfile("a.curate.json"))  # type: ignore[arg-type]
    assert content["signals"]["step"] == rows[0]["step"]


def test_published_edges_put_an_edge_in_the_upper_step_and_nothing_for_nan() -> None:
    rule = AlignmentLevel(preset="cc3m")
    scores = pa.array([-1.0, 0.0280283777974546, 0.3, 0.9, float("nan"), None], pa.float32())
    found = rule.derive("level", {"clip_cosine": scores}, None)["level"]
    assert found.to_pylist() == [0, 1, 5, 7, None, None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either preset"),
        ({"preset": "cc3m", "low": 0, "high": 1}, "give either preset"),
        ({"low": 1, "high": 0}, "rising edges"),
        ({"low": 0, "high": 1, "levels": 1}, "greater than or equal to 2"),
    ],
)
def test_edges_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AlignmentLevel(**options)


def test_a_score_that_nothing_writes_is_refused_before_any_work(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", sample("a", photo(1), "one"))
    with pytest.raises(
        RecipeError, match=r"measure 'step' reads 'luminance_meen'.*did you mean luminance_mean"
    ):
        plan_of(RECIPE.replace("luminance_mean", "luminance_meen"), tmp_path / "0.tar", tmp_path / "store")
