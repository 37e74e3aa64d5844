"""A decision over a small pool of the demo's world, whose rows that failed are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.demo.pool import write_pool
from curate.query import Decision, open_decision
from tests.running import curate
from transforms.store import Store

RECIPE = """\
name: short
pool: {retry_seconds: []}
filters:
  - caption_words: {at_least: 8}
output: {shards: false, subset: false, report: false}
max_failed_fraction: 1
"""
SAMPLES = 300
BROKEN = ("truncated_jpeg", "missing_caption")


def decide(pool: Path, store: Path, text: str = RECIPE) -> Decision:
    """The decision of a recipe over a pool of the demo's world, made where it is missing."""
    if not pool.exists():
        write_pool(pool, samples=SAMPLES, shards=2, defects=BROKEN)
    run = curate(text, str(pool / "shards" / "*.tar"), store)
    return open_decision(Store.at(str(store)), run.ledger)


@pytest.fixture(scope="package")
def decision(tmp_path_factory: pytest.TempPathFactory) -> Decision:
    folder = tmp_path_factory.mktemp("evaluate")
    return decide(folder / "pool", folder / "store")
