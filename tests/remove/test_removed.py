"""What a removal takes out of a store, and all that it leaves as it was."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.explain import explain
from curate.query import open_decision
from curate.remove.find import Asked
from curate.report import write_report
from curate.search.engine import SearchEngine
from filters.core.errors import TooManyFailures
from tests.remove.conftest import (
    ANOTHER,
    CAPTION,
    KEY,
    LARGER,
    RECIPE,
    SECRETS,
    TWIN,
    UID,
    URL,
    take,
    uid_of,
    zebra,
)
from tests.remove.looking import arrays_of, check_markers, content_of, files_with, tables_of
from tests.running import ask, curate, files_of
from transforms.removal.marks import stand_in
from transforms.store import Store

# Rows that go: the sample, its twin, and another image of its URL; by shard.
GONE = {"00000": 7, "00001": 3, "00002": 8}


def shard_of(name: str) -> str:
    return Path(name).name[:5]


def test_the_store_holds_what_is_to_be_removed(untouched: Path) -> None:
    """Or the next test could not fail."""
    found = files_with(untouched, *SECRETS, zebra())
    kinds = {name.split("/")[0] for name in found}
    assert kinds >= {"signals", "ledger", "curated", "subsets", "audit", "report", "artefacts", "relations"}


def test_nothing_of_the_sample_is_left_in_any_file(store: Path) -> None:
    record = take(store)
    others = [text for number in (TWIN, ANOTHER) for text in (uid_of(number), f"thing number {number}")]
    assert files_with(store, *SECRETS, *others, zebra()) == []
    assert record["state"] == "done"
    assert record["counts"] == {"uid": 1, "same url": 1, "same image": 1}
    assert CAPTION not in json.dumps(record)


def test_embeddings_hashes_and_thumbnails_of_the_rows_are_gone(store: Path) -> None:
    take(store)
    for name, table in tables_of(store).items():
        row = table.slice(GONE[shard_of(name)], 1).to_pylist()[0]
        if name.startswith("signals/samples-"):
            part = Path(name).stem
            mine = stand_in(part, GONE[shard_of(name)])
            told = {"shard", "row", "uid", "key", "failure", "failure_detail"}
            assert {column for column, value in row.items() if value is not None} == told
            assert (row["uid"], row["key"], row["failure"]) == (mine, mine, "removed")
        elif name.startswith("ledger/"):
            assert (row["verdict"], row["weight"], row["uid"]) == (
                "failed",
                0,
                stand_in(Path(name).stem, row_of(name)),
            )
            others = {
                key: value for key, value in row.items() if key not in ("verdict", "weight", "uid", "votes")
            }
            assert set(others.values()) == set(row["votes"].values()) == {None}
        else:
            assert set(row.values()) == {None}, name
    for name, array in arrays_of(store).items():
        assert np.isnan(array[GONE[shard_of(name)]]).all(), name


def row_of(name: str) -> int:
    return GONE[shard_of(name)]


def test_every_other_row_is_what_it_was(store: Path, untouched: Path) -> None:
    part = next(Path(name).stem for name in tables_of(store) if shard_of(name) == "00001")
    take(store)
    before, after = tables_of(untouched), tables_of(store)
    assert before.keys() == after.keys()
    for name, table in after.items():
        rows = [row for row in range(table.num_rows) if row != GONE[shard_of(name)]]
        expected = before[name].take(rows).to_pylist()
        for row in expected:
            for column in ("duplicate_of", "value_text"):
                if row.get(column) == UID:
                    row[column] = stand_in(part, GONE["00001"])
        assert table.schema == before[name].schema
        assert table.take(rows).to_pylist() == expected, name
    for name, array in arrays_of(store).items():
        rows = [row for row in range(len(array)) if row != GONE[shard_of(name)]]
        np.testing.assert_array_equal(array[rows], arrays_of(untouched)[name][rows])


def test_counts_add_up_and_markers_tell_the_truth(store: Path, untouched: Path) -> None:
    before = open_decision(Store.at(str(untouched))).manifest
    take(store)
    after = open_decision(Store.at(str(store))).manifest
    assert after["ledger"] == before["ledger"]
    assert after["rows"] == before["rows"] == sum(after["verdicts"].values())
    # Kept were the sample and the one of its URL; the twin was dropped as a copy.
    assert after["verdicts"] == {
        "keep": before["verdicts"]["keep"] - 2,
        "drop": before["verdicts"]["drop"] - 1,
        "quarantine": 0,
        "failed": 3,
    }
    assert sum(after["dropped_by"].values()) == after["verdicts"]["drop"]
    for part in after["parts"]:
        assert sum(part["verdicts"].values()) == part["rows"]
    assert after["overlap"] == counted_overlap(store, after["ledger"])
    assert check_markers(store) > 30


def counted_overlap(store: Path, ledger: str) -> list[list[int]]:
    names = [item["name"] for item in open_decision(Store.at(str(store))).manifest["recipe"]["filters"]]
    rows = ask(store, "SELECT votes FROM samples WHERE verdict <> 'failed'", ledger)
    against = [{name for name in names if row["votes"][name] is False} for row in rows]
    return [[sum(one in some and other in some for some in against) for other in names] for one in names]


def test_curated_tars_lose_the_members_and_nothing_else(store: Path, untouched: Path) -> None:
    take(store)
    changed = 0
    for tar in sorted((store / "curated").rglob("*.tar")):
        before = members_of(untouched / tar.relative_to(store))
        after = members_of(tar)
        stays = {
            name: piece
            for name, piece in before.items()
            if not name.startswith((f"{KEY}.", f"k00{ANOTHER}."))
        }
        assert after == stays
        assert tar.read_bytes() == b"".join(stays.values()) + bytes(1024)
        changed += after != before
    assert changed == 2
    layout = json.loads(next((store / "curated").rglob("layout.json")).read_text())
    assert sum(layout["removed"].values()) == 2


def members_of(tar: Path) -> dict[str, bytes]:
    """Each member's header and padded bytes, as they stand in the file."""
    whole = tar.read_bytes()
    with tarfile.open(tar) as archive:
        return {one.name: whole[one.offset : one.offset_data + -(-one.size // 512) * 512] for one in archive}


def test_subsets_and_reference_sets_hold_the_others_in_order(store: Path, untouched: Path) -> None:
    take(store)
    (subset,) = (store / "subsets").glob("*.npy")
    before = np.load(untouched / subset.relative_to(store))
    after = np.load(subset)
    assert (len(before) - len(after), after.dtype) == (2, before.dtype)
    np.testing.assert_array_equal(after, before[np.isin(before, after)])
    (reference,) = (store / "artefacts").glob("*-reference.npy")
    assert len(np.load(untouched / reference.relative_to(store))) - len(np.load(reference)) == 3


def test_what_could_show_the_sample_is_gone_and_can_be_made_again(store: Path) -> None:
    take(store)
    for name in ("report", "index"):
        assert [path for path in (store / name).rglob("*") if path.is_file()] == []
    assert not list((store / "audit").rglob("*.html"))
    (drawn,) = (store / "audit").rglob("sample.csv")
    assert stand_in(next((store / "signals").glob("samples-*/00001-*.parquet")).stem, 3) in drawn.read_text()
    decision = open_decision(Store.at(str(store)))
    write_report(decision)
    assert files_with(store / "report", *SECRETS) == []
    found = SearchEngine(decision).by_image(zebra(), k=25)
    assert found.num_rows == 22
    assert not set(found["key"].to_pylist()) & {KEY, f"k00{TWIN}", f"k00{ANOTHER}"}


def test_a_removed_row_is_among_the_failures_and_explained(store: Path) -> None:
    take(store)
    rows = ask(store, 'SELECT row, key, member, "offset", code FROM failures ORDER BY shard')
    assert [row["code"] for row in rows] == ["removed"] * 3
    assert [row["row"] for row in rows] == list(GONE.values())
    assert {(row["member"], row["offset"]) for row in rows} == {(None, None)}
    (found,) = explain(open_decision(Store.at(str(store))), rows[0]["key"])
    assert (found.sample["verdict"], found.sample["failure"], found.votes) == ("failed", "removed", ())


def test_a_copy_of_a_removed_sample_stays_dropped_and_names_its_place(store: Path) -> None:
    """Null would say that it is no copy, and the next decision would keep it."""
    take(store)
    row = of_uid(store, uid_of(LARGER))
    assert (row["verdict"], row["dropped_by"]) == ("drop", "drop_copies")
    assert of_uid(store, row["duplicate_of"])["failure"] == "removed"
    (found,) = explain(open_decision(Store.at(str(store))), uid_of(LARGER))
    assert found.originals[0].sample["verdict"] == "failed"
    run = curate(RECIPE.replace("keep: 0.9", "keep: 0.8"), pool_of(store), store)
    again = of_uid(store, uid_of(LARGER), run.ledger)
    assert (again["verdict"], again["dropped_by"]) == ("drop", "drop_copies")


def of_uid(store: Path, uid: str, ledger: str | None = None) -> dict[str, Any]:
    (row,) = (row for row in ask(store, "SELECT * FROM samples", ledger) if row["uid"] == uid)
    return row


def pool_of(store: Path) -> Path:
    return Path(ask(store, "SELECT shard FROM samples")[0]["shard"]).parent


def test_the_same_recipe_finds_its_decision_and_brings_nothing_back(store: Path) -> None:
    take(store)
    before = files_of(store)
    said: list[str] = []
    curate(RECIPE, pool_of(store), store, said=said)
    assert said == ["all 3 shards are measured"]
    assert files_of(store) == before


def test_removed_rows_are_no_failures_of_the_pool(store: Path) -> None:
    """Three of 25 rows are more than the recipe's bound, 5 %; what failed by itself still counts."""
    take(store)
    curate(RECIPE, pool_of(store), store)
    for path in (store / "signals").glob("samples-*/*.done.json"):
        marker = json.loads(path.read_text())
        assert (marker["failed_rows"], marker.pop("removed_rows")) == (1, 1)
        path.write_text(json.dumps(marker))
    with pytest.raises(TooManyFailures, match="3 of 25 samples failed"):
        curate(RECIPE, pool_of(store), store)


def test_a_lost_tar_is_written_again_without_the_sample(store: Path) -> None:
    take(store)
    before = files_of(store)
    for marker in (store / "curated").rglob("*.done.json"):
        marker.unlink()
        marker.with_name(marker.name.replace(".done.json", ".tar")).unlink()
    curate(RECIPE, pool_of(store), store)
    assert files_of(store) == before


def test_the_record_tells_who_why_and_what_changed(store: Path, untouched: Path) -> None:
    record = take(store)
    (name,) = (store / "removed").glob("*-0001.json")
    assert json.loads(name.read_text()) == record
    assert (record["by"], record["reason"]) == ("A. Person", "asked by mail")
    assert {kind: len(marks) for kind, marks in record["marks"].items()} == {"uid": 3, "url": 1, "image": 1}
    changed = {
        file
        for file in {*files_of(store), *files_of(untouched)}
        if not file.startswith("removed/")
        and content_or_none(store / file) != content_or_none(untouched / file)
    }
    assert {file for file, told in record["files"].items() if told["before"] != told["after"]} == changed
    assert set(record["places"]) == {Path(file).stem for file in tables_of(store)}


def content_or_none(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def test_what_was_never_committed_goes_too(store: Path) -> None:
    """A killed run leaves files without a marker, which nobody reads and nobody would look into."""
    table = next((store / "signals").glob("content_hashes-*/00001-*.parquet"))
    table.with_name(table.name.replace(".parquet", ".done.json")).unlink()
    embedded = next((store / "embeddings").rglob("txt/00001-*.npy"))
    next((store / "signals").glob("clip-*/00001-*.done.json")).unlink()
    work = next((store / "relations").iterdir()) / "work"
    work.mkdir()
    (work / "sorted.npy").write_bytes(UID.encode())
    fit = store / "artefacts" / "half.json"
    fit.write_text('{"complete": false, "prefix": []}')
    take(store)
    assert not any(path.exists() for path in (table, embedded, work, fit))
    assert files_with(store, *SECRETS) == []


def test_a_second_removal_adds_to_the_first(store: Path) -> None:
    take(store)
    take(store, Asked(uids=(uid_of(LARGER), uid_of(0))))
    assert files_with(store, *SECRETS, uid_of(0), "k00000", uid_of(LARGER)) == []
    assert open_decision(Store.at(str(store))).manifest["verdicts"]["failed"] == 5
    assert len(pq.read_table(store / "removed" / "marks.parquet")) == 11
    before = files_of(store)
    for marker in (store / "curated").rglob("*.done.json"):
        marker.unlink()
    curate(RECIPE.replace("0.05", "1"), pool_of(store), store)
    assert files_of(store) == before


def test_the_url_is_nowhere_in_the_compressed_columns(untouched: Path) -> None:
    """The search looks into compressed pages: bytes alone would not find it."""
    samples = next((untouched / "signals").glob("samples-*/00001-*.parquet"))
    assert URL.encode() in content_of(samples)
    assert pa.compute.any(pa.compute.equal(pq.read_table(samples)["url"], URL)).as_py()


def test_a_store_on_an_object_store_is_left_the_same(plain: Path, tmp_path: Path) -> None:
    """Without renames and memory maps: files are uploaded whole."""
    remote = fsspec.filesystem("memory")
    for path in plain.rglob("*"):
        if path.is_file() and path.name != "run.lock":
            remote.pipe_file(f"/taken/{path.relative_to(plain)}", path.read_bytes())
    take(Store.at("memory://taken"))
    take(Path(shutil.copytree(plain, tmp_path / "store")))
    found = {name.removeprefix("/taken/"): remote.cat_file(name) for name in remote.find("/taken")}
    here = files_of(tmp_path / "store")
    assert found.keys() - here.keys() <= {name for name in found if name.startswith(("runs/", "removed/"))}
    for name, content in here.items():
        if not name.startswith("removed/"):
            assert found[name] == content, name
