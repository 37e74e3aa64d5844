"""Stores to search in: a small one with pictures and their model, a larger one of ready embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.query import Decision, open_decision
from tests.compared import MODEL, compared_pool
from tests.pools import metadata_shard
from tests.running import curate
from transforms.store import Store

PICTURES = f"""\
name: pictures
pool: {{retry_seconds: []}}
measures: {{clip: {{model: "local-dir:{MODEL}"}}}}
filters:
  - min_side_pixels: 30
  - drop_exact_duplicates: pixels
output: {{report: false, shards: false}}
max_failed_fraction: 1
"""
METADATA = """\
name: metadata
pool: {format: datacomp, retry_seconds: []}
measures: {clip: {measure: datacomp_embeddings, model: b32}}
filters:
  - caption_words: 2
output: {report: false}
"""
WIDTH, PER_PART = 32, 700


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 26 pictures, some equal, two broken."""
    folder = tmp_path_factory.mktemp("pictures")
    compared_pool(folder / "pool")
    curate(PICTURES, folder / "pool", folder / "store")
    return folder / "store"


def embedded_shard(path: Path, number: int, rows: int = PER_PART) -> None:
    """A metadata shard whose embeddings lie in forty groups; texts lie near their images."""
    generator = np.random.default_rng(number)
    centres = np.random.default_rng(99).standard_normal((40, WIDTH))
    images = centres[generator.integers(0, 40, rows)] + 0.6 * generator.standard_normal((rows, WIDTH))
    texts = images + 0.8 * generator.standard_normal((rows, WIDTH)) + 2.0
    if rows > 10:
        images[7] = images[3]  # equal embeddings
        images[5] = np.nan
    arrays = {
        name: (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float16)
        for name, wide in (("b32_img", images), ("b32_txt", texts))
    }
    metadata_shard(path, [{"uid": f"{(at * 7919 + number) % 2**31:032x}"} for at in range(rows)])
    np.savez(path.with_suffix(".npz"), **arrays)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 2,100 ready embeddings in three parts; each part has a row without one."""
    folder = tmp_path_factory.mktemp("embedded")
    for number in range(3):
        embedded_shard(folder / "pool" / f"{number:05d}.parquet", number)
    curate(METADATA, folder / "pool", folder / "store")
    return folder / "store"


def opened(store: Path | str, ledger: str | None = None) -> Decision:
    """The store's decision."""
    return open_decision(Store.at(str(store)), ledger)


def all_embeddings(decision: Decision, kind: str = "img") -> np.ndarray:
    """Every embedding of the decision, in its order."""
    item = next(one for one in decision.manifest["measures"] if one["embeddings"])
    return np.concatenate(
        [
            np.load(decision.store.folder.path(f"{item['embeddings']}/{kind}/{part['part']}.npy"))
            for part in decision.manifest["parts"]
        ]
    )
