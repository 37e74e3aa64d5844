"""Nothing is measured twice, and what is in the store is aligned row by row."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import transforms.stream
from filters.core.errors import StoreError
from tests.pools import photo, sample, write_tar
from tests.transforms.reading import WatchedFiles, measure, named, shards_of, watched_files
from transforms.measuring import DoneParts, MeasureConfig, missing_measures, total_rows
from transforms.pool import PoolOptions, Shard, list_pool
from transforms.samples import COLUMNS, SCHEMA, samples_measure
from transforms.store import Store

FACTS, HASHES, CAPTIONS = named("image_facts"), named("content_hashes"), named("caption_facts")
OPTIONS = PoolOptions(retry_seconds=(0.0,))
SAMPLES = samples_measure(OPTIONS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store"))


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[WatchedFiles]:
    """`watched://` with two shards of three samples; the second of each is broken."""
    with watched_files() as fs:
        for number in range(2):
            members = sample("a", photo(number), "first of all", url="http://x/a") + sample(
                "b", b"", "second"
            )
            path = write_tar(
                tmp_path / "t.tar", members + sample("c", photo(5 + number), "third", url="http://x/c")
            )
            fs.pipe_file(f"/{number}.tar", path.read_bytes())
        yield fs


def shards(fs: WatchedFiles) -> list[Shard]:
    found = list_pool(["watched://*.tar"], OPTIONS, {"skip_instance_cache": True})
    fs.opened.clear()
    return found


def files(store: Store, *, group: str = "") -> dict[str, tuple[bytes, int]]:
    root = Path(store.folder.root) / group
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def test_the_samples_table_says_who_each_row_is_and_where(store: Store, tmp_path: Path) -> None:
    members = sample("x/a", photo(1), "one", url="http://x/1", uid="A" * 32) + sample("b", photo(2), None)
    path = write_tar(tmp_path / "0.tar", [*members, ("caf\udce9.jpg", photo(3)), ("caf\udce9.txt", b"3")])
    (shard,) = shards_of(path)
    (report,) = measure(store, [shard], options=OPTIONS)
    assert (report.rows, report.failed_rows, report.complete, report.uri) == (3, 1, True, str(path))
    table = store.read_part(SAMPLES.group, shard.part)
    assert table.schema.remove_metadata() == SCHEMA
    assert table.column_names == [column.name for column in COLUMNS]
    rows = table.to_pylist()
    assert [row["key"] for row in rows] == ["x/a", "b", "caf\\udce9"]
    assert [row["uid"] for row in rows[:1]] == ["a" * 32]
    assert [(row["caption"], row["url"], row["failure"]) for row in rows] == [
        ("one", "http://x/1", None),
        (None, None, "missing_caption"),
        ("3", None, None),
    ]
    assert [row["row"] for row in rows] == [0, 1, 2]
    content = path.read_bytes()
    for row, seed in zip(rows, (1, 2, 3), strict=True):
        assert content[row["image_offset"] :][: row["image_bytes"]] == photo(seed)
    assert rows[0]["sample_bytes"] == rows[1]["sample_offset"]


def test_a_second_call_reads_no_shard_and_writes_nothing(store: Store, remote: WatchedFiles) -> None:
    pool = shards(remote)
    first = measure(store, pool, FACTS, HASHES, CAPTIONS, options=OPTIONS)
    assert remote.opened == ["/0.tar", "/1.tar"]
    assert [report.measured for report in first] == [
        ("caption_facts", "content_hashes", "image_facts", "samples")
    ] * 2
    before = files(store)
    again = measure(store, shards(remote), FACTS, HASHES, CAPTIONS, options=OPTIONS)
    assert remote.opened == []
    assert files(store) == before
    assert [(report.rows, report.failed_rows, report.measured) for report in again] == [(3, 1, ())] * 2
    assert total_rows(again) == 6


def test_a_measure_that_is_added_later_leaves_the_others_as_they_are(
    store: Store, remote: WatchedFiles
) -> None:
    pool = shards(remote)
    measure(store, pool[:1], FACTS, options=OPTIONS)
    before = files(store)
    reports = measure(store, pool, FACTS, HASHES, options=OPTIONS)
    assert [report.measured for report in reports] == [
        ("content_hashes",),
        ("content_hashes", "image_facts", "samples"),
    ]
    assert remote.opened == ["/0.tar", "/0.tar", "/1.tar"]
    assert {name: files(store)[name] for name in before} == before


def test_the_bytes_do_not_depend_on_how_the_measures_came(
    store: Store, tmp_path: Path, remote: WatchedFiles
) -> None:
    other = Store.at(str(tmp_path / "other"))
    pool = shards(remote)
    measure(store, pool, FACTS, HASHES, CAPTIONS, options=OPTIONS)
    measure(other, pool[1:], HASHES, options=OPTIONS)
    measure(other, pool, FACTS, options=OPTIONS)
    measure(other, pool, CAPTIONS, HASHES, FACTS, options=OPTIONS)
    one, two = files(store), files(other)
    assert {name: content for name, (content, _) in one.items()} == {
        name: content for name, (content, _) in two.items()
    }


def test_derived_measures_need_no_shard(store: Store, remote: WatchedFiles) -> None:
    pool = shards(remote)
    measure(store, pool, options=OPTIONS)
    remote.opened.clear()
    remote.store.clear()
    reports = measure(store, pool, CAPTIONS, options=OPTIONS)
    assert remote.opened == []
    assert [report.measured for report in reports] == [("caption_facts",)] * 2
    assert store.read_part(CAPTIONS.group, pool[0].part)["caption_words"].to_pylist() == [3, 1, 1]


def test_failed_rows_are_null_in_every_measure(store: Store, remote: WatchedFiles) -> None:
    pool = shards(remote)
    measure(store, pool, FACTS, HASHES, options=OPTIONS)
    assert store.read_part(FACTS.group, pool[0].part)["width"].to_pylist() == [48, None, 48]
    hashes = store.read_part(HASHES.group, pool[0].part)["bytes_hash"].to_pylist()
    assert [value is None for value in hashes] == [False, True, False]


def test_a_changed_shard_is_another_part_and_measured_anew(store: Store, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", sample("a", photo(1), "x"))
    (before,) = shards_of(path)
    measure(store, [before], options=OPTIONS)
    write_tar(path, sample("a", photo(1), "x") + sample("b", photo(2), "y"))
    os.utime(path, (9, 9))
    (after,) = shards_of(path)
    (report,) = measure(store, [after], options=OPTIONS)
    assert after.part != before.part
    assert (report.rows, report.measured) == (2, ("samples",))
    assert store.read_part(SAMPLES.group, before.part).num_rows == 1


def test_rows_that_changed_under_the_same_size_and_time_stop_the_run(store: Store, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", sample("a", photo(1), "x"))
    (shard,) = shards_of(path)
    measure(store, [shard], options=OPTIONS)
    write_tar(path, sample("a", photo(1), "y"))
    with pytest.raises(
        StoreError, match=r"0\.tar has other rows than when it was measured first, under the same size"
    ):
        measure(store, [shard], FACTS, options=OPTIONS)


def test_what_is_missing_is_told_by_listings(store: Store, remote: WatchedFiles) -> None:
    pool = shards(remote)
    measure(store, pool[:1], FACTS, options=OPTIONS)
    config = MeasureConfig(store, OPTIONS, (FACTS, HASHES))
    done = DoneParts(store)
    assert missing_measures(pool[0], config, done) == {"content_hashes"}
    assert missing_measures(pool[1], config, done) == {"samples", "image_facts", "content_hashes"}


def failures(store: Store, shard: Shard) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = store.read_part(f"failures/{SAMPLES.folder}", shard.part).to_pylist()
    return rows


def test_failures_say_where_and_why(store: Store, tmp_path: Path) -> None:
    members = (
        sample("a", photo(1), "x")
        + sample("b", b"<html>", "y")
        + sample("c", None, "z")
        + sample("d", photo(1), "w")
    )
    path = write_tar(tmp_path / "0.tar", members)
    path.write_bytes(path.read_bytes()[:-2000])
    (shard,) = shards_of(path)
    (report,) = measure(store, [shard], options=OPTIONS)
    assert (report.rows, report.failed_rows, report.failure, report.complete) == (3, 2, "tar_truncated", True)
    offsets = store.read_part(SAMPLES.group, shard.part)["sample_offset"].to_pylist()
    common = {"shard": str(path)}
    assert failures(store, shard) == [
        common
        | {"row": 1, "key": "b", "member": "b.jpg", "offset": offsets[1], "code": "not_an_image"}
        | {"detail": "begins with b'<html>'"},
        common
        | {"row": 2, "key": "c", "member": None, "offset": offsets[2], "code": "missing_image", "detail": ""},
        common
        | {"row": None, "key": None, "member": None, "offset": path.stat().st_size, "code": "tar_truncated"}
        | {"detail": report.detail},
    ]
    (again,) = measure(store, [shard], FACTS, options=OPTIONS)
    assert again.failure == "tar_truncated"


def test_a_good_shard_has_no_failures_file(store: Store, tmp_path: Path) -> None:
    (shard,) = shards_of(write_tar(tmp_path / "0.tar", sample("a", photo(1), "x")))
    measure(store, [shard], options=OPTIONS)
    assert store.folder.names(f"failures/{SAMPLES.folder}") == []


def test_a_missing_shard_has_no_rows_and_is_tried_again_by_the_next_run(store: Store, tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", sample("a", photo(1), "x"))
    pool = shards_of(tmp_path / "{0..1}.tar")
    reports = measure(store, pool, FACTS, options=OPTIONS)
    assert [(report.failure, report.complete, report.rows) for report in reports] == [
        (None, True, 1),
        ("shard_missing", False, 0),
    ]
    assert [row["code"] for row in failures(store, pool[1])] == ["shard_missing"]
    assert store.done(SAMPLES.group, pool[1].part) is None
    write_tar(tmp_path / "1.tar", sample("b", photo(2), "y"))
    (late,) = measure(store, pool[1:], FACTS, options=OPTIONS)
    assert (late.failure, late.rows) == (None, 1)
    assert store.folder.names(f"failures/{SAMPLES.folder}") == []


def test_an_empty_shard_is_measured_and_has_no_rows(store: Store, tmp_path: Path) -> None:
    (shard,) = shards_of(write_tar(tmp_path / "0.tar", []))
    (report,) = measure(store, [shard], FACTS, HASHES, CAPTIONS, options=OPTIONS)
    assert (report.rows, report.complete) == (0, True)
    assert store.read_part(FACTS.group, shard.part).num_rows == 0
    assert store.read_part(SAMPLES.group, shard.part).schema.remove_metadata() == SCHEMA


def test_an_error_in_one_shard_keeps_what_was_committed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", sample("a", photo(number), "x"))
    read_shard = transforms.stream.read_shard

    def faulty(shard: Shard, options: PoolOptions) -> object:
        if shard.number == 2:
            raise ZeroDivisionError
        return read_shard(shard, options)

    monkeypatch.setattr(transforms.stream, "read_shard", faulty)
    pool = shards_of(tmp_path)
    with pytest.raises(ZeroDivisionError):
        measure(store, pool, options=OPTIONS)
    assert store.done(SAMPLES.group, pool[0].part) is not None


def test_the_marker_says_what_the_reader_met(store: Store, tmp_path: Path) -> None:
    (shard,) = shards_of(write_tar(tmp_path / "0.tar", [("README", b""), *sample("a", b"", "x")]))
    measure(store, [shard], options=OPTIONS)
    marker = store.done(SAMPLES.group, shard.part)
    assert marker is not None
    names = ("shard", "rows", "failed_rows", "end", "ignored_members")
    assert {name: marker[name] for name in names} == dict(zip(names, (shard.uri, 1, 1, None, 1), strict=True))


@pytest.mark.parametrize(
    ("options", "same"),
    [({"decode_timeout_seconds": 5}, True), ({"retry_seconds": ()}, True), ({"max_pixels": 5}, False)],
)
def test_only_options_that_decide_about_rows_name_the_samples(options: dict[str, object], same: bool) -> None:  # noqa: FBT001
    assert (samples_measure(PoolOptions(**options)).folder == samples_measure(PoolOptions()).folder) is same  # type: ignore[arg-type]
