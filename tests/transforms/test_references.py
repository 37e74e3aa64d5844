"""Embeddings of the user: found, described by their headers, read in pieces, named by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from filters.core.errors import RecipeError
from transforms.references import content_fingerprint, find_embeddings, find_files

ARRAY = np.random.default_rng(0).normal(size=(10, 3))


@pytest.mark.parametrize("form", ["rows first", "columns first", "npz", "compressed"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_pieces_are_the_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, kind: Any) -> None:
    monkeypatch.setattr("transforms.references.PIECE_ROWS", 4)
    array = ARRAY.astype(kind)
    path = tmp_path / ("a.npz" if form in ("npz", "compressed") else "a.npy")
    if form == "npz":
        np.savez(path, array)
    elif form == "compressed":
        np.savez_compressed(path, embeddings=array)
    else:
        np.save(path, np.asfortranarray(array) if form == "columns first" else array)
    (file,) = find_embeddings([str(path)], None, "examples")
    assert (file.rows, file.width, file.name) == (10, 3, path.name)
    assert file.pieces() == ([(0, 10)] if path.suffix == ".npz" else [(0, 4), (4, 8), (8, 10)])
    read = np.concatenate([file.read(*piece) for piece in file.pieces()])
    assert read.dtype == (np.float16 if kind == np.float16 else np.float32)
    assert np.array_equal(read, array.astype(read.dtype))


def test_a_file_without_rows_has_no_pieces_and_does_no_harm(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((0, 0), np.float16))
    np.save(tmp_path / "b.npy", ARRAY)
    files = find_embeddings([str(tmp_path / "*.npy")], None, "examples")
    assert [file.pieces() for file in files] == [[], [(0, 10)]]


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_a_file_that_changes_meanwhile_is_an_error(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    save = np.save if ending == "npy" else np.savez
    save(path, ARRAY)
    (file,) = find_embeddings([str(path)], None, "examples")
    save(path, ARRAY[:4])
    with pytest.raises(RecipeError, match=r"was changed while it was in use|can't read"):
        file.read(0, 10)
    path.unlink()
    with pytest.raises(RecipeError, match="can't read"):
        file.read(0, 10)


def test_files_are_sorted_and_each_is_there_once(tmp_path: Path) -> None:
    for name in ("b.npy", "a.npy", "c.npy"):
        (tmp_path / name).touch()
    patterns = [f"{tmp_path}/[bc].npy", f"{tmp_path}/{{a,b}}.npy"]
    assert find_files(patterns, "examples") == [f"{tmp_path}/{name}.npy" for name in "abc"]


def test_unbalanced_braces_and_unknown_protocols_are_named() -> None:
    with pytest.raises(RecipeError, match=r"examples: can't look for 'a\{0"):
        find_files(["a{0..3.npy"], "examples")
    with pytest.raises(RecipeError, match=r"examples: can't look for 'nowhere://a.npy'"):
        find_files(["nowhere://a.npy"], "examples")


def test_content_is_named_whatever_the_file_is_called(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
        fs.pipe_file(f"/content/{name}", content)
    for folder in (str(tmp_path), "memory://content"):
        one, same, other = (content_fingerprint(f"{folder}/{name}") for name in "abc")
        assert one == same != other
    fs.pipe_file("/content/a", b"two")
    assert content_fingerprint("memory://content/a") == content_fingerprint("memory://content/c")
    with pytest.raises(RecipeError, match="can't read memory://content/d"):
        content_fingerprint("memory://content/d")
