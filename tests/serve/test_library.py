"""The service's open decisions: kept while they are the same, opened again when they have grown."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.serve.library import Library
from filters.core.errors import QueryError
from tests.follow.following import PLAIN, calibrated, follow, make_pool, shard
from transforms.store import Store


def test_a_continuous_decision_is_opened_again_when_it_has_grown(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=1), tmp_path / "store"
    calibrated(PLAIN, pool, store)
    ledger = follow(PLAIN, pool, store)["ledger"]
    library = Library(Store.at(str(store)))
    first = library.explorer(ledger)
    assert library.explorer(ledger) is first
    assert library.manifest(ledger)["rows"] == 8
    shard(pool / "00001.tar", [60, 61])
    follow(PLAIN, pool, store)
    assert library.manifest(ledger)["rows"] == 10
    assert library.explorer(ledger) is not first
    assert first.decision.manifest["rows"] == 8  # who looks around in it goes on


def test_a_name_without_a_decision_is_refused(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "store"))
    store.prepare()
    with pytest.raises(QueryError, match="no finished decision 'nothing'"):
        Library(store).explorer("nothing")
