"""The HTML report."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.plan import make_plan
from curate.query import Decision, open_decision
from curate.recipe import parse_recipe
from curate.report import build_report, write_report
from curate.run import RunOptions, run_recipe
from tests.pools import photo, sample
from tests.report.conftest import ARABIC, QUOTED_KEY, SCRIPT, SVG, Decide, mixed_members
from transforms.store import Store

SECTIONS = ("overview", "waterfall", "signals", "overlap", "samples", "borderline", "failures", "recipe")
_VOID = {"meta", "img", "br", "link", "wbr"}


class Page(HTMLParser):
    """Elements and attributes of a page; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in ("src", "href", "srcset", "action", "data", "poster") and value:
                self.links.append(value)
            if name.startswith("on"):
                self.handlers.append(name)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def numbers_of(text: str, verdict: str) -> int:
    found = re.search(rf'<div class="f-{verdict}[^"]*"><dt>.*?</dt><dd>([\d,]+)</dd>', text)
    assert found is not None
    return int(found.group(1).replace(",", ""))


def test_every_section_is_there_and_well_formed(mixed: Decision) -> None:
    page = Page(build_report(mixed))
    assert set(SECTIONS) <= page.ids
    assert "img" in page.tags
    assert "svg" in page.tags


def test_the_numbers_are_those_of_the_manifest_and_add_up(mixed: Decision) -> None:
    text = build_report(mixed)
    shown = {verdict: numbers_of(text, verdict) for verdict in ("keep", "drop", "quarantine", "failed")}
    assert shown == mixed.manifest["verdicts"]
    assert sum(shown.values()) == mixed.manifest["rows"] == 16
    assert shown["failed"] == 2


def test_nothing_is_loaded_or_executed(mixed: Decision) -> None:
    text = build_report(mixed)
    page = Page(text)
    assert "script" not in page.tags
    assert not page.handlers
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in page.links)
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_captions_and_keys_come_out_escaped(mixed: Decision) -> None:
    text = build_report(mixed)
    for untrusted in (SCRIPT, SVG, QUOTED_KEY, "for <tests> & people"):
        assert untrusted not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; on a sunny day" in text
    assert "&lt;svg onload=alert(2)&gt;" in text
    assert "a&#34;b&#39;c&lt;i&gt;" in text


def test_right_to_left_text_is_isolated(mixed: Decision) -> None:
    assert f"<bdi>{ARABIC}</bdi>" in build_report(mixed)


def test_a_long_caption_is_cut(decide: Decide) -> None:
    text = build_report(decide([sample("1", photo(1, side=64), "word " * 2000)], "name: n\nfilters: []"))
    assert "word " * 100 not in text
    assert "…" in text


def test_the_same_store_gives_the_same_bytes(mixed: Decision) -> None:
    assert build_report(mixed) == build_report(mixed)


def test_each_bound_is_drawn_on_the_signal_it_cuts_and_only_there(mixed: Decision) -> None:
    text = build_report(mixed)
    assert text.count("min_side_pixels ≥ 40</span>") == 2  # width and height
    assert "caption_words ≥ 3" in text
    assert "caption_words ≤ 6" in text
    assert "top_fraction ≥" in text
    assert "max_aspect_ratio ≤" not in re.sub(r"<h3>.*?</h3>", "", text)  # a ratio is no side


def test_borderline_samples_stand_on_both_sides(mixed: Decision) -> None:
    text = build_report(mixed).split('id="borderline"')[1]
    assert "Just stopped by min_side_pixels" in text
    assert "Just passed min_side_pixels" in text
    assert text.index("Just stopped by min_side_pixels") < text.index("Just passed caption_words")


def test_failures_have_meaning_and_place(mixed: Decision) -> None:
    text = build_report(mixed).split('id="failures"')[1]
    assert "the image member is empty" in text
    assert "not_an_image" in text
    assert "00000.tar" in text


def test_shards_that_are_gone_leave_placeholders(decide: Decide, tmp_path: Path) -> None:
    decision = decide([sample("1", photo(1), "a cat")], "name: n\nfilters: []")
    (tmp_path / "pool" / "00000.tar").unlink()
    text = build_report(decision)
    assert "picture not readable" in text
    assert "<img" not in text


