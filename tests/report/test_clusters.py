"""The page of clusters and copies."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from curate.query import Decision, open_decision
from curate.report import build_report, write_report
from curate.report import clusters as clusters_page
from curate.report.cluster_words import cluster_words, words_of
from curate.report.clusters import Clusters, Section, comparisons
from curate.report.page import build_clusters
from tests.compared import CAPTIONS, HOSTILE, RECIPE, compared_run
from tests.pools import photo, sample, write_tar
from tests.report.conftest import Decide
from tests.report.test_page import Page
from transforms.store import Store

STEPS = ("drop_exact_duplicates", "drop_near_duplicates", "prune_clusters")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Decision:
    """A decision whose filters compare samples; shared, so not to be harmed."""
    folder = tmp_path_factory.mktemp("compared")
    result = compared_run(folder)
    return open_decision(Store.at(str(folder / "store")), result.ledger)


def section_of(decision: Decision, step: str) -> Section:
    return next(one for one in comparisons(decision, {}).sections if one.fall.filter == step)


def clusters_of(decision: Decision, step: str) -> Clusters:
    found = section_of(decision, step).clusters
    assert found is not None
    return found


def test_every_comparison_has_a_section_and_the_page_is_well_formed(compared: Decision) -> None:
    page = Page(build_clusters(compared))
    assert set(STEPS) <= page.ids
    assert "img" in page.tags


def test_every_comparison_there_is_has_a_section(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float16)
    np.save(tmp_path / "examples.npy", numbers)
    write_tar(tmp_path / "set.tar", sample("leak", photo(3), "of an evaluation"))
    text = (
        RECIPE.partition("  - drop_exact")[0]
        + f"""\
  - drop_leaked: {{against: {tmp_path}/set.tar, set_name: my-set}}
  - drop_copies: {{method: pdq, flips: true, at_most_bits: 4}}
  - drop_similar_captions: {{jaccard_above: 1, clusters: 2}}
  - keep_target_clusters: {{examples: {tmp_path}/examples.npy, clusters: 3}}
