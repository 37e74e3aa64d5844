"""What a run writes is read by software that nobody here wrote."""

from __future__ import annotations

import functools
import gc
import importlib
import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from curate.run import RunResult
from tests.pools import Member, photo, sample, write_tar
from tests.running import curate

# webdataset leaves open files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

RECIPE = """\
name: small
pool: {retry_seconds: []}
filters:
  - caption_words: 3
  - drop_exact_duplicates: pixels
output: {samples_per_shard: 4, report: false}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """A store with three curated shards of 4, 4 and 2 samples: JPEG, PNG and WebP."""
    folder = tmp_path_factory.mktemp("read-back")
    members: list[Member] = []
    for at in range(12):
        caption = "too short" if at >= 10 else f"picture number {at} of ten"
        members += sample(f"k{at:04d}", photo(at), caption, url=f"http://x/{at}")
    write_tar(folder / "pool" / "00000.tar", members)
    return folder / "store", curate(RECIPE, folder / "pool", folder / "store")


@pytest.fixture
def tars(finished: tuple[Path, RunResult]) -> Iterator[list[str]]:
    yield tars_of(*finished)
    gc.collect()  # webdataset leaves its files to the collector; let it be here


def tars_of(store: Path, run: RunResult) -> list[str]:
    return [str(path) for path in sorted((store / "curated" / run.ledger).glob("*.tar"))]


def parts(finished: tuple[Path, RunResult], group: str) -> list[str]:
    return [str(path) for path in sorted((finished[0] / group).glob("*.parquet"))]


def test_webdataset_decodes_every_sample(tars: list[str]) -> None:
    import webdataset

    found = list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in found] == [f"k{at:04d}" for at in range(10)]
    for at, one in enumerate(found):
        assert one["txt"] == f"picture number {at} of ten"
        assert one["json"]["url"] == f"http://x/{at}"
        assert one["curate.json"]["signals"]["width"] == 48
        assert isinstance(one["jpg"], Image.Image)
        assert one["jpg"].size == (48, 48)


def test_webdataset_decodes_every_format(tmp_path: Path) -> None:
    import webdataset

    forms = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF"}
    members: list[Member] = []
    for at, (extension, form) in enumerate(forms.items()):
        members += sample(f"k{at}", photo(at, form=form), f"picture number {at}", extension=extension)
    write_tar(tmp_path / "pool" / "0.tar", members)
    run = curate(RECIPE, tmp_path / "pool", tmp_path / "store")
    found: list[dict[str, Any]] = []
    for tar in tars_of(tmp_path / "store", run):
        found += webdataset.WebDataset(tar, shardshuffle=False).decode("pil")
    assert [next(key for key in one if key in forms) for one in found] == list(forms)
    gc.collect()


def test_open_clips_training_loader_takes_the_shards(
    finished: tuple[Path, RunResult], tars: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip
    import torch

    loading: Any = importlib.import_module("open_clip_train.data")
    # open_clip 3.3 declares webdataset <= 0.2.86; later ones put a marker, an empty sample, between
    # shards, at which its loader fails for every tar. Their own option leaves the marker out.
    without_marker = functools.partial(loading.tar_file_expander, eof_value=None)
    monkeypatch.setattr(loading, "tar_file_expander", without_marker)
    folder = Path(tars[0]).parent
    args = Namespace(
        train_data=f"{folder}/{{00000000..00000002}}.tar",
        train_num_samples=finished[1].counts["keep"],
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=0,
        batch_size=2,
        workers=1,
        world_size=1,
    )
    size = open_clip.get_model_config("ViT-B-32")["vision_cfg"]["image_size"]
    transform = open_clip.image_transform(size, is_train=False)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    data = loading.get_wds_dataset(args, transform, is_train=True, tokenizer=tokenizer)
    batches = list(data.dataloader)
    assert len(batches) == 5
    images = torch.cat([images for images, _ in batches])
    texts = torch.cat([texts for _, texts in batches])
    assert images.shape == (10, 3, size, size)
    assert texts.shape == (10, 77)
    assert len({tuple(text.tolist()) for text in texts}) == 10, "every sample once"


def test_duckdb_joins_signals_and_ledger(finished: tuple[Path, RunResult]) -> None:
    store, run = finished
    facts = next((store / "signals").glob("image_facts-*")).name
    answer = duckdb.execute(
        f"""
        SELECT l.verdict, count(*), min(f.width) FROM
        (SELECT * FROM '{store}/ledger/{run.ledger}/*.parquet') AS l
        POSITIONAL JOIN (SELECT * FROM '{store}/signals/{facts}/*.parquet') AS f
        GROUP BY 1 ORDER BY 1
        """  # noqa: S608  (paths of this test)
    ).fetchall()
    assert answer == [("drop", 2, 48), ("keep", 10, 48)]


def test_pandas_reads_ledger_and_signals(finished: tuple[Path, RunResult]) -> None:
    store, run = finished
    ledger = pd.concat([pd.read_parquet(path) for path in parts(finished, f"ledger/{run.ledger}")])
    samples = pd.concat([pd.read_parquet(path) for path in parts(finished, run.manifest["samples"])])
    assert list(ledger["uid"]) == list(samples["uid"])
    assert ledger["verdict"].value_counts().to_dict() == {"keep": 10, "drop": 2, "quarantine": 0, "failed": 0}
    assert ledger.loc[ledger["verdict"] == "drop", "value"].tolist() == [2.0, 2.0]
    assert store.is_dir()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A cache folder for Hugging Face's library, which may not use the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    return str(tmp_path / "cache")


def test_hugging_face_datasets_reads_the_shards(tars: list[str], offline: str) -> None:
    import datasets

    data: Any = datasets.load_dataset(
        "webdataset", data_files={"train": tars}, cache_dir=offline, split="train", streaming=True
    )
    rows = list(data)
    assert [row["__key__"] for row in rows] == [f"k{at:04d}" for at in range(10)]
    assert rows[0]["jpg"].size == (48, 48)
    assert rows[3]["txt"] == "picture number 3 of ten"


def test_hugging_face_datasets_reads_the_ledger(finished: tuple[Path, RunResult], offline: str) -> None:
    import datasets

    files = parts(finished, f"ledger/{finished[1].ledger}")
    data: Any = datasets.load_dataset(
        "parquet", data_files={"train": files}, cache_dir=offline, split="train"
    )
    assert len(data) == 12
    assert data[11]["dropped_by"] == "caption_words"
    assert data[11]["votes"] == {"caption_words": False, "drop_exact_duplicates": None}


def test_shards_have_what_datacomps_resharder_looks_for(
    finished: tuple[Path, RunResult], tars: list[str]
) -> None:
    assert [Path(tar).name for tar in tars] == [f"{number:08d}.tar" for number in range(3)]
    stats = [json.loads(Path(tar).with_name(f"{Path(tar).stem}_stats.json").read_text()) for tar in tars]
    assert [entry["successes"] for entry in stats] == [4, 4, 2]
    subset = np.load(finished[0] / "subsets" / f"{finished[1].ledger}.npy")
    assert subset.dtype == np.dtype("u8,u8")
    assert np.array_equal(subset, np.sort(subset))
    assert len(subset) == 10
