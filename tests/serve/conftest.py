"""A service over small stores, asked without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from curate.console import Bounds
from curate.serve.app import make_app
from curate.serve.library import Library
from curate.serve.security import Door
from curate.serve.settings import Service
from tests.compared import RECIPE, compared_run
from tests.running import curate
from transforms.store import Store

HERE = "http://127.0.0.1"
BOUNDS = Bounds(seconds=3, memory_mib=256)
LOCAL = Door()


def client_of(store: Path, door: Door = LOCAL) -> TestClient:
    """A client of a service over this store."""
    service = Service(Library(Store.at(str(store))), BOUNDS)
    return TestClient(make_app(service, door), base_url=HERE)


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two decisions over one pool with copies, clusters, hostile captions and broken images."""
    folder = tmp_path_factory.mktemp("served")
    compared_run(folder)
    changed = RECIPE.replace("name: compared", "name: stricter").replace("keep: 0.5", "keep: 0.25")
    curate(changed, folder / "pool", folder / "store")
    return folder / "store"


@pytest.fixture(scope="package")
def client(store: Path) -> Iterator[TestClient]:
    with client_of(store) as found:
        yield found


@pytest.fixture(scope="package")
def ledger(client: TestClient) -> str:
    """The name of the first decision, which came before the latest."""
    names = [one["ledger"] for one in client.get("/api/store").json()["decisions"]]
    return next(name for name in names if name.startswith("compared"))