output: {{report: false, shards: false}}
"""
    )
    result = compared_run(tmp_path / "run", text)
    text = build_clusters(open_decision(Store.at(str(tmp_path / "run/store")), result.ledger))
    assert set(result.manifest["relations"]) <= Page(text).ids
    assert "my-set" in text


def test_links_lead_to_something_and_nothing_is_loaded_or_executed(compared: Decision) -> None:
    text = build_clusters(compared)
    page = Page(text)
    assert "script" not in page.tags
    assert not page.handlers
    for link in page.links:
        assert link == "index.html" or link.startswith("data:image/jpeg;base64,") or link[1:] in page.ids
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_the_report_links_the_page_and_its_sections(compared: Decision, mixed: Decision) -> None:
    links = Page(build_report(compared)).links
    assert {"clusters.html", *(f"clusters.html#{step}" for step in STEPS)} <= set(links)
    assert "clusters.html" not in Page(build_report(mixed)).links


def test_both_pages_are_written_where_samples_are_compared(compared: Decision, mixed: Decision) -> None:
    folder = Path(write_report(compared)).parent
    assert (folder / "clusters.html").read_text(encoding="utf-8") == build_clusters(compared)
    assert not (Path(write_report(mixed)).parent / "clusters.html").exists()


def test_the_same_store_gives_the_same_bytes(compared: Decision) -> None:
    assert build_clusters(compared) == build_clusters(compared)


def test_captions_come_out_escaped_and_without_control_characters(compared: Decision) -> None:
    text = build_clusters(compared)
    assert "<b>bold</b>" not in text
    assert "a &lt;b&gt;bold&lt;/b&gt; \ufffd[2J [red]caption[/red]" in text
    assert "\x1b" not in text
    assert f"<bdi>{CAPTIONS[1]}</bdi>" in text


def test_every_cluster_is_shown_with_its_counts(compared: Decision) -> None:
    found = clusters_of(compared, "prune_clusters")
    assert found.total == len(found.shown) == len(found.listed) == 4
    assert found.samples == 15
    assert found.passed == compared.manifest["verdicts"]["keep"] == 7
    sizes = [cluster.row["samples"] for cluster in found.shown]
    assert sizes == sorted(sizes, reverse=True)
    assert found.quotas
    assert found.axis == "complexity"
    assert not clusters_of(compared, "drop_near_duplicates").quotas


def test_quota_and_complexity_stand_on_the_page(compared: Decision) -> None:
    text = build_clusters(compared).split('id="prune_clusters"')[1]
    assert text.count("<dt>quota</dt>") == 4
    assert "for complexity" in text


def test_pictures_go_from_the_centre_outwards_and_tell_what_became_of_them(compared: Decision) -> None:
    for step in STEPS[1:]:
        for cluster in clusters_of(compared, step).shown:
            distances = [tile.distance or 0.0 for tile in cluster.tiles]
            assert distances == sorted(distances)
            states = [tile.state for tile in cluster.tiles]
            assert len(states) == min(clusters_page.TILES, cluster.row["samples"])
            if len(states) < cluster.row["samples"]:
                continue
            assert states.count("stopped") == cluster.row["samples"] - cluster.row["passed"]
            assert states.count("kept") == cluster.row["kept"]


def test_neighbours_are_other_clusters_the_nearest_first(compared: Decision) -> None:
    for cluster in clusters_of(compared, "prune_clusters").shown:
        cosines = [other.cosine for other in cluster.neighbours]
        assert len(cosines) == 3
        assert cosines == sorted(cosines, reverse=True)
        assert cluster.number not in {other.cluster for other in cluster.neighbours}
        assert all(-1 <= cosine <= 1.0001 for cosine in cosines)


def test_many_clusters_are_cut_to_the_largest_and_the_most_pruned(
    compared: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters_page, "SHOWN", 3)
    monkeypatch.setattr(clusters_page, "LISTED", 3)
    whole = clusters_of(compared, "prune_clusters")
    assert len(whole.shown) <= len(whole.listed) == 3 < whole.total == 4
    assert whole.samples == 15
    text = build_clusters(compared)
    assert "of 4 clusters: the largest, and the most pruned of the others" in text
    assert "The 3 largest of 4 clusters as a table" in text
    assert Page(text)


def test_pairs_stand_on_both_sides_of_the_threshold(compared: Decision) -> None:
    groups = section_of(compared, "drop_near_duplicates").pairs
    assert [group.title for group in groups] == ["Just dropped", "Just stayed"]
    dropped, stayed = ([float(pair.likeness.split()[1]) for pair in group.pairs] for group in groups)
    assert dropped == sorted(dropped)
    assert stayed == sorted(stayed, reverse=True)
    assert min(dropped) > 0.999 >= max(stayed)
    assert len(dropped) == 5
    assert all(pair.original not in (None, pair.copy) for group in groups for pair in group.pairs)


def test_exact_copies_stand_beside_their_originals(compared: Decision) -> None:
    (group,) = section_of(compared, "drop_exact_duplicates").pairs
    assert [pair.likeness for pair in group.pairs] == ["equal", "equal"]
    assert all(pair.original not in (None, pair.copy) for pair in group.pairs)


def test_the_threshold_stands_in_the_histogram_and_its_table(compared: Decision) -> None:
    found = section_of(compared, "drop_near_duplicates").likeness
    assert found is not None
    histogram = found.chart.histogram
    assert [cut.bound.value for cut in histogram.cuts] == [0.999]
    assert sum(histogram.read) + histogram.below == histogram.rows == found.compared - found.lonely
    assert found.lonely == 1
    ours = [(above, bound) for bound, above, mine in found.thresholds if mine]
    assert ours == [(5, 0.999)]
    drops = [above for _, above, _ in found.thresholds]
    assert drops == sorted(drops, reverse=True)
    assert histogram.rows - 5 == sum(histogram.kept) + histogram.below


def test_what_the_comparison_says_of_itself_is_shown(compared: Decision) -> None:
    name = f"{compared.manifest['relations']['drop_near_duplicates']}/summary.json"
    before = compared.store.folder.read_json(name)
    summary = {
        "rows": 20,
        "recall": [{"above": 0.95, "pairs": 8, "found": 6}],
        "exchange": {"lots": 1},
        "note": "<i>",
        "none": None,
    }
    try:
        compared.store.folder.write_json(name, summary)
        recall, single = section_of(compared, "drop_near_duplicates").tables
        text = build_clusters(compared)
    finally:
        compared.store.folder.write_json(name, before)
    assert (recall.title, dict(zip(recall.header, recall.rows[0], strict=True))) == (
        "recall",
        {"above": "0.95", "found": "6", "pairs": "8", "share": "75.0 %"},
    )
    assert set(single.rows) == {("rows", "20"), ("exchange lots", "1"), ("note", "<i>"), ("none", "-")}
    assert "&lt;i&gt;" in text
    assert "<i>\n" not in text


def test_no_pictures_on_request(compared: Decision) -> None:
    text = build_clusters(compared, thumbnails=0)
    assert "<img" not in text
    assert Page(text)


def test_shards_that_are_gone_leave_captions(tmp_path: Path) -> None:
    result = compared_run(tmp_path)
    decision = open_decision(Store.at(str(tmp_path / "store")), result.ledger)
    for path in (tmp_path / "pool").iterdir():
        path.unlink()
    text = build_clusters(decision)
    assert "<img" not in text
    assert "picture not readable" in text
    assert Page(text)


def test_a_comparison_over_no_rows_has_no_page(decide: Decide) -> None:
    recipe = "name: n\nmax_failed_fraction: 1\nfilters:\n  - drop_exact_duplicates"
    decision = decide([[]], recipe)
    assert "clusters.html" not in build_report(decision)


# --- names


def test_a_cluster_is_named_by_what_is_rare_elsewhere() -> None:
    captions = {
        1: ["a photo of a ship", "a photo of the ship", "a ship"],
        2: ["a photo of a cat", "a photo of the cat", "a cat"],
    }
    assert cluster_words(captions) == {1: ("ship",), 2: ("cat",)}


def test_one_cluster_is_named_by_its_frequent_words() -> None:
    assert cluster_words({7: ["red boat", "red car", "red"]})[7][0] == "red"


def test_a_word_counts_once_in_a_caption() -> None:
    captions = {1: ["buy " * 50, "sea view", "sea view", "sea side"], 2: ["a cat"] * 4}
    assert cluster_words(captions)[1][0] == "sea"


def test_clusters_without_captions_have_no_words() -> None:
    assert cluster_words({1: ["", ""], 2: []}) == {1: (), 2: ()}


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("The Ship's bow, 2019 x", ["the", "ship's", "bow"]),
        ("Кошка на диване", ["кошка", "на", "диване"]),
        ("صورة قطة صغيرة", ["صورة", "قطة", "صغيرة"]),
        ("छोटी बिल्ली की तस्वीर", ["छोटी", "बिल्ली", "की", "तस्वीर"]),
        ("작은 고양이 사진", ["작은", "고양이", "사진"]),
        ("東京タワーと猫", ["東京", "タワー", "猫"]),
        ("一只黑猫", ["一只", "只黑", "黑猫"]),
        ("", []),
    ],
)
def test_words_of_every_script(caption: str, words: list[str]) -> None:
    assert words_of(caption) == words


def test_pairs_of_characters_do_not_overlap_in_a_name() -> None:
    captions = {1: ["一只黑猫坐在沙发上", "黑猫和沙发"], 2: ["海上的船", "一条大船"]}
    taken = "".join(cluster_words(captions)[1])
    assert len(taken) == len(set(taken))
    assert "黑猫" in taken


def test_control_characters_and_markup_are_in_no_name() -> None:
    assert all(word.isprintable() and "<" not in word for word in words_of(HOSTILE))
