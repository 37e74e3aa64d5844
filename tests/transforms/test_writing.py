"""Curated shards hold the kept samples' own bytes, and depend on input and recipe alone."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filters.core.decide import VERDICTS
from filters.core.errors import PoolError, StoreError
from tests.pools import Member, photo, sample, write_tar
from tests.transforms.reading import measure, named, shards_of
from transforms.deciding import PartCounts
from transforms.pool import PoolOptions, Shard
from transforms.store import Store
from transforms.writing import WriteConfig, _free_key, image_extension, plan_shards, write_shard

OPTIONS = PoolOptions(retry_seconds=())
FACTS = named("image_facts")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store"))


def keep(
    store: Store, shards: list[Shard], kept: list[list[int]] | None = None
) -> tuple[WriteConfig, list[PartCounts]]:
    """Measures the shards and writes a ledger that keeps these rows (all, if None)."""
    counts = []
    for number, report in enumerate(measure(store, shards, FACTS, options=OPTIONS)):
        chosen = range(report.rows) if kept is None else kept[number]
        codes = [0 if row in chosen else 1 for row in range(report.rows)]
        verdict = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(VERDICTS))
        store.write_part("ledger/l", report.part, pa.table({"verdict": verdict}), marker={})
        counts.append(PartCounts(report.part, number, report.rows, {"keep": codes.count(0)}, {}, []))
    groups = {FACTS.group: ("width", "height", "sharpness", "image_format")}
    return WriteConfig(store, OPTIONS, "ledger/l", "curated/l", "recipe-1", groups), counts


def write(
    store: Store, shards: list[Shard], kept: list[list[int]] | None = None, size: int = 100
) -> list[list[Member]]:
    """The members of every curated shard."""
    config, counts = keep(store, shards, kept)
    outputs = list(plan_shards(counts, {shard.part: shard for shard in shards}, size))
    for output in outputs:
        assert write_shard(config, output) == output.samples
    return [members(store, output.number) for output in outputs]


def members(store: Store, number: int) -> list[Member]:
    content = store.folder.read_bytes(f"curated/l/{number:08d}.tar")
    with tarfile.open(fileobj=io.BytesIO(content), encoding="utf-8", errors="surrogateescape") as archive:
        return [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]


def without_quality(found: list[Member]) -> list[Member]:
    return [(name, content) for name, content in found if not name.endswith(".curate.json")]


def quality(found: list[Member]) -> list[dict[str, Any]]:
    return [json.loads(content) for name, content in found if name.endswith(".curate.json")]


def test_members_are_copied_as_they_are(store: Store, tmp_path: Path) -> None:
    original: list[Member] = [
        *sample("000", photo(1), "caption 0", odd=[1, None]),
        ("000.mp3", b"sound"),
        *sample("001", photo(2), b"caption 1\n"),
        ("002.JPG", photo(3)),
        ("002.TXT", b"caption 2"),
        ("002.seg.png", b"mask"),
    ]
    (found,) = write(store, shards_of(write_tar(tmp_path / "0.tar", original)))
    assert without_quality(found) == original
    assert [name for name, _ in found if name.endswith(".curate.json")] == [
        f"00{at}.curate.json" for at in range(3)
    ]


def test_only_kept_rows_are_written(store: Store, tmp_path: Path) -> None:
    original = [member for at in range(40) for member in sample(f"{at:02d}", photo(at), f"caption {at}")]
    kept = [0, 3, 4, 5, 20, 39]
    (found,) = write(store, shards_of(write_tar(tmp_path / "0.tar", original)), [kept])
    assert without_quality(found) == [
        m for at in kept for m in sample(f"{at:02d}", photo(at), f"caption {at}")
    ]


def test_far_apart_samples_are_read_in_pieces(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.writing.MAX_GAP_BYTES", 2000)
    monkeypatch.setattr("transforms.writing.MAX_READ_BYTES", 9000)
    test_only_kept_rows_are_written(store, tmp_path)


def test_the_quality_member_holds_uid_recipe_and_signals(store: Store, tmp_path: Path) -> None:
    shards = shards_of(write_tar(tmp_path / "0.tar", sample("a", photo(1, size=(30, 20)), "x", uid="f" * 32)))
    (found,) = write(store, shards)
    (said,) = quality(found)
    assert (said["uid"], said["recipe"]) == ("f" * 32, "recipe-1")
    assert list(said["signals"]) == ["height", "image_format", "sharpness", "width"]
    assert (said["signals"]["width"], said["signals"]["image_format"]) == (30, "JPEG")
    exact = store.read_part(FACTS.group, shards[0].part)["sharpness"][0].as_py()
    assert np.float32(said["signals"]["sharpness"]) == np.float32(exact)
    assert len(str(said["signals"]["sharpness"])) < 12


def test_tags_of_the_ledger_and_a_weight_stand_in_the_quality_member(store: Store, tmp_path: Path) -> None:
    """A tag that is null is left out, a weight that is null is null; floats as float32 prints them."""
    members_of = [member for at in range(4) for member in sample(f"{at}", photo(at), f"c{at}")]
    shards = shards_of(write_tar(tmp_path / "0.tar", members_of))
    config, counts = keep(store, shards, [[1, 2, 3]])
    verdict = store.read_part("ledger/l", shards[0].part)["verdict"]
    p_clean = pa.array([0.9, 0.1, None, 0.7], pa.float32())
    levels = pa.array([7, 0, None, 5], pa.int8())
    ledger = pa.table({"verdict": verdict, "p_clean": p_clean, "alignment_level": levels})
    store.write_part("ledger/l", shards[0].part, ledger, marker={})
    tagged = replace(config, tags=("p_clean", "alignment_level"), weight="p_clean")
    (output,) = plan_shards(counts, {shard.part: shard for shard in shards}, 10)
    write_shard(tagged, output)
    found = quality(members(store, 0))
    assert [said["tags"] for said in found] == [
        {"p_clean": 0.1, "alignment_level": 0},
        {},
        {"p_clean": 0.7, "alignment_level": 5},
    ]
    assert [said["weight"] for said in found] == [0.1, None, 0.7]
    write_shard(replace(tagged, weight=None), output)
    assert all("weight" not in said and "tags" in said for said in quality(members(store, 0)))


def test_curating_a_curated_shard_again_replaces_the_quality_member(store: Store, tmp_path: Path) -> None:
    (first,) = write(
        store, shards_of(write_tar(tmp_path / "0.tar", sample("a", photo(1), "x", uid="f" * 32)))
    )
    again = Store.at(str(tmp_path / "again"))
    (second,) = write(again, shards_of(Path(store.folder.path("curated/l/00000000.tar"))))
    assert second == first


def test_the_same_input_gives_the_same_bytes(store: Store, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", sample("a", photo(1), "x") + sample("b", photo(2), "y"))
    write(store, shards_of(path))
    other = Store.at(str(tmp_path / "other"))
    write(other, shards_of(path))
    for name in ("00000000.tar", "00000000_stats.json", "00000000.done.json"):
        assert store.folder.read_bytes(f"curated/l/{name}") == other.folder.read_bytes(f"curated/l/{name}")
    stats = {"count": 2, "successes": 2, "failed_to_download": 0, "failed_to_resize": 0}
    assert store.folder.read_json("curated/l/00000000_stats.json") == stats
    size = len(store.folder.read_bytes("curated/l/00000000.tar"))
    assert store.folder.read_json("curated/l/00000000.done.json") == {"rows": 2, "bytes": size}


def test_strangers_between_a_sample_s_members_are_left_out(store: Store, tmp_path: Path) -> None:
    original = [("a.jpg", photo(1)), ("README", b"about"), (".hidden.txt", b"h"), ("a.txt", b"x")]
    (found,) = write(store, shards_of(write_tar(tmp_path / "0.tar", original)))
    assert without_quality(found) == [("a.jpg", photo(1)), ("a.txt", b"x")]


def test_keys_become_safe_and_unique_across_shards(store: Store, tmp_path: Path) -> None:
    keys = ["../../etc/x", "/abs/x", "x", "./x"]
    for number, key in enumerate(keys):
        write_tar(tmp_path / "pool" / f"{number}.tar", sample(key, photo(number), f"c{number}"))
    (found,) = write(store, shards_of(tmp_path / "pool"))
    assert [name for name, _ in without_quality(found)] == [
        *("etc/x.jpg", "etc/x.txt", "abs/x.jpg", "abs/x.txt"),
        *("x.jpg", "x.txt", "x-1.jpg", "x-1.txt"),
    ]
    assert [content for name, content in without_quality(found) if name.endswith("txt")] == [
        b"c0",
        b"c1",
        b"c2",
        b"c3",
    ]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a/b", "a/b"),
        ("..", "sample"),
        ("", "sample"),
        ("a.b/c.d", "a_b/c_d"),
        ("..\\..\\x", "x"),
        ("a\0b\nc", "a_b_c"),
        ("a//./b", "a/b"),
        ("...", "___"),
        ("ünï 名", "ünï 名"),
    ],
)
def test_a_key_is_made_safe(key: str, expected: str) -> None:
    assert _free_key(key, set()) == expected


def test_a_key_that_is_taken_gets_a_number() -> None:
    assert _free_key("a", {"a", "a-1"}) == "a-2"


def part(name: str, number: int, kept: int) -> PartCounts:
    return PartCounts(name, number, kept + 3, {"keep": kept}, {}, [])


@pytest.mark.parametrize(
    ("kept", "size", "slices"),
    [
        ([5], 2, [[("0", 0, 2)], [("0", 2, 4)], [("0", 4, 5)]]),
        ([1, 0, 3], 2, [[("0", 0, 1), ("2", 0, 1)], [("2", 1, 3)]]),
        ([2, 2], 2, [[("0", 0, 2)], [("1", 0, 2)]]),
        ([1, 1, 1], 10, [[("0", 0, 1), ("1", 0, 1), ("2", 0, 1)]]),
        ([0, 0], 2, []),
        ([], 2, []),
    ],
)
def test_kept_rows_are_dealt_out_in_order(
    kept: list[int], size: int, slices: list[list[tuple[str, int, int]]]
) -> None:
    shards = {
        str(number): Shard(f"{number}.tar", number, str(number), "webdataset", 1)
        for number in range(len(kept))
    }
    counts = [part(str(number), number, count) for number, count in enumerate(kept)]
    planned = list(plan_shards(counts, shards, size))
    assert [
        [(piece.shard.part, piece.first, piece.last) for piece in output.slices] for output in planned
    ] == slices
    assert [output.number for output in planned] == list(range(len(slices)))
    assert all(output.samples == size for output in planned[:-1])


def test_the_samples_are_the_same_whatever_the_size_of_the_shards(store: Store, tmp_path: Path) -> None:
    for number in range(3):
        members_of = [
            m for at in range(5) for m in sample(f"{number}{at}", photo(10 * number + at), f"c{number}{at}")
        ]
        write_tar(tmp_path / "pool" / f"{number}.tar", members_of)
    shards = shards_of(tmp_path / "pool")
    kept = [[0, 1, 4], [], [1, 2]]
    (whole,) = write(store, shards, kept)
    pieces = write(Store.at(str(tmp_path / "other")), shards, kept, size=2)
    assert [len(piece) for piece in pieces] == [6, 6, 3]
    assert [member for piece in pieces for member in piece] == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:700], "changed since it was measured: .* run again to measure it anew"),
        (
            lambda content: b"\xff" * len(content),
            r"changed since it was measured: bad header: bad checksum at 0",
        ),
        (lambda content: content.replace(b"a.jpg", b"z.jpg"), "changed since it was measured: bad header"),
    ],
)
def test_a_shard_that_changed_since_is_an_error_and_leaves_nothing(
    store: Store, tmp_path: Path, change: Any, message: str
) -> None:
    path = write_tar(tmp_path / "0.tar", sample("a", photo(1), "x"))
    config, counts = keep(store, shards_of(path))
    (output,) = plan_shards(counts, {shard.part: shard for shard in shards_of(path)}, 10)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(StoreError, match=message):
        write_shard(config, output)
    assert store.folder.names("curated/l") == []


def test_other_samples_at_the_same_place_are_an_error(store: Store, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", sample("a", photo(1), "x"))
    config, counts = keep(store, shards_of(path))
    (output,) = plan_shards(counts, {shard.part: shard for shard in shards_of(path)}, 10)
    write_tar(path, sample("b", photo(1), "x"))
    with pytest.raises(StoreError, match="no member of 'a' at 0; run again"):
        write_shard(config, output)


def test_a_shard_that_is_gone_is_an_error_of_the_pool(store: Store, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", sample("a", photo(1), "x"))
    config, counts = keep(store, shards_of(path))
    (output,) = plan_shards(counts, {shard.part: shard for shard in shards_of(path)}, 10)
    path.unlink()
    with pytest.raises(
        PoolError, match=r"0\.tar was measured, but its kept samples can't be read again: .*No such file"
    ):
        write_shard(config, output)


# --- from Parquet


def parquet(path: Path, count: int = 40) -> Path:
    forms = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
    images = [photo(at, side=12, form=forms[at % 6]) for at in range(count)]
    table = {"image": images, "text": [f"caption {at}" for at in range(count)], "score": list(range(count))}
    pq.write_table(pa.table(table), path, row_group_size=8)
    return path


def test_rows_of_parquet_become_members(store: Store, tmp_path: Path) -> None:
    kept = [0, 9, 10, 39]
    (found,) = write(store, shards_of(parquet(tmp_path / "p.parquet")), [kept])
    plain = without_quality(found)
    assert [name for name, _ in plain] == [
        f"p_{row:08d}.{extension}"
        for row, image in zip(kept, ("jpg", "gif", "bmp", "gif"), strict=True)
        for extension in (image, "txt", "json")
    ]
    assert [content for name, content in plain if name.endswith("txt")] == [
        b"caption %d" % row for row in kept
    ]
    assert [json.loads(content)["score"] for name, content in plain if name.endswith(".json")] == kept
    assert plain[0][1] == photo(0, side=12)


def test_a_shorter_parquet_is_an_error(store: Store, tmp_path: Path) -> None:
    path = parquet(tmp_path / "p.parquet")
    config, counts = keep(store, shards_of(path), [[5, 39]])
    (output,) = plan_shards(counts, {shard.part: shard for shard in shards_of(path)}, 10)
    parquet(path, count=20)
    with pytest.raises(StoreError, match="changed since it was measured: no image at 39"):
        write_shard(config, output)


@pytest.mark.parametrize(
    ("form", "extension"),
    [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("BMP", "bmp"), ("TIFF", "tif")],
)
def test_the_usual_extension_of_an_image(form: str, extension: str) -> None:
    assert image_extension(photo(1, form=form)) == extension