def test_a_missing_shard_is_named(decide: Decide, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "00009.tar").write_bytes(b"no tar at all" * 100)
    recipe = "name: n\nmax_failed_fraction: 1\npool: {retry_seconds: []}\nfilters: []"
    text = build_report(decide([sample("1", photo(1), "a cat")], recipe))
    assert "00009.tar" in text.split('id="failures"')[1]


@pytest.mark.parametrize("recipe", ["name: n\nfilters: []", "name: n\nfilters:\n  - min_side_pixels: 9"])
def test_one_row(decide: Decide, recipe: str) -> None:
    text = build_report(decide([sample("1", photo(1), "a single cat")], recipe))
    assert set(SECTIONS) <= Page(text).ids
    assert numbers_of(text, "keep") == 1


def test_all_failed(decide: Decide) -> None:
    filters = "filters:\n  - min_side_pixels: 9\n  - top_fraction: {by: width, keep: 0.5}"
    recipe = f"name: n\nmax_failed_fraction: 1\n{filters}"
    text = build_report(decide([sample("1", b"", "a") + sample("2", b"", "b")], recipe))
    assert numbers_of(text, "failed") == 2
    assert "No sample has a value." in text
    assert "No samples to show." in text


def test_nothing_kept(decide: Decide) -> None:
    text = build_report(
        decide([sample("1", photo(1), "a single cat")], "name: n\nfilters:\n  - min_side_pixels: 999")
    )
    assert "Nothing was kept" in text
    assert numbers_of(text, "drop") == 1


def test_no_rows(decide: Decide) -> None:
    text = build_report(
        decide(
            [[]],
            "name: n\nmax_failed_fraction: 1\nfilters:\n  - min_side_pixels: 9\n  - drop_exact_duplicates",
        )
    )
    assert "No sample was read" in text
    assert set(SECTIONS) <= Page(text).ids


def test_no_thumbnails_on_request(mixed: Decision) -> None:
    assert "<img" not in build_report(mixed, thumbnails=0)


def test_the_report_is_written_into_the_store(mixed: Decision) -> None:
    path = write_report(mixed)
    assert path == mixed.store.folder.path(f"report/{mixed.ledger}/index.html")
    assert Path(path).read_text(encoding="utf-8") == build_report(mixed)


def test_a_store_that_is_no_local_folder(decide: Decide) -> None:
    decision = decide([mixed_members()], store="memory://report-test/store")
    assert write_report(decision) == f"memory://report-test/store/report/{decision.ledger}/index.html"
    assert decision.store.folder.exists(f"report/{decision.ledger}/index.html")


def test_a_parquet_pool_shows_its_pictures(tmp_path: Path) -> None:
    table = pa.table({"image": [photo(1), photo(2)], "caption": ["a cat", "a dog"]})
    samples = (
        build_report(parquet_decision(tmp_path, table)).split('id="samples"')[1].split('id="borderline"')[0]
    )
    assert samples.count("<img") == 2


def test_a_metadata_pool_shows_captions_without_pictures(tmp_path: Path) -> None:
    columns = {"uid": ["0" * 31 + "1", "0" * 31 + "2"], "text": ["a cat", SCRIPT], "url": [None, None]}
    sizes = {"original_width": [100, 200], "original_height": [100, 200]}
    scores = {name: [0.2, 0.3] for name in ("clip_b32_similarity_score", "clip_l14_similarity_score")}
    text = build_report(parquet_decision(tmp_path, pa.table({**columns, **sizes, **scores})))
    assert "This pool holds no images" in text
    assert "<img" not in text
    assert "a cat" in text


def parquet_decision(folder: Path, table: pa.Table) -> Decision:
    (folder / "pool").mkdir()
    pq.write_table(table, folder / "pool" / "0.parquet")
    store = Store.at(str(folder / "store"))
    plan = make_plan(parse_recipe("name: n\nfilters:\n  - min_side_pixels: 9"), [str(folder / "pool")], store)
    return open_decision(store, run_recipe(plan, RunOptions(), lambda _: None).ledger)
