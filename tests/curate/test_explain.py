"""Every verdict can be explained by value, bound and vote of every filter."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.commands import explain_command
from curate.explain import Explanation, explain
from curate.query import open_decision
from filters.core.errors import QueryError
from tests.compared import HOSTILE, compared_run
from tests.pools import Member, photo, sample, write_tar
from tests.running import ask, curate, why
from transforms.store import Store

RECIPE = """\
name: told
pool: {retry_seconds: [], max_pixels: 100000}
filters:
  - min_side_pixels: 30
  - caption_words: {at_least: 3, at_most: 5}
  - drop_exact_duplicates: pixels
  - top_fraction: {by: luminance_entropy, samples: 2}
output: {report: false, shards: false}
max_failed_fraction: 1
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("told")
    members: list[Member] = []
    members += sample("fine", photo(1), "a good small picture")
    members += sample("twin", photo(1), "the same small picture")
    members += sample("tiny", photo(2, side=20), "a very small picture")
    members += sample("words", photo(3), "two words")
    members += sample("broken", b"", "no bytes in this")
    members += sample("other", photo(4), "yet another small picture")
    members += sample("worst", photo(5), "the dullest of them all")
    write_tar(folder / "pool" / "0.tar", members)
    write_tar(folder / "pool" / "1.tar", sample("it's", photo(6), "a key with a quote"))
    curate(RECIPE, folder / "pool", folder / "store")
    return folder / "store"


def decided(found: Explanation) -> list[str]:
    return [vote.filter for vote in found.votes if vote.decided]


def test_a_row_filter_tells_value_and_bound(store: Path) -> None:
    found = why(store, "tiny")
    assert found.sample["verdict"] == "drop"
    assert decided(found) == ["min_side_pixels"]
    vote = found.votes[0]
    assert (vote.value, vote.bound, vote.vote) == ("20", "at least 30 pixels", "drop")
    assert [vote.filter for vote in found.votes][1:] == [
        "caption_words",
        "drop_exact_duplicates",
        "top_fraction",
    ]


def test_a_relational_filter_tells_the_original(store: Path) -> None:
    pair = [why(store, name) for name in ("fine", "twin")]
    (copy,) = [found for found in pair if found.sample["dropped_by"] == "drop_exact_duplicates"]
    (original,) = [found for found in pair if found is not copy]
    assert decided(copy) == ["drop_exact_duplicates"]
    assert copy.votes[2].value == copy.sample["duplicate_of"] == original.sample["uid"]


def test_a_row_that_never_reached_a_comparison_says_so(store: Path) -> None:
    assert why(store, "tiny").votes[2].vote == "not compared"


def test_a_fitted_filter_tells_the_bound_that_it_found(store: Path) -> None:
    (row,) = ask(store, "SELECT key FROM samples WHERE dropped_by = 'top_fraction' LIMIT 1")
    found = why(store, row["key"])
    assert decided(found) == ["top_fraction"]
    assert "the best 2 of the survivors" in found.votes[3].bound


def test_votes_equal_those_of_the_ledger(store: Path) -> None:
    for row in ask(store, "SELECT key, votes FROM samples WHERE failure IS NULL"):
        found = why(store, row["key"])
        names = {"keep": True, "drop": False, "null": None, "not compared": None}
        assert {vote.filter: names[vote.vote] for vote in found.votes} == row["votes"]


def test_a_kept_row_has_no_deciding_filter(store: Path) -> None:
    (row,) = ask(store, "SELECT key FROM samples WHERE verdict = 'keep' LIMIT 1")
    assert decided(why(store, row["key"])) == []


def test_a_failed_row_tells_its_failure_and_no_votes(store: Path) -> None:
    found = why(store, "broken")
    assert (found.sample["verdict"], found.sample["failure"]) == ("failed", "zero_bytes")
    assert found.votes == ()


def test_a_row_is_found_by_uid_in_any_case(store: Path) -> None:
    uid = why(store, "tiny").sample["uid"]
    assert why(store, uid).sample["key"] == "tiny"
    assert why(store, uid.upper()).sample["key"] == "tiny"


def test_a_key_with_a_quote_is_found(store: Path) -> None:
    assert why(store, "it's").sample["key"] == "it's"


