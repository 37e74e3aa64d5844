"""Bounds that an audited sample chooses, in whole runs: what names a decision, and what stops one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from filters.core.errors import RecipeError
from tests.pools import metadata_shard
from tests.running import ask, curate, plan_of

ROWS = 600
NOISE = np.random.default_rng(0).random(ROWS) < 0.3
RECIPE = """\
name: audited
filters:
  - fuse:
      votes: [clip_b32_cosine, clip_l14_cosine, {{by: width, high: noise}}]
      audited: {answers}
      precision: 0.8
      of: {of}
output: {{report: false, subset: false}}
"""


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Metadata whose columns tell noise from clean pairs, in two shards."""
    generator = np.random.default_rng(1)
    columns = {
        "clip_b32_similarity_score": generator.normal(0.3 - 0.1 * NOISE, 0.04).tolist(),
        "clip_l14_similarity_score": generator.normal(0.3 - 0.1 * NOISE, 0.04).tolist(),
        "original_width": generator.normal(400 + 100 * NOISE, 40).astype(int).tolist(),
    }
    rows = [
        {"uid": f"{at:032x}", **{name: column[at] for name, column in columns.items()}} for at in range(ROWS)
    ]
    for number, some in enumerate((rows[:250], rows[250:])):
        metadata_shard(tmp_path / "pool" / f"{number}.parquet", some)
    return tmp_path / "pool"


def answers(path: Path, numbers: range) -> Path:
    """True answers for the samples with these numbers."""
    lines = [f"{at:032x},{int(at >= ROWS or not NOISE[at])}" for at in numbers]
    path.write_text("\n".join(["uid,ok", *lines]) + "\n")
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_kept_holds_the_precision(pool: Path, tmp_path: Path, workers: int) -> None:
    file = answers(tmp_path / "answers.csv", range(0, ROWS, 2))
    curate(RECIPE.format(answers=file, of="survivors"), pool, tmp_path / "store", workers=workers)
    rows = ask(tmp_path / "store", "SELECT verdict, p_clean FROM samples ORDER BY uid")
    kept = np.array([row["verdict"] == "keep" for row in rows])
    assert 1 - NOISE[kept].mean() > 0.8
    assert kept.sum() > 350
    least = min(row["p_clean"] for row in rows if row["verdict"] == "keep")
    assert all(row["p_clean"] < least for row in rows if row["verdict"] != "keep")


def test_a_decision_is_named_by_what_was_answered_not_by_the_file(pool: Path, tmp_path: Path) -> None:
    def ledger(file: Path) -> str:
        return plan_of(RECIPE.format(answers=file, of="pool"), pool, tmp_path / "store").ledger_id(["a"])

    first = answers(tmp_path / "answers.csv", range(40))
    before = ledger(first)
    assert ledger(first.rename(tmp_path / "other.csv")) == before
    assert ledger(answers(tmp_path / "other.csv", range(41))) != before


def test_a_wrong_file_stops_the_plan_with_its_line(pool: Path, tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    file.write_text(f"uid,ok\n{0:032x},1\n{0:032x},0\n")
    with pytest.raises(RecipeError, match=rf"^filter fuse: {file}, lines 2 and 3: uid 0+ is both ok and not"):
        plan_of(RECIPE.format(answers=file, of="pool"), pool, tmp_path / "store")
    with pytest.raises(RecipeError, match=r"^filter fuse: can't read the answers .*absent.csv: No such file"):
        plan_of(RECIPE.format(answers=tmp_path / "absent.csv", of="pool"), pool, tmp_path / "store")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unknown_uid_stops_a_run_over_the_whole_pool(pool: Path, tmp_path: Path, workers: int) -> None:
    file = answers(tmp_path / "answers.csv", range(ROWS - 5, ROWS + 1))
    unknown = f"^fuse: uid {ROWS:032x}, which was audited, is not in this pool, or no column scores it$"
    with pytest.raises(RecipeError, match=unknown):
        curate(RECIPE.format(answers=file, of="pool"), pool, tmp_path / "store", workers=workers)
