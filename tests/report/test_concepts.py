"""What filters take of concepts and sources: the report's section, its warnings and its JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from curate.query import Decision, connect, open_decision, run_sql
from curate.report import build_report, write_report
from curate.report.losses import FLAGS_SHOWN, WORST, Losses, find_losses
from curate.report.terminal import print_summary
from tests.compared import compared_run
from tests.pools import metadata_shard, photo, sample
from tests.report.conftest import Decide
from tests.report.test_page import Page
from tests.running import curate
from transforms.store import Store

SCRIPT = "<script>alert(1)</script> [red]okapi[/red]"
RECIPE = """\
name: tagged
filters:
  - min_side_pixels: 200
  - caption_words: 2
output: {subset: false, rare_concepts: {share_below: 0.05}}
max_failed_fraction: 1
"""
Row = tuple[str | None, bool, str | None]  # tag, whether min_side_pixels lets it pass, url


def tagged(folder: Path, rows: Sequence[Row], recipe: str = RECIPE) -> Decision:
    """A decision over metadata, as if a measure `concepts` named `seen` had tagged its rows."""
    metadata_shard(
        folder / "pool" / "0.parquet",
        [{"original_width": 400 if passes else 100, "url": url} for _, passes, url in rows],
    )
    result = curate(recipe, folder / "pool", folder / "store")
    decision = open_decision(Store.at(str(folder / "store")), result.ledger)
    (part,) = decision.manifest["parts"]
    tags = pa.table({"seen_top": pa.array([tag for tag, _, _ in rows], pa.string())})
    decision.store.write_part("signals/seen-0", part["part"], tags, marker={})
    measure = {"name": "seen", "kind": "concepts", "group": "signals/seen-0", "columns": ["seen_top"]}
    manifest = json.loads(json.dumps(decision.manifest))
    manifest["measures"].append({**measure, "version": 1, "embeddings": None})
    return Decision(decision.store, manifest)


def rows_of(tag: str | None, passing: int, stopped: int, url: str | None = None) -> list[Row]:
    return [(tag, True, url)] * passing + [(tag, False, url)] * stopped


def losses_of(decision: Decision) -> Losses:
    return find_losses(decision, connect(decision))


COMMON = rows_of("cat", 390, 10)
# 2.8 % of the pool; ten of twelve by accident, if every second is removed: 1.9 %.
RARE = rows_of(SCRIPT, 2, 10)


@pytest.fixture(scope="module")
def flagged(tmp_path_factory: pytest.TempPathFactory) -> Decision:
    """A decision that drops ten of twelve of a rare concept; shared, so not to be harmed."""
    rows = [*COMMON, *RARE, *rows_of("quagga", 0, 4), *rows_of("dodo", 20, 1), *rows_of(None, 1, 5)]
    return tagged(tmp_path_factory.mktemp("flagged"), rows)


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Decision:
    """A decision whose filters make clusters; shared, so not to be harmed."""
    folder = tmp_path_factory.mktemp("clustered")
    result = compared_run(folder)
    return open_decision(Store.at(str(folder / "store")), result.ledger)


# --- flags


def test_a_filter_that_removes_much_of_a_rare_concept_is_flagged(flagged: Decision) -> None:
    found = losses_of(flagged)
    (loss,) = found.flagged
    assert (loss.step, loss.name, loss.reached, loss.stopped) == ("min_side_pixels", SCRIPT, 12, 10)
    assert (loss.pool, loss.kept) == (12, 2)
    assert loss.usual == pytest.approx(25 / 437)
    assert found.concepts == 4


def test_few_samples_are_not_enough_to_flag(tmp_path: Path) -> None:
    """Four of four are seen by accident with 1/16, five of five with 1/32."""
    found = losses_of(tagged(tmp_path, [*COMMON, *rows_of("four", 0, 4), *rows_of("five", 0, 5)]))
    assert [loss.name for loss in found.flagged] == ["five"]


def test_the_confidence_can_be_chosen(tmp_path: Path) -> None:
    recipe = RECIPE.replace("share_below: 0.05", "share_below: 0.05, confidence: 0.98")
    assert not losses_of(tagged(tmp_path / "a", [*COMMON, *rows_of("five", 0, 5)], recipe)).flagged
    assert losses_of(tagged(tmp_path / "b", [*COMMON, *rows_of("six", 0, 6)], recipe)).flagged


def test_a_concept_exactly_at_the_share_is_not_rare(tmp_path: Path) -> None:
    at = tagged(tmp_path / "at", [*rows_of("cat", 380, 0), *rows_of("owl", 0, 20)])
    below = tagged(tmp_path / "below", [*rows_of("cat", 381, 0), *rows_of("owl", 0, 19)])
    assert losses_of(at).flagged == ()
    assert [loss.name for loss in losses_of(below).flagged] == ["owl"]


def test_the_share_removed_can_be_chosen(tmp_path: Path) -> None:
    recipe = RECIPE.replace("share_below: 0.05", "share_below: 0.05, removes_above: 0.9")
    assert losses_of(tagged(tmp_path, [*COMMON, *RARE], recipe)).flagged == ()


# --- where the flags are shown


def test_the_report_warns_and_escapes_names(flagged: Decision) -> None:
    text = build_report(flagged)
    page = Page(text)
    assert "script" not in page.tags
    assert SCRIPT not in text
    section = text.split('id="concepts"')[1].split("</section>")[0]
    name = "&lt;script&gt;alert(1)&lt;/script&gt; [red]okapi[/red]"
    assert f"min_side_pixels removes 83.3 % of &#39;{name}&#39; (10 of 12; of all samples 5.7 %)" in section
    assert f"<bdi>{name}</bdi>" in section
    assert section.count('class="flagged"') == 1
    assert '1 filter removes much of a rare concept: see <a href="#concepts">' in text


def test_the_terminal_warns_without_obeying_markup(flagged: Decision) -> None:
    stream = io.StringIO()
    print_summary(flagged, Console(file=stream, width=200, no_color=True, highlight=False))
    line = f"  min_side_pixels removes 83.3 % of '{SCRIPT}' (10 of 12; of all samples 5.7 %)\n"
    assert f"filters that remove much of a rare concept\n{line}" in stream.getvalue()


def test_machines_read_the_same_beside_the_report(flagged: Decision) -> None:
    path = Path(write_report(flagged)).with_name("concepts.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found == losses_of(flagged).plain()
    assert found["concepts_from"] == {"tags": "seen"}
    assert found["rare_concepts"] == {"share_below": 0.05, "removes_above": 0.5, "confidence": 0.95}
    assert found["flagged_total"] == 1
    assert found["flagged"] == [
        {
            "filter": "min_side_pixels",
            "concept": SCRIPT,
            "reached": 12,
            "removed": 10,
            "share": 0.833333,
            "filter_share": round(25 / 437, 6),
            "pool": 12,
            "kept": 2,
        }
    ]


def test_where_nothing_is_flagged_nothing_is_warned_of(tmp_path: Path) -> None:
    decision = tagged(tmp_path, [*COMMON, *rows_of("dodo", 12, 1)])
    text = build_report(decision)
    assert "rare concept: see" not in text
    assert 'class="flagged"' not in text
    stream = io.StringIO()
    print_summary(decision, Console(file=stream, width=80, no_color=True))
    assert "rare concept" not in stream.getvalue()


def test_many_flags_are_counted_and_cut(tmp_path: Path) -> None:
    rare = [row for number in range(12) for row in rows_of(f"rare {number:02d}", 0, 9)]
    decision = tagged(tmp_path, [*rows_of("cat", 800, 0), *rare])
    found = losses_of(decision)
    assert len(found.flagged) == 12
    (group,) = found.steps(found.of_concepts)
    assert [loss.name for loss in group.losses] == [f"rare {number:02d}" for number in range(FLAGS_SHOWN)]
    assert group.unshown == 12 - FLAGS_SHOWN
    assert "and 4 more rare concepts" in build_report(decision)
    (line,) = found.warnings()
    assert line.startswith("min_side_pixels removes 100 % of 'rare 00' (9 of 9;")
    assert line.endswith(", and more than 50 % of 11 other rare concepts")


# --- the worst losses


def test_losses_beyond_chance_are_listed_the_surest_first(tmp_path: Path) -> None:
    rows = [*rows_of("cat", 900, 10), *rows_of("dog", 80, 20), *rows_of("owl", 80, 40), *rows_of("elk", 9, 1)]
    found = losses_of(tagged(tmp_path, rows))
    assert [loss.name for loss in found.of_concepts] == ["owl", "dog"]
    assert not any(loss.rare for loss in found.of_concepts)


def test_a_few_are_listed_for_each_filter(tmp_path: Path) -> None:
    rows = [row for number in range(9) for row in rows_of(f"c{number}", 30, 10)]
    found = losses_of(tagged(tmp_path, [*rows_of("cat", 900, 0), *rows]))
    assert len(found.of_concepts) == WORST


def test_a_host_that_loses_much_is_listed(tmp_path: Path) -> None:
    rows = [
        *rows_of("cat", 100, 2, "https://good.example.org/1.jpg"),
        *rows_of("cat", 3, 9, "https://www.bad.example.org/2.jpg"),
    ]
    decision = tagged(tmp_path, rows)
    (loss,) = losses_of(decision).of_sources
    assert (loss.name, loss.kind, loss.reached, loss.stopped) == ("bad.example.org", "host", 12, 9)
    assert not loss.rare
    section = build_report(decision).split('id="concepts"')[1].split("</section>")[0]
    assert "<bdi>bad.example.org</bdi>" in section


# --- what there is to tell concepts by


def test_clusters_are_concepts_with_the_words_of_the_page_of_clusters(clustered: Decision) -> None:
    found = losses_of(clustered)
    assert found.concept is not None
    assert (found.concept.kind, found.concept.name) == ("clusters", "drop_near_duplicates")
    sizes = run_sql(
        connect(clustered), "SELECT count(*) AS n FROM clusters WHERE step = 'drop_near_duplicates'"
    )
    assert found.concepts == sizes["n"][0].as_py() == len(found.words)
    assert all(len(words) > 0 for words in found.words.values())
    page = Path(write_report(clustered)).with_name("clusters.html").read_text(encoding="utf-8")
    for words in found.words.values():
        assert all(f"<bdi>{word}</bdi>" in page for word in words)


def test_the_section_says_where_clusters_come_from(clustered: Decision) -> None:
    text = build_report(clustered)
    assert "clusters of drop_near_duplicates" in text
    assert Page(text)


def test_a_recipe_that_tells_no_concepts_says_how_to_get_some(mixed: Decision) -> None:
    found = losses_of(mixed)
    assert (found.concept, found.concepts, found.flagged) == (None, 0, ())
    assert "Add a <code>concepts</code> measure" in build_report(mixed)
    assert found.plain()["concepts_from"] is None


def test_failed_rows_are_in_no_concept_and_reach_no_filter(mixed: Decision) -> None:
    (row,) = run_sql(connect(mixed), "FROM sources WHERE place = 1").to_pylist()
    assert (row["pool"], row["failed"], row["reached"]) == (16, 2, 14)


@pytest.mark.parametrize("members", [[], sample("1", photo(1), "a cat"), sample("1", b"", "failed")])
@pytest.mark.parametrize("filters", ["[]", "[{min_side_pixels: 9}]", "[drop_exact_duplicates]"])
def test_hardly_anything_to_report(decide: Decide, members: list[Any], filters: str) -> None:
    decision = decide([members], f"name: n\nmax_failed_fraction: 1\nfilters: {filters}")
    found = losses_of(decision)
    assert (found.of_concepts, found.of_sources, found.flagged) == ((), (), ())
    assert found.sources <= 1
    assert "concepts" in Page(build_report(decision)).ids


def test_tags_of_an_empty_or_untagged_pool(tmp_path: Path) -> None:
    found = losses_of(tagged(tmp_path, rows_of(None, 3, 1)))
    assert (found.concepts, found.of_concepts, found.flagged) == (0, (), ())
    assert found.concept is not None


def test_the_same_store_gives_the_same_bytes(flagged: Decision) -> None:
    assert build_report(flagged) == build_report(flagged)
