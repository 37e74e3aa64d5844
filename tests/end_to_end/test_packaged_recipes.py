"""Every recipe that comes with Curate is run; DataComp's baselines equal DataComp's own files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curate.plan import make_plan
from curate.recipe import load_recipe, packaged_recipes, parse_recipe
from curate.run import RunOptions, RunResult, run_recipe
from filters.core.errors import RecipeError
from tests.pools import metadata_shard, photo, sample, write_tar
from tests.running import ask
from transforms.store import Store

DETECTOR = '''\
def factory(model):
    """French where the caption says so: what the expected files were made with."""
    return lambda captions: [("fr" if "FR" in caption.split() else "en", 1.0) for caption in captions]
'''

# Recipe -> the expected file, and what is changed for the detector or threshold it was made with.
BASELINES: dict[str, tuple[str, Callable[[str], str]]] = {
    "no_filter": ("no_filter_", lambda text: text),
    "basic_filter": ("basic_filter_", lambda text: text + "measures: {language: {detector: stub}}\n"),
    "laion2b": ("laion2b_", lambda text: text.replace("detector: langid", "detector: stub")),
    "clip_score_fraction": ("clip_score_l14", lambda text: text),
    "clip_score_threshold": ("clip_score_b32", lambda text: text.replace("0.28}", "0.25}")),
}


@pytest.fixture
def stub_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed plug-in that knows English from French."""
    folder = tmp_path / "plug-in"
    metadata = folder / "stub_detector-1.dist-info"
    metadata.mkdir(parents=True)
    (folder / "stub_detector.py").write_text(DETECTOR)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stub-detector\nVersion: 1\n")
    entry = "[curate.language_detectors]\nstub = stub_detector:factory\n"
    (metadata / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "stub_detector", raising=False)


def run_packaged(name: str, pool: Path, store: Path, change: Callable[[str], str]) -> RunResult:
    path = packaged_recipes()[name]
    recipe = parse_recipe(change(path.read_text()), str(path), path.parent)
    return run_recipe(make_plan(recipe, [str(pool)], Store.at(str(store))), RunOptions(), lambda _: None)


def test_every_packaged_recipe_is_run_by_a_test_here() -> None:
    assert set(packaged_recipes()) == {*BASELINES, *IMAGE_BASED, "template", "demo"}


def test_every_packaged_recipe_has_its_own_name_and_says_what_it_is_for() -> None:
    for name in packaged_recipes():
        recipe = load_recipe(name)
        assert recipe.name == ("my_recipe" if name == "template" else name)
        assert recipe.file.description


@pytest.mark.usefixtures("stub_detector")
@pytest.mark.parametrize("name", BASELINES)
def test_a_datacomp_baseline_writes_the_same_file_as_datacomp(
    name: str, shared: Path, tmp_path: Path
) -> None:
    expected, change = BASELINES[name]
    parity = shared / "parity" / "datacomp"
    result = run_packaged(name, parity / "metadata", tmp_path / "store", change)
    written = (tmp_path / "store" / "subsets" / f"{result.ledger}.npy").read_bytes()
    assert written == (parity / f"out_{expected}.npy").read_bytes()


# Which of these rows each baseline keeps.
ROWS: list[dict[str, object]] = [
    {"text": "a perfectly good picture"},  # 0
    {"text": "une image FR très bien"},  # 1: not English
    {"text": "two words"},  # 2: two words
    {"text": "a b c"},  # 3: five characters
    {"text": "a picture too small", "original_width": 199},  # 4
    {"text": "at the bounds now", "original_width": 600, "original_height": 200},  # 5
    {"text": "a picture too long", "original_width": 601, "original_height": 200},  # 6
    {"text": "low b32 score here", "clip_b32_similarity_score": 0.1},  # 7
    {"text": "low l14 score here", "clip_l14_similarity_score": 0.1},  # 8
    {"text": "high l14 score here", "clip_l14_similarity_score": 0.4},  # 9
]
KEPT = {
    "no_filter": set(range(10)),
    "basic_filter": {0, 5, 7, 8, 9},
    "laion2b": set(range(10)) - {1, 7},
    "clip_score_fraction": set(range(10)) - {8},  # element 3 of the scores is 0.3, and all ties
    "clip_score_threshold": set(range(10)) - {7},
}


@pytest.mark.usefixtures("stub_detector")
@pytest.mark.parametrize("name", BASELINES)
def test_a_datacomp_baseline_keeps_what_its_rules_say(name: str, tmp_path: Path) -> None:
    metadata_shard(tmp_path / "pool" / "0.parquet", ROWS)
    result = run_packaged(name, tmp_path / "pool", tmp_path / "store", BASELINES[name][1])
    subset = np.load(tmp_path / "store" / "subsets" / f"{result.ledger}.npy")
    assert subset.dtype == np.dtype("u8,u8")
    assert {low for _, low in subset.tolist()} == KEPT[name]
    assert not (tmp_path / "store" / "curated").exists(), "metadata holds no images to write"


