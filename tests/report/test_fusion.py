"""The section on the detectors that a `fuse` combines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.query import Decision, open_decision
from curate.report import build_report
from curate.report.fusion import find_fusions
from tests.pools import metadata_shard
from tests.report.conftest import Decide
from tests.report.test_page import Page
from tests.running import curate
from transforms.store import Store

ROWS = 600
NOISE = np.random.default_rng(0).random(ROWS) < 0.3
VOTES = (
    "[clip_b32_cosine, clip_l14_cosine, "
    "{by: width, high: noise, group: <b>sizes</b>}, {by: height, high: noise, group: sizes}]"
)
RECIPE = """\
name: fused
filters:
  - fuse: {{votes: {votes}, {bounds}}}
  - caption_words: 1
output: {{report: false, subset: false}}
"""


def decided(folder: Path, votes: str = VOTES, bounds: str = "drop_if_p_noise_above: 0.6") -> Decision:
    """The decision over a pool of metadata whose columns tell noise from clean pairs."""
    generator = np.random.default_rng(1)
    scores = [generator.normal(0.3 - 0.1 * NOISE, 0.04) for _ in range(2)]
    sides = [generator.normal(400 + 100 * NOISE, 40).astype(int) for _ in range(2)]
    names = ("clip_b32_similarity_score", "clip_l14_similarity_score", "original_width", "original_height")
    columns = zip(names, (*scores, *sides), strict=True)
    values = {name: column.tolist() for name, column in columns}
    rows = [{name: column[at] for name, column in values.items()} for at in range(ROWS)]
    metadata_shard(folder / "pool" / "0.parquet", rows)
    result = curate(RECIPE.format(votes=votes, bounds=bounds), folder / "pool", folder / "store")
    return open_decision(Store.at(str(folder / "store")), result.ledger)


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Decision:
    return decided(tmp_path_factory.mktemp("fused"))


def section(text: str) -> str:
    """The section's part of the page."""
    assert Page(text).ids >= {"fusion"}
    return text.split('<section id="fusion">')[1].split("</section>", maxsplit=1)[0]


def cells(text: str, kind: str) -> list[str]:
    """The numbers in the cells of one table of the section, row by row."""
    table = text.split(f'<table class="{kind}">')[1].split("</table>", maxsplit=1)[0]
    return re.findall(r'<td class="n[^>]*>([^<]*)</td>', table)


def test_every_detector_stands_there_with_its_weight(fused: Decision) -> None:
    (found,) = find_fusions(fused.manifest)
    assert found.reason is None
    assert [one.column for one in found.detectors] == [
        "clip_b32_cosine",
        "clip_l14_cosine",
        "width",
        "height",
    ]
    assert [one.high for one in found.detectors] == ["clean", "clean", "noise", "noise"]
    assert sum(one.share or 0 for one in found.detectors) == pytest.approx(1)
    assert found.samples == ROWS
    shown = cells(section(build_report(fused)), "falls")
    assert len(shown) == 16
    assert shown[::4] == ["100.0 %"] * 4
    assert shown[3] == f"{100 * (found.detectors[0].share or 0):.1f} %"


def test_the_matrix_is_that_of_the_artefact_and_stronger_where_votes_agree(fused: Decision) -> None:
    overview = fused.manifest["artefacts"]["fuse"]["overview"]
    shown = cells(section(build_report(fused)), "overlap")
    assert shown == [f"{value:.2f}" for row in overview["correlation"] for value in row]
    (found,) = find_fusions(fused.manifest)
    pairs = found.detectors[0].pairs
    assert [pair.shade for pair in pairs] == [round(max(pair.correlation or 0, 0), 3) for pair in pairs]
    assert "% of votes are equal" in section(build_report(fused))


def test_names_come_out_escaped(fused: Decision) -> None:
    text = section(build_report(fused))
    assert "<b>sizes</b>" not in text
    assert "&lt;b&gt;sizes&lt;/b&gt;" in text


def test_the_same_store_gives_the_same_bytes(fused: Decision) -> None:
    assert build_report(fused) == build_report(fused)


def test_the_page_links_the_section_only_where_something_is_fused(fused: Decision, mixed: Decision) -> None:
    assert "#fusion" in Page(build_report(fused)).links
    assert "#fusion" not in Page(build_report(mixed)).links
    assert find_fusions(mixed.manifest) == []


def test_why_there_is_no_answer_stands_there_with_what_is_known(tmp_path: Path) -> None:
    text = section(build_report(decided(tmp_path, VOTES.replace("high: noise", "high: clean"))))
    assert "No answer, every sample is null: <bdi>" in text
    assert "says noise where the others say clean" in text
    assert cells(text, "falls")[:4] == ["100.0 %", "-", "-", "-"]
    assert len(cells(text, "overlap")) == 16


def test_a_detector_that_says_nothing_has_no_correlation(tmp_path: Path) -> None:
    votes = "[clip_b32_cosine, clip_l14_cosine, {by: width, high: noise}, caption_words]"
    text = section(build_report(decided(tmp_path, votes)))
    assert cells(text, "overlap")[3] == "-"
    assert 'class="n own zero"' in text


def test_a_pool_without_samples_has_a_section_that_says_so(decide: Decide) -> None:
    fuse = "fuse: {votes: [width, sharpness, luminance_entropy], drop_if_p_noise_above: 0.6}"
    text = section(build_report(decide([[]], f"name: n\nmax_failed_fraction: 1\nfilters:\n  - {fuse}\n")))
    assert "No answer, every sample is null: <bdi>" in text
    assert "samples;" not in text


def test_an_audited_sample_tells_what_it_chose(tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    answers.write_text("uid,ok\n" + "".join(f"{at:032x},{int(not NOISE[at])}\n" for at in range(0, ROWS, 2)))
    decision = decided(tmp_path, bounds=f"audited: {answers}, precision: 0.85")
    audit: dict[str, Any] = decision.manifest["artefacts"]["fuse"]["audit"]
    text = " ".join(section(build_report(decision)).split())
    assert "Bounds chosen by 300 of 300 audited samples" in text
    assert f"at least {100 * audit['kept']['precision_at_least']:.1f} % are right" in text
    assert "dropped where p_noise" in text


def test_audited_votes_that_cannot_be_fused_chose_nothing(tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    answers.write_text(f"uid,ok\n{0:032x},1\n")
    votes = VOTES.replace("high: noise", "high: clean")
    text = section(build_report(decided(tmp_path, votes, f"audited: {answers}")))
    assert "says noise where the others say clean" in text
    assert "Bounds chosen" not in text
