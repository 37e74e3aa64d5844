"""What mlcroissant, the format's own library, says of the description, and reads through it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from curate.exporting import Publication
from tests.compared import EMPTY, HOSTILE
from tests.export.conftest import exported
from tests.pools import write_tar
from tests.running import ask, curate

pytestmark = pytest.mark.filterwarnings("ignore")  # of mlcroissant's own dependencies


@pytest.fixture
def dataset(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exported description, opened; what is taken out of tars goes to a folder of the test."""
    exported(given, "croissant", tmp_path / "out")
    return opened(tmp_path, monkeypatch)


def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import mlcroissant
    from etils import epath
    from mlcroissant._src.operation_graph.operations import extract

    monkeypatch.setattr(extract, "EXTRACT_PATH", epath.Path(tmp_path / "cache"))
    return mlcroissant.Dataset(str(tmp_path / "out" / "croissant.json"))


def test_the_description_is_valid_without_a_warning(dataset: Any) -> None:
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    assert str(dataset.metadata.conforms_to[0]).endswith("/croissant/1.0")


def test_its_records_are_the_kept_samples(dataset: Any, given: Path) -> None:
    rows = list(dataset.records("samples"))
    kept = ask(given, "SELECT uid, caption, width, clip_cosine FROM samples WHERE verdict = 'keep'")
    assert [row["samples/uid"].decode() for row in rows] == [row["uid"] for row in kept]
    assert rows[0]["samples/caption"].decode() == kept[0]["caption"] == HOSTILE
    assert rows[0]["samples/width"] == kept[0]["width"]
    assert rows[0]["samples/clip_cosine"] == pytest.approx(kept[0]["clip_cosine"])


def test_its_images_are_those_of_the_shards(dataset: Any, given: Path) -> None:
    rows = list(dataset.records("images"))
    kept = ask(given, "SELECT key, width FROM samples WHERE verdict = 'keep'")
    found = {row["images/key"].decode(): row["images/image"].size[0] for row in rows}
    assert found == {row["key"]: row["width"] for row in kept}


def test_checksums_and_sizes_are_those_of_the_files(given: Path, tmp_path: Path) -> None:
    files = exported(given, "croissant", tmp_path)
    described = json.loads((tmp_path / "croissant.json").read_text(encoding="utf-8"))
    objects = [one for one in described["distribution"] if one["@type"] == "cr:FileObject"]
    assert ["croissant.json", *(one["contentUrl"] for one in objects)] == files
    assert sum(name.endswith(".tar") for name in files) == 2
    for one in objects:
        content = (tmp_path / one["contentUrl"]).read_bytes()
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
        assert one["contentSize"] == f"{len(content)} B"


def test_the_curation_record_is_in_it(given: Path, tmp_path: Path) -> None:
    publication = Publication("https://creativecommons.org/licenses/by/4.0/", "https://example.org/given")
    exported(given, "croissant", tmp_path, publication=publication)
    described = json.loads((tmp_path / "croissant.json").read_text(encoding="utf-8"))
    assert described["license"] == publication.licence
    assert described["url"] == publication.url
    assert described["datePublished"].startswith("20")
    steps = described["rai:dataPreprocessingProtocol"]
    assert steps[0] == "min_side_pixels: at least 30 pixels; removed 2 of 24 samples"
    assert "drop_near_duplicates" in steps[-1]
    assert any("personal data" in one for one in described["rai:dataBiases"])
    assert described["rai:dataCollectionMissingData"].startswith("zero_bytes: 2")


def test_the_same_decision_is_described_by_the_same_bytes(given: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        exported(given, "croissant", tmp_path / name)
    one, other = ((tmp_path / name / "croissant.json").read_bytes() for name in ("one", "other"))
    assert one == other


def test_a_condition_may_choose_rows_without_values(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exported(given, "croissant", tmp_path / "out", "true") == ["croissant.json", "metadata.parquet"]
    found = opened(tmp_path, monkeypatch)
    assert not found.metadata.ctx.issues.errors
    rows = list(found.records("samples"))
    assert len(rows) == 26
    failed = [row for row in rows if row["samples/verdict"] == b"failed"]
    assert len(failed) == 2


def test_an_empty_store_has_a_valid_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [])
    curate(EMPTY, tmp_path / "pool", tmp_path / "store")
    exported(tmp_path / "store", "croissant", tmp_path / "out")
    found = opened(tmp_path, monkeypatch)
    assert not found.metadata.ctx.issues.errors
    assert list(found.records("samples")) == []