def test_an_unknown_name_is_told(store: Path) -> None:
    with pytest.raises(QueryError, match="no sample with key or uid 'nobody' in told-"):
        why(store, "nobody")


def test_a_name_that_is_sql_is_only_a_name(store: Path) -> None:
    with pytest.raises(QueryError, match="no sample with key or uid"):
        why(store, "' OR 1=1 --")


def test_every_sample_of_a_key_is_explained(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / "pool" / f"{number}.tar", sample("same", photo(number), "a b c"))
    curate(RECIPE, tmp_path / "pool", tmp_path / "store")
    found = explain(open_decision(Store.at(str(tmp_path / "store"))), "same")
    assert [one.sample["shard"][-5:] for one in found] == ["0.tar", "1.tar"]


def test_a_quarantined_row_tells_that_its_value_is_missing(tmp_path: Path) -> None:
    from tests.pools import metadata_shard

    rows: list[dict[str, object]] = [{"clip_b32_similarity_score": 0.3}, {"clip_b32_similarity_score": None}]
    metadata_shard(tmp_path / "pool" / "0.parquet", rows)
    text = (
        "name: q\nfilters:\n  - min_clip_cosine: {at_least: 0.2, encoder: clip_b32}\n"
        "output: {report: false}\n"
    )
    run = curate(text, tmp_path / "pool", tmp_path / "store")
    assert run.counts == {"keep": 1, "drop": 0, "quarantine": 1, "failed": 0}
    found = why(tmp_path / "store", f"{1:032x}")
    assert found.sample["verdict"] == "quarantine"
    assert [(vote.vote, vote.value, vote.decided) for vote in found.votes] == [("null", "", True)]


# --- what the sample was compared with


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    compared_run(folder)
    return folder / "store"


def one_dropped(store: Path, step: str) -> dict[str, object]:
    rows = ask(
        store,
        f"SELECT uid, key, caption, duplicate_of, shard FROM {step} WHERE dropped_by = '{step}' ORDER BY key",  # noqa: S608
    )
    return rows[0]


def test_a_near_duplicate_tells_its_original_and_the_similarity(compared: Path) -> None:
    row = one_dropped(compared, "drop_near_duplicates")
    found = why(compared, str(row["key"]))
    (original,) = [one for one in found.originals if one.decided]
    assert original.filter == "drop_near_duplicates"
    assert original.sample["uid"] == row["duplicate_of"] == found.sample["duplicate_of"]
    assert original.sample["caption"] is not None
    assert original.likeness.startswith("cosine 0.999")
    assert [member.filter for member in found.clusters] == ["drop_near_duplicates"]


def test_a_sample_that_stayed_tells_the_nearest_other_and_its_clusters(compared: Path) -> None:
    (row,) = ask(
        compared,
        "SELECT key FROM drop_near_duplicates WHERE verdict = 'keep' AND duplicate_of IS NOT NULL "
        "ORDER BY key LIMIT 1",
    )
    found = why(compared, row["key"])
    assert [(one.filter, one.decided) for one in found.originals] == [("drop_near_duplicates", False)]
    assert [member.filter for member in found.clusters] == ["drop_near_duplicates", "prune_clusters"]
    assert found.clusters[1].cluster["quota"] == found.clusters[1].cluster["passed"]


def test_an_exact_copy_with_the_uid_of_its_original_names_the_other_row(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / "pool" / f"{number}.tar", sample(f"k{number}", photo(1), "a small picture"))
    curate(RECIPE, tmp_path / "pool", tmp_path / "store")
    (original,) = why(tmp_path / "store", "k1").originals
    assert (original.sample["key"], original.likeness, original.decided) == ("k0", "equal", True)
    assert why(tmp_path / "store", "k0").originals == ()


def test_the_original_is_printed_without_control_characters(
    compared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (row,) = ask(
        compared,
        "SELECT n.key FROM drop_near_duplicates n JOIN samples s ON s.uid = n.duplicate_of "
        "WHERE s.caption LIKE '%[2J%' ORDER BY n.key LIMIT 1",
    )
    explain_command(Store.at(str(compared)), row["key"], None)
    said = capfd.readouterr().out
    assert "\x1b" not in said
    assert HOSTILE.replace("\x1b", "\ufffd") in " ".join(said.split())
    assert "in drop_near_duplicates; itself" in said
    assert "of drop_near_duplicates: " in said
