"""Probabilities that a user brings: what files may say, and where each uid stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filters.core.errors import RecipeError
from filters.core.uids import format_uids, parse_uids
from transforms import probability_files
from transforms.probability_files import (
    ProbabilityFile,
    build_index,
    find_probabilities,
    places_of,
    read_blocks,
    uid_keys,
)

UIDS = format_uids(np.array([[3, 0], [0, 3], [2**63, 1], [0, 256]], np.uint64))


def saved(folder: Path, name: str = "p.parquet", rows_per_group: int | None = None, **columns: Any) -> str:
    path = folder / name
    given = {"uid": UIDS, "p": [[0.25, 0.75], [1, 0], [0.5, 0.5], [0, 1]], **columns}
    table = pa.table({key: value for key, value in given.items() if value is not None})
    pq.write_table(table, path, row_group_size=rows_per_group)
    return str(path)


def rows_of(file: ProbabilityFile, names: dict[str, int] | None = None) -> list[tuple[Any, ...]]:
    return [
        (row["uid"].ljust(16, b"\0").hex(), int(row["label"]), row["p"].tolist())
        for group in range(len(file.groups))
        for block in read_blocks(file, group, file.classes, names or {})
        for row in block
    ]


def test_rows_are_read_group_by_group_and_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probability_files, "BLOCK_ROWS", 2)
    (file,) = find_probabilities([saved(tmp_path, rows_per_group=3, label=[1, None, 0, 1])])
    assert file.groups == (3, 1)
    assert (file.classes, file.labelled) == (2, True)
    assert [len(block) for block in read_blocks(file, 0, 2, {})] == [2, 1]
    assert rows_of(file) == [
        (UIDS[0], 1, [0.25, 0.75]),
        (UIDS[1], -1, [1, 0]),
        (UIDS[2], 0, [0.5, 0.5]),
        (UIDS[3], 1, [0, 1]),
    ]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float16())], ids=str)
def test_any_list_of_numbers_serves_and_none_is_none(tmp_path: Path, kind: pa.DataType) -> None:
    halves = [
        None if row is None else np.array(row, np.float16) for row in ([0.25, 0.75], None, [1, 0], [0, 1])
    ]
    (file,) = find_probabilities([saved(tmp_path, p=pa.array(halves, pa.list_(pa.float16())).cast(kind))])
    found = rows_of(file)
    assert found[0] == (UIDS[0], -1, [0.25, 0.75])
    assert np.isnan(found[1][2]).all()
    assert not file.labelled


def test_lists_of_one_size_serve(tmp_path: Path) -> None:
    lists = pa.array([[0.25, 0.75], [1, 0], [0.5, 0.5], [0, 1]], pa.list_(pa.float32(), 2))
    (file,) = find_probabilities([saved(tmp_path, p=lists)])
    assert rows_of(file)[2] == (UIDS[2], -1, [0.5, 0.5])


def test_labels_may_be_names(tmp_path: Path) -> None:
    labels = pa.array(["Cat", "dog", None, "dog"]).dictionary_encode()
    (file,) = find_probabilities([saved(tmp_path, label=labels)])
    assert [label for _, label, _ in rows_of(file, {"cat": 0, "dog": 1})] == [0, 1, -1, 1]
    with pytest.raises(RecipeError, match=r"p.parquet, row 0: no class 'Cat'; did you mean bat\?"):
        rows_of(file, {"bat": 0, "dog": 1})
    with pytest.raises(RecipeError, match=r"no class 'Cat'; name them with `labels`, a vocabulary, or give"):
        rows_of(file)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"p": [[0.5, 0.6]] * 4}, r"p.parquet, from row 0: row 0: .* sum to 1.1, not to 1"),
        ({"p": [[0.5, 0.5]] * 3 + [[1.5, -0.5]]}, "row 3: .*sum to 1"),
        ({"p": [[0.5, 0.5]] * 3 + [[1.0]]}, r"row 3: `p` has 1 numbers, not 2"),
        ({"label": [0, 1, 2, 0]}, r"row 2 has label 2: labels are 0..1"),
        ({"label": [0.5, 1, 0, 0]}, "row 0: no class 0.5"),
        ({"uid": ["x", *UIDS[1:]]}, "a uid is 32 hex digits, but row 0 holds 'x'"),
        ({"p": [["a", "b"]] * 4}, "can't read .*p.parquet as Parquet"),
    ],
)
def test_a_wrong_row_is_an_error_that_names_it(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    (file,) = find_probabilities([saved(tmp_path, **columns)])
    with pytest.raises(RecipeError, match=message):
        rows_of(file)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"p": None}, r"p.parquet has uid; write uid \(32 hex digits\), p"),
        ({"uid": None}, "p.parquet has p; write uid"),
        ({"p": [0.5] * 4}, "p.parquet has uid, p; write uid"),
        ({"p": pa.array([None] * 4, pa.list_(pa.float32()))}, "probabilities: no row in"),
    ],
)
def test_a_file_of_another_form_is_an_error(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        find_probabilities([saved(tmp_path, **columns)])


def test_files_must_fit_one_another(tmp_path: Path) -> None:
    saved(tmp_path, "a.parquet")
    saved(tmp_path, "b.parquet", p=[[0.2, 0.3, 0.5]] * 4)
    with pytest.raises(RecipeError, match=r"`p` has 2 numbers in .*a.parquet and 3 in .*b.parquet"):
        find_probabilities([f"{tmp_path}/*.parquet"])
    saved(tmp_path, "b.parquet", label=[0] * 4)
    with pytest.raises(RecipeError, match=r"a.parquet has no column `label`, but others have"):
        find_probabilities([f"{tmp_path}/*.parquet"])
    (tmp_path / "c.txt").write_text("no Parquet")
    with pytest.raises(RecipeError, match=r"can't read .*c.txt as Parquet"):
        find_probabilities([str(tmp_path / "c.txt")])
    with pytest.raises(RecipeError, match="no file matches"):
        find_probabilities([f"{tmp_path}/*.none"])


def test_every_uid_is_found_where_it_stands() -> None:
    keys = uid_keys(parse_uids(pa.array(UIDS)))
    index = build_index([keys[:1], keys[1:]])
    assert sorted(UIDS) == [uid.ljust(16, b"\0").hex() for uid in index["uid"].tolist()]
    strangers = uid_keys(np.array([[0, 0], [5, 5], [2**64 - 1, 0]], np.uint64))
    places = places_of(np.concatenate([keys, strangers]), index)
    assert places[4:].tolist() == [-1, -1, -1]
    assert index["block"][places[:4]].tolist() == [0, 1, 1, 1]
    assert index["row"][places[:4]].tolist() == [0, 0, 1, 2]
    assert places_of(keys, build_index([])).tolist() == [-1] * 4


def test_a_uid_that_stands_twice_is_an_error() -> None:
    keys = uid_keys(parse_uids(pa.array(UIDS)))
    with pytest.raises(RecipeError, match=f"the uid {UIDS[3]} stands there twice"):
        build_index([keys, keys[3:]])
