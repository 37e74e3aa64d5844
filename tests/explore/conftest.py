"""A decision over made-up metadata, large enough that bins, parts and row groups matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.explore.explorer import Explorer
from curate.query import open_decision
from tests.pools import metadata_shard
from tests.running import curate
from transforms.store import Store

ROWS, PARTS = 900, 3
RECIPE = """\
name: explored
pool: {retry_seconds: []}
filters:
  - caption_words: {at_least: 2}
  - min_clip_cosine: {at_least: 0.2, encoder: clip_l14}
  - top_fraction: {by: clip_b32_cosine, keep: 0.5}
output: {report: false, shards: false, subset: false}
max_failed_fraction: 1
"""


def made_rows() -> list[dict[str, Any]]:
    """Rows with ties, missing values and a few outliers."""
    random = np.random.default_rng(3)
    return [
        {
            "uid": f"{number * 2654435761 % 2**64:016x}{number:016x}",
            "url": f"https://pictures.example/{number}.jpg",
            "text": " ".join(["word"] * int(random.integers(1, 6))) + f" {number}",
            "original_width": int(random.integers(10, 900)),
            "original_height": int(random.integers(10, 900)),
            "clip_b32_similarity_score": float(np.float16(random.normal(0.25, 0.05))),
            "clip_l14_similarity_score": float(np.float16(np.round(random.normal(0.22, 0.05), 2)))
            if number % 17
            else None,
        }
        for number in range(ROWS)
    ]


@pytest.fixture(scope="package")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    folder = tmp_path_factory.mktemp("explored")
    rows = made_rows()
    for part in range(PARTS):
        metadata_shard(folder / "pool" / f"{part:05d}.parquet", rows[part::PARTS])
    curate(RECIPE, folder / "pool", folder / "store")
    return explorer_of(folder / "store")


def explorer_of(store: Path) -> Explorer:
    return Explorer(open_decision(Store.at(str(store))))
