"""Which shards a pattern names, in which format, and under which part."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

import transforms.pool
from filters.core.errors import PoolError
from tests.transforms.reading import memory_folder, shards_of
from transforms.pool import PoolColumns, PoolOptions, list_pool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("00002.tar", "00000.tar", "00001.tar", "notes.md"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(*patterns: str | Path) -> list[str]:
    return [Path(shard.uri).name for shard in shards_of(*patterns)]


ALL = ["00000.tar", "00001.tar", "00002.tar"]


def test_brace_ranges_globs_and_folders_name_shards_in_order(folder: Path) -> None:
    assert names(folder / "{00000..00002}.tar") == ALL
    assert names(folder / "*.tar") == ALL
    assert names(folder) == ALL
    assert names(folder / "0000{0,2}.tar") == ["00000.tar", "00002.tar"]
    assert [shard.number for shard in shards_of(folder)] == [0, 1, 2]


def test_a_shard_that_is_named_twice_is_there_once(folder: Path) -> None:
    assert names(folder / "00001.tar", folder, folder / "{00002..00001}.tar") == ALL


def test_a_missing_member_of_a_range_is_listed(folder: Path) -> None:
    shards = shards_of(folder / "{00001..00003}.tar")
    assert [Path(shard.uri).name for shard in shards] == ["00001.tar", "00002.tar", "00003.tar"]
    assert shards[2].size == 0


def test_relative_and_file_urls_become_absolute_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    wanted = [str(folder / name) for name in ALL]
    assert [shard.uri for shard in shards_of("*.tar")] == wanted
    assert [shard.uri for shard in shards_of(f"file://{folder}/*.tar")] == wanted


def test_a_file_whose_name_has_braces_or_stars_is_itself(tmp_path: Path) -> None:
    (tmp_path / "odd[1]{a,b}.tar").write_bytes(b"")
    assert names(tmp_path / "odd[1]{a,b}.tar") == ["odd[1]{a,b}.tar"]


def test_a_glob_that_matches_nothing_is_an_error(folder: Path) -> None:
    with pytest.raises(PoolError, match=r"no shard matches '.*/\*\.gz'"):
        shards_of(folder / "*.gz")


def test_a_folder_without_shards_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"the folder '.*' holds no \.tar and no \.parquet file"):
        shards_of(tmp_path)


def test_no_pattern_is_an_error() -> None:
    with pytest.raises(PoolError, match="no pool given: use --pool"):
        list_pool([], PoolOptions(), {})


def test_unbalanced_braces_are_an_error(folder: Path) -> None:
    with pytest.raises(PoolError, match=r"unbalanced braces in the pool '.*/\{00000\.\.00002\.tar'"):
        shards_of(f"{folder}/{{00000..00002.tar")


def test_too_many_shards_are_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms.pool, "MAX_SHARDS", 10)
    assert len(shards_of(folder / "{00..09}.tar")) == 10
    with pytest.raises(PoolError, match="names more than 10 shards"):
        shards_of(folder / "{00000..99999999999}.tar")


def test_an_unknown_protocol_is_an_error_without_the_password() -> None:
    with pytest.raises(PoolError, match=r"can't open the pool 'nosuch://host/a\.tar'.*nosuch"):
        shards_of("nosuch://user:secret@host/a.tar?token=1")


def test_credentials_are_in_no_uri() -> None:
    listed = transforms.pool._uri(fsspec.filesystem("memory"), "/a.tar", "memory://user:secret@x/*.tar")
    assert listed == "memory:///a.tar"


def test_a_file_system_in_memory() -> None:
    root = memory_folder()
    fs = fsspec.filesystem("memory")
    for name in ALL:
        fs.pipe_file(f"{root}/{name}", b"x" * 7)
    path = root.removeprefix("memory://")
    assert [shard.uri for shard in shards_of(f"{root}/*.tar")] == [f"memory:///{path}/{name}" for name in ALL]
    assert [shard.size for shard in shards_of(root)] == [7, 7, 7]
    first = shards_of(f"{root}/{{00000..00001}}.tar")[0]
    with first.open() as stream:
        assert stream.read() == b"x" * 7


def test_an_unreachable_shard_is_listed_and_left_to_the_reader(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise PermissionError

    monkeypatch.setattr(fsspec.get_filesystem_class("file"), "info", refuse)
    assert [shard.size for shard in shards_of(folder / "{00000..00001}.tar")] == [0, 0]


def test_a_changed_file_is_another_part(folder: Path) -> None:
    def part() -> str:
        return shards_of(folder / "00000.tar")[0].part

    before = part()
    assert before.startswith("00000-")
    assert part() == before
    (folder / "00000.tar").write_bytes(b"longer")
    os.utime(folder / "00000.tar", (1, 1))
    longer = part()
    os.utime(folder / "00000.tar", (2, 2))
    assert len({before, longer, part()}) == 3


def test_files_of_one_name_in_two_folders_are_two_parts(tmp_path: Path) -> None:
    for where in ("a", "b"):
        (tmp_path / where).mkdir()
        (tmp_path / where / "0.tar").write_bytes(b"")
        os.utime(tmp_path / where / "0.tar", (1, 1))
    assert len({shard.part for shard in shards_of(tmp_path / "a", tmp_path / "b")}) == 2


def test_a_part_is_a_safe_file_name(tmp_path: Path) -> None:
    (tmp_path / "a b'ü;%.x.tar").write_bytes(b"")
    part = shards_of(tmp_path)[0].part
    assert part.startswith("a_b_x-")
    assert part.replace("-", "").replace("_", "").isalnum()


def parquet(path: Path, *columns: str) -> Path:
    pq.write_table(pa.table({name: [b"x"] if name in ("image", "jpg") else ["x"] for name in columns}), path)
    return path


def test_the_format_is_told_by_name_and_columns(tmp_path: Path) -> None:
    (tmp_path / "a.TAR").write_bytes(b"")
    assert shards_of(tmp_path / "a.TAR")[0].format == "webdataset"
    assert shards_of(parquet(tmp_path / "b.parquet", "image", "text"))[0].format == "parquet"
    assert shards_of(parquet(tmp_path / "c.parquet", "uid", "text"))[0].format == "datacomp"
    assert shards_of(parquet(tmp_path / "d.parquet", "uid", "text", "jpg"))[0].format == "parquet"


def test_a_named_format_is_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"")
    options = PoolOptions(format="webdataset")
    assert shards_of(tmp_path / "a.bin", options=options)[0].format == "webdataset"
    with pytest.raises(PoolError, match=r"can't tell the format of .*a\.bin.*set pool\.format"):
        shards_of(tmp_path / "a.bin")


def test_parquet_with_neither_kind_of_columns_is_an_error(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", "photo", "alt")
    with pytest.raises(
        PoolError, match=r"has no image column .*its columns are alt, photo: set pool\.columns"
    ):
        shards_of(path)
    options = PoolOptions(columns=PoolColumns(image=("photo",)))
    assert shards_of(path, options=options)[0].format == "parquet"


def test_a_first_shard_that_is_no_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"nothing of that kind")
    with pytest.raises(PoolError, match=r"can't read '.*a\.parquet' as Parquet"):
        shards_of(tmp_path)


def test_more_pixels_than_pillow_opens_can_not_be_asked_for() -> None:
    with pytest.raises(ValidationError, match="178956970"):
        PoolOptions(max_pixels=178_956_971)
