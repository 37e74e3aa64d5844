"""The folder that clip-retrieval reads: its layout, and rows that belong together.

Its `index` gives every npy file of a folder to autofaiss in the order of the names, and its `back`
concatenates the metadata files in theirs: most readers here do the same, one is clip-retrieval itself.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from curate.export import clip_retrieval
from filters.core.errors import QueryError
from tests.compared import HOSTILE
from tests.end_to_end.conftest import absent
from tests.engines import ROOT
from tests.export.conftest import exported
from tests.pools import sample, write_tar
from tests.running import EVERYDAY, ask, curate
from tests.search.conftest import PICTURES, all_embeddings, opened


def read_back(folder: Path) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Image embeddings, text embeddings and metadata, as clip-retrieval lines them up."""
    images, texts = (
        np.concatenate([np.load(path) for path in sorted((folder / name).glob("*.npy"))])
        for name in ("img_emb", "text_emb")
    )
    metadata = pd.concat(pd.read_parquet(path) for path in sorted((folder / "metadata").glob("*.parquet")))
    return images, texts, metadata


def test_rows_of_the_three_kinds_of_files_are_the_same_samples(given: Path, tmp_path: Path) -> None:
    assert exported(given, "clip-retrieval", tmp_path) == [
        "img_emb/img_emb_0.npy",
        "text_emb/text_emb_0.npy",
        "metadata/metadata_0.parquet",
    ]
    images, texts, metadata = read_back(tmp_path)
    assert images.dtype == texts.dtype == np.float16
    assert images.shape == texts.shape == (len(metadata), 64)
    decision = opened(given)
    kept = ask(given, "SELECT uid, key, verdict FROM samples")
    numbers = [at for at, row in enumerate(kept) if row["verdict"] == "keep"]
    assert np.array_equal(images, all_embeddings(decision)[numbers])
    assert np.array_equal(texts, all_embeddings(decision, "txt")[numbers])
    assert list(metadata["uid"]) == [kept[at]["uid"] for at in numbers]
    assert list(metadata["image_path"]) == [kept[at]["key"] for at in numbers]


@pytest.fixture(scope="module")
def reader() -> str:
    """The python of an environment with clip-retrieval; where it can't be had the test skips."""
    built = subprocess.run(
        [str(ROOT / "deploy" / "clip_retrieval.sh")], capture_output=True, text=True, check=False
    )
    if built.returncode != 0:
        absent(f"no clip-retrieval: {built.stderr[-300:]}")
    return built.stdout.strip()


def test_clip_retrieval_itself_indexes_and_reads_it(given: Path, tmp_path: Path, reader: str) -> None:
    exported(given, "clip-retrieval", tmp_path / "out")
    script = Path(__file__).with_name("clip_retrieval_reader.py")
    ran = subprocess.run(
        [reader, str(script), str(tmp_path / "out"), str(tmp_path / "indexed")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    said = json.loads(ran.stdout.splitlines()[-1])
    _, _, metadata = read_back(tmp_path / "out")
    rows = list(range(len(metadata)))
    assert rows
    for column in ("uid", "url", "caption", "image_path"):
        ours = list(metadata[column].fillna(""))
        assert [row[column] or "" for row in said["parquet"]] == ours
        assert [row[column] for row in said["hdf5"]] == ours
    images, texts, _ = read_back(tmp_path / "out")
    for kind, vectors in (("image", images), ("text", texts)):
        # Each vector is found at its own place, or at that of an equal one.
        assert all(np.array_equal(vectors[at], vectors[found]) for at, found in enumerate(said[kind]))
        assert len(said[kind]) == len(rows)


def test_metadata_has_what_the_back_end_returns_and_json_can_hold(given: Path, tmp_path: Path) -> None:
    exported(given, "clip-retrieval", tmp_path)
    _, _, metadata = read_back(tmp_path)
    assert {"url", "image_path", "caption"} <= set(metadata.columns)
    assert HOSTILE in set(metadata["caption"])
    assert metadata["caption"].map(type).eq(str).all()
    for column in metadata.columns:
        (first,) = metadata[0:1][[column]].to_dict(orient="records")
        assert not isinstance(first[column], np.ndarray | dict | list), column


def test_many_files_keep_their_order_and_samples_without_embeddings_are_left_out(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_retrieval, "ROWS_PER_FILE", 2)
    exported(given, "clip-retrieval", tmp_path, "true")
    names = sorted(path.name for path in (tmp_path / "img_emb").iterdir())
    assert len(names) > 10
    assert len({len(name) for name in names}) == 1
    images, texts, metadata = read_back(tmp_path)
    assert len(images) == len(texts) == len(metadata) == 24
    assert not np.isnan(images).any()
    rows = all_embeddings(opened(given))
    assert np.array_equal(images, rows[~np.isnan(rows[:, 0])])


@pytest.mark.parametrize("where", ["false", "verdict = 'failed'"])
def test_a_selection_without_embeddings_is_told(given: Path, tmp_path: Path, where: str) -> None:
    with pytest.raises(QueryError, match="no sample of this selection has an embedding"):
        exported(given, "clip-retrieval", tmp_path, where)


def test_a_decision_without_embeddings_is_told(tmp_path: Path, small_pool: Path) -> None:
    curate(EVERYDAY, small_pool, tmp_path / "store")
    with pytest.raises(QueryError, match="has no embeddings, which clip-retrieval"):
        exported(tmp_path / "store", "clip-retrieval", tmp_path / "out")


def test_a_part_without_any_embedding_is_passed_over(tmp_path: Path) -> None:
    from tests.pools import photo

    write_tar(tmp_path / "pool" / "0.tar", sample("a", b"", "broken"))
    write_tar(tmp_path / "pool" / "1.tar", sample("b", photo(1), "a small picture"))
    curate(PICTURES, tmp_path / "pool", tmp_path / "store")
    exported(tmp_path / "store", "clip-retrieval", tmp_path / "out", "true")
    images, _, metadata = read_back(tmp_path / "out")
    assert images.shape == (1, 64)
    assert list(metadata["image_path"]) == ["b"]
