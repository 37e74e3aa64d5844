"""An explanation by place equals the one that `curate explain` finds by asking."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.explain import explain
from curate.explore.explained import explain_row
from curate.explore.explorer import Explorer
from tests.compared import compared_run
from tests.explore.conftest import explorer_of


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    folder: Path = tmp_path_factory.mktemp("explained")
    compared_run(folder)
    return explorer_of(folder / "store")


def test_every_row_is_explained_alike(compared: Explorer) -> None:
    for row in range(compared.rows):
        found = explain_row(compared, row)
        (other,) = [
            one
            for one in explain(compared.decision, str(found.sample["key"]))
            if (one.sample["shard"], one.sample["row"]) == (found.sample["shard"], found.sample["row"])
        ]
        assert found.votes == other.votes
        assert found.tags == other.tags
        assert dict(found.sample).keys() == dict(other.sample).keys()
        for name, value in other.sample.items():
            assert found.sample[name] == value or value != value  # noqa: PLR0124  (NaN)
        assert [one.sample["uid"] for one in found.originals] == [
            one.sample["uid"] for one in other.originals
        ]
        assert [(one.filter, one.likeness, one.decided) for one in found.originals] == [
            (one.filter, one.likeness, one.decided) for one in other.originals
        ]
        for one, same in zip(found.clusters, other.clusters, strict=True):
            assert one.filter == same.filter
            assert one.cluster.items() <= dict(same.cluster).items()


def test_metadata_is_explained_too(explorer: Explorer) -> None:
    found = explain_row(explorer, 5)
    (other,) = explain(explorer.decision, str(found.sample["uid"]))
    assert found.votes == other.votes