# Caption, group of the image, CLIP L/14 score; images of group 0 are like the examples.
IMAGE_ROWS = [
    ("a perfectly good picture", 0, 0.3),  # 0
    ("une image FR très bien", 0, 0.3),  # 1: not English
    ("watermelon", 0, 0.3),  # 2: one token
    ("a melo", 0, 0.3),  # 3: two tokens, six characters
    ("a mel", 0, 0.3),  # 4: five characters
    ("watermelon\n", 0, 0.3),  # 5: fastText takes a line break for a token
    ("water\u00a0melon", 0, 0.3),  # 6: and a no-break space for none
    ("a picture of something else", 1, 0.3),  # 7: nearest to a centroid without examples
    ("a picture of another thing", 2, 0.3),  # 8: nearer to a target's direction, but not by product
    ("a picture with a low score", 0, 0.1),  # 9
]
IMAGE_BASED = {"image_based": {0, 3, 5, 9}, "image_based_intersect_clip_score": {0, 3, 5}}


def image_pool(folder: Path) -> None:
    """DataComp metadata with L/14 embeddings, and the files that the image-based recipes take."""
    axes = np.eye(768, dtype=np.float32)
    groups = np.stack([axes[0], axes[1], np.sqrt([0.6, 0.4] + [0] * 766)]).astype(np.float16)
    scores = [{"text": text, "clip_l14_similarity_score": score} for text, _, score in IMAGE_ROWS]
    metadata_shard(folder / "pool" / "0.parquet", scores)
    images = groups[[group for _, group, _ in IMAGE_ROWS]]
    np.savez(folder / "pool" / "0.npz", l14_img=images, l14_txt=images)
    (folder / "imagenet").mkdir()
    np.save(folder / "imagenet" / "0.npy", (axes[:1] + 0.01 * axes[5]).astype(np.float16))
    np.save(folder / "centroids.npy", np.stack([0.5 * axes[0], 0.9 * axes[1]]))


@pytest.mark.usefixtures("stub_detector")
@pytest.mark.parametrize("name", IMAGE_BASED)
def test_an_image_based_baseline_keeps_what_its_rules_say(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_pool(tmp_path)
    monkeypatch.chdir(tmp_path)
    stub = "\nmeasures:\n  language: {detector: stub}\n"
    result = run_packaged(
        name, tmp_path / "pool", tmp_path / "store", lambda text: text.replace("\nmeasures:\n", stub)
    )
    subset = np.load(tmp_path / "store" / "subsets" / f"{result.ledger}.npy")
    assert {low for _, low in subset.tolist()} == IMAGE_BASED[name]


@pytest.mark.parametrize("name", IMAGE_BASED)
def test_an_image_based_baseline_without_its_files_says_which(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_pool(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "centroids.npy").unlink()
    with pytest.raises(RecipeError, match=r"keep_target_clusters: centroids: 'centroids.npy' does not exist"):
        run_packaged(name, tmp_path / "pool", tmp_path / "store", lambda text: text)
    (tmp_path / "imagenet" / "0.npy").unlink()
    with pytest.raises(RecipeError, match=r"examples: no file matches 'imagenet/\*.npy'"):
        run_packaged(name, tmp_path / "pool", tmp_path / "store", lambda text: text)
    assert not (tmp_path / "store").exists()


def test_the_template_runs_as_it_is(tmp_path: Path) -> None:
    members = [
        *sample("good", photo(1, side=256), "a small dog runs over the green grass"),
        *sample("copy", photo(1, side=256), "a dog that runs over the green grass"),
        *sample("small", photo(2, side=64), "a small cat sits under the old table"),
        *sample("german", photo(3, side=256), "ein kleiner Hund läuft über die grüne Wiese"),
    ]
    write_tar(tmp_path / "pool" / "0.tar", members)
    run_packaged("template", tmp_path / "pool", tmp_path / "store", lambda text: text)
    rows = ask(tmp_path / "store", "SELECT key, dropped_by FROM samples")
    found = {row["key"]: row["dropped_by"] for row in rows}
    assert sorted(key for key, by in found.items() if by is None) in (["copy"], ["good"])
    assert sorted(by for by in found.values() if by) == [
        "drop_exact_duplicates",
        "language",
        "min_side_pixels",
    ]


def test_the_demo_recipe_runs_with_the_model_that_comes_along(tmp_path: Path) -> None:
    members = [
        *sample("tiny", photo(1, side=16), "a small red circle on a table"),
        *sample("advert", photo(2, side=64), "free stock photo of a red circle"),
    ]
    write_tar(tmp_path / "pool" / "0.tar", members)
    run_packaged("demo", tmp_path / "pool", tmp_path / "store", lambda text: text)
    rows = ask(tmp_path / "store", "SELECT key, dropped_by, clip_cosine FROM samples")
    assert {row["key"]: row["dropped_by"] for row in rows} == {
        "tiny": "min_side_pixels",
        "advert": "caption_blocklist",
    }
    assert all(-1 <= row["clip_cosine"] <= 1 for row in rows)
