"""The diversity of what was kept: measured by a run, shown in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.query import Decision, open_decision
from curate.report import build_report
from curate.report.diversity import read_diversity
from tests.compared import EMPTY, MODEL, RECIPE, compared_run
from tests.pools import photo, sample, write_tar
from tests.report.conftest import Decide
from tests.report.test_page import Page
from tests.running import curate, files_of
from transforms.store import Store

ONE = f"""\
name: one
measures: {{clip: {{model: "local-dir:{MODEL}"}}}}
filters:
  - min_side_pixels: 30
output: {{shards: false}}
max_failed_fraction: 1
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Decision:
    """A decision over a pool with embeddings; shared, so not to be harmed."""
    folder = tmp_path_factory.mktemp("diverse")
    result = compared_run(folder)
    return open_decision(Store.at(str(folder / "store")), result.ledger)


def summaries(decision: Decision) -> list[str]:
    folder = decision.store.folder
    groups = [name for name in folder.names(f"report/{decision.ledger}") if name.startswith("diversity-")]
    return [name for name in groups if folder.exists(f"report/{decision.ledger}/{name}/summary.json")]


def opened(folder: Path) -> Decision:
    return open_decision(Store.at(str(folder)))


def test_a_run_measures_every_embedding(compared: Decision) -> None:
    images, texts = read_diversity(compared)
    assert (images.name, texts.name) == ("clip_image", "clip_text")
    counts = compared.manifest["verdicts"]
    for found in (images, texts):
        assert found.width == 64
        assert [row.name for row in found.rows] == ["pool", "random draw", "kept"]
        assert [row.rows for row in found.rows] == [
            compared.manifest["rows"] - counts["failed"],
            counts["keep"],
            counts["keep"],
        ]
        for row in found.rows:
            assert all(1 <= reading.value <= row.rows for reading in row.readings if reading.value)
        assert len(found.verdicts) == 2


def test_the_report_shows_it(compared: Decision) -> None:
    text = build_report(compared)
    assert "diversity" in Page(text).ids
    assert 'href="#diversity"' in text
    section = text.split('id="diversity"')[1].split("</section>")[0]
    (images, _) = read_diversity(compared)
    for row in images.rows:
        for reading in row.readings:
            assert f"{reading.value:.2f}" in section
    assert "random draw" in section


@pytest.mark.parametrize(
    ("kept", "spread", "said"),
    [
        (10.0, [9.9, 10.1], "RankMe: as diverse as a random draw"),
        (9.0, [9.9, 10.1], "RankMe: 10.0 % less than a random draw"),
        (11.0, None, "RankMe: 10.0 % more than a random draw"),
        (10.0, None, "RankMe: as diverse as a random draw"),
    ],
)
def test_kept_is_compared_with_the_range_of_the_random_draw(
    tmp_path: Path, kept: float, spread: list[float] | None, said: str
) -> None:
    decision = small(tmp_path)
    (name,) = summaries(decision)
    values: dict[str, Any] = {"rows": 5, "rank_me": 10.0, "vendi": 10.0}
    control = values if spread is None else {**values, "rank_me_range": spread}
    found = {"width": 64, "pool": values, "control": control, "kept": {**values, "rank_me": kept}}
    decision.store.folder.write_json(
        f"report/{decision.ledger}/{name}/summary.json", {"at_most": 9, "embeddings": {"clip_image": found}}
    )
    assert read_diversity(decision)[0].verdicts[0] == said


def small(folder: Path, text: str = ONE) -> Decision:
    members = [*sample("a", photo(1), "a cat"), *sample("b", photo(2, side=20), "a dog")]
    if not (folder / "pool").exists():
        write_tar(folder / "pool" / "0.tar", members)
    curate(text, folder / "pool", folder / "store")
    return opened(folder / "store")


def test_a_second_run_measures_nothing_again_and_changes_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    small(tmp_path)
    before = files_of(tmp_path / "store")
    curate(ONE, tmp_path / "pool", tmp_path / "store", said=said)
    assert not any("diversity" in line for line in said)
    assert files_of(tmp_path / "store") == before


def test_another_number_of_rows_is_measured_anew_and_the_report_follows_the_last_run(tmp_path: Path) -> None:
    first = small(tmp_path)
    second = small(tmp_path, ONE.replace("{shards: false}", "{shards: false, diversity_rows: 2}"))
    assert first.ledger == second.ledger
    assert len(summaries(second)) == 2
    assert second.manifest["recipe"]["output"]["diversity_rows"] == 2
    assert "at most 2 of each" in build_report(second)
    back = small(tmp_path)
    assert back.manifest == first.manifest
    assert "at most 100,000 of each" in build_report(back)


def test_nothing_is_measured_where_it_is_not_asked_for(tmp_path: Path) -> None:
    decision = small(tmp_path, ONE.replace("shards: false", "shards: false, diversity: false"))
    assert summaries(decision) == []
    assert "diversity" not in Page(build_report(decision)).ids


def test_a_recipe_without_embeddings_has_no_such_section(mixed: Decision) -> None:
    assert summaries(mixed) == []
    text = build_report(mixed)
    assert 'href="#diversity"' not in text
    assert "diversity" not in Page(text).ids


def test_one_kept_row_is_one_direction(tmp_path: Path) -> None:
    (images, _) = read_diversity(small(tmp_path))
    assert [row.rows for row in images.rows] == [2, 1, 1]
    assert images.rows[2].readings[0].value == pytest.approx(1, abs=1e-4)


def test_nothing_kept_is_said(tmp_path: Path) -> None:
    decision = small(tmp_path, ONE.replace("30", "999"))
    text = build_report(decision)
    assert "Nothing with this embedding was kept." in text
    assert Page(text)


def test_a_pool_whose_rows_all_failed_has_no_such_section(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", sample("a", b"", "no bytes"))
    curate(ONE, tmp_path / "pool", tmp_path / "store")
    assert read_diversity(opened(tmp_path / "store")) == []
    assert Page(build_report(opened(tmp_path / "store")))


def test_no_rows(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [])
    curate(EMPTY, tmp_path / "pool", tmp_path / "store")
    assert read_diversity(opened(tmp_path / "store")) == []
    assert Page(build_report(opened(tmp_path / "store")))


def test_a_store_of_a_version_without_diversity_is_reported(decide: Decide) -> None:
    decision = decide([sample("1", photo(1), "a cat")], "name: n\nfilters: []")
    manifest = json.loads(json.dumps(decision.manifest))
    for name in ("diversity", "diversity_rows", "rare_concepts"):
        del manifest["recipe"]["output"][name]
    assert Page(build_report(Decision(decision.store, manifest)))


def test_two_workers_find_the_same(tmp_path: Path, compared: Decision) -> None:
    curate(RECIPE, Path(compared.store.folder.url).parent / "pool", tmp_path / "store", workers=2)
    assert read_diversity(opened(tmp_path / "store")) == read_diversity(compared)
