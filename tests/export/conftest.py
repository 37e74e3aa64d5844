"""Finished decisions to export."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.exporting import Publication, Selection, export_selection
from curate.query import open_decision
from tests.compared import MODEL, compared_pool
from tests.running import curate
from transforms.storage import Folder
from transforms.store import Store

RECIPE = f"""\
name: given
description: "a [test] of <b>exports</b> | with `marks`"
pool: {{retry_seconds: []}}
measures: {{clip: {{model: "local-dir:{MODEL}"}}}}
filters:
  - min_side_pixels: 30
  - drop_near_duplicates: {{cosine_above: 0.999, clusters: 3, probe: 3}}
output: {{report: false, samples_per_shard: 10}}
max_failed_fraction: 1
"""


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with curated shards, embeddings, copies, failures and a hostile caption."""
    folder = tmp_path_factory.mktemp("given")
    compared_pool(folder / "pool")
    curate(RECIPE, folder / "pool", folder / "store")
    return folder / "store"


def exported(
    store: Path | str,
    name: str,
    folder: Path | str,
    where: str | None = None,
    publication: Publication | None = None,
) -> list[str]:
    """Exports the store's decision; returns the names of the files."""
    selection = Selection(open_decision(Store.at(str(store))), where)
    return export_selection(name, selection, Folder(str(folder)), publication or Publication())
