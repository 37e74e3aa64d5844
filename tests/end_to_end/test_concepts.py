"""A user's vocabulary in whole runs: tags, label errors, and what a changed file changes."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.query import open_decision
from curate.report import write_report
from filters.core.errors import RecipeError
from tests.pools import Member, metadata_shard, photo, sample, write_tar
from tests.running import ask, curate, plan_of, why
from tests.vocabularies import CLIP, written
from transforms.store import Store

RECIPE = """\
name: named
pool: {{retry_seconds: []}}
measures:
  clip: {{model: "{model}"}}
  concepts: {{labels: "{labels}"}}
  label_errors: {{labels: "{labels}"}}
filters:
  - drop_label_errors: {{labels: "{labels}", method: p_mislabelled, p_above: 0.5}}
output: {{report: false}}
max_failed_fraction: 1
"""
CAPTIONS = ("a star", "two rings", "a circle and a square", "a photo of nothing", "the Square")


def pool_of(folder: Path) -> Path:
    for number in range(2):
        members: list[Member] = []
        for at in range(10):
            members += sample(f"{number}{at:03d}", photo(at + 10 * number), CAPTIONS[at % 5])
        write_tar(folder / f"{number}.tar", [*members, *sample(f"{number}9", b"", "no bytes: a ring")])
    return folder


def recipe(labels: str) -> str:
    return RECIPE.format(model=CLIP.model, labels=labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("named")
    curate(recipe(written(found)), pool_of(found / "pool"), found / "store")
    return found


def test_tags_are_columns_of_lists(folder: Path) -> None:
    rows = ask(folder / "store", "SELECT * FROM samples WHERE failure IS NULL ORDER BY shard, row")
    assert len(rows) == 20
    for row, said in zip(rows, [["star"], ["ring"], ["circle", "square"], [], ["square"]] * 4, strict=True):
        assert row["concepts_caption"] == said
        absent = {"circle", "square", "star", "ring"} - {*row["concepts_present"], *row["concepts_unknown"]}
        assert row["concepts_ungrounded"] == [name for name in said if name in absent]
        assert (row["concepts_alignment"] is None) == (not said)
        assert row["label_errors_label"] == (said[0] if len(said) == 1 else None)
    (broken,) = ask(folder / "store", "SELECT * FROM samples WHERE key = '19'")
    found = {name: value for name, value in broken.items() if name.startswith(("concepts_", "label_errors_"))}
    assert found.pop("concepts_caption") == ["ring"]
    assert set(found.values()) == {None}
    (counted,) = ask(
        folder / "store", "SELECT count(*) AS n FROM samples WHERE list_contains(concepts_caption, 'square')"
    )
    assert counted["n"] == 8


def test_kept_samples_carry_their_tags(folder: Path) -> None:
    (tar,) = (folder / "store" / "curated").glob("*/*.tar")
    kept = {row["key"]: row for row in ask(folder / "store", "SELECT * FROM samples WHERE verdict = 'keep'")}
    found: dict[str, Any] = {}
    with tarfile.open(tar) as opened:
        for member in opened:
            if member.name.endswith(".curate.json") and (stream := opened.extractfile(member)):
                found[member.name.partition(".")[0]] = json.load(stream)["signals"]
    assert found.keys() == kept.keys()
    for key, signals in found.items():
        for name in ("concepts_present", "concepts_unknown", "concepts_caption", "concepts_ungrounded"):
            assert signals[name] == kept[key][name]
        assert signals["concepts_top"] == kept[key]["concepts_top"]
        assert signals.get("label_errors_reason") == kept[key]["label_errors_reason"]


def test_the_comparison_is_a_view_and_says_what_is_dropped(folder: Path) -> None:
    rows = ask(folder / "store", "FROM drop_label_errors WHERE verdict != 'failed'")
    assert {row["reason"] for row in rows} == {
        None,
        "the caption names no class",
        "the caption names several classes",
    }
    for row in rows:
        wrong = row["p_mislabelled"] is not None and row["p_mislabelled"] > 0.5
        assert row["verdict"] == ("drop" if wrong else "keep")
        assert (row["p_mislabelled"] is None) == (row["reason"] is not None)
    assert 0 < sum(row["verdict"] == "drop" for row in rows) < 20
    dropped = next(row["key"] for row in rows if row["verdict"] == "drop")
    assert why(folder / "store", dropped).sample["verdict"] == "drop"


def test_the_report_has_room_for_them(folder: Path) -> None:
    page = Path(write_report(open_decision(Store.at(str(folder / "store"))))).read_text(encoding="utf-8")
    assert "concepts_top" in page
    assert "label_errors_p_mislabelled" in page


def test_a_bound_changes_without_comparing_again(folder: Path) -> None:
    heard: list[str] = []
    changed = recipe(str(folder / "concepts.yaml")).replace("p_above: 0.5", "p_above: 0.9")
    before = ask(folder / "store", "SELECT count(*) AS n FROM samples WHERE verdict = 'drop'")[0]["n"]
    result = curate(changed, folder / "pool", folder / "store", said=heard)
    assert result.counts["drop"] < before
    assert not any("comparing" in line for line in heard)


def test_the_content_of_the_vocabulary_counts_and_not_its_name(folder: Path) -> None:
    heard: list[str] = []
    same = written(folder / "moved", (folder / "concepts.yaml").read_text())
    curate(recipe(same), folder / "pool", folder / "store", said=heard)
    assert any("all 2 shards are measured" in line for line in heard)
    assert not any("comparing" in line for line in heard)
    other = written(folder / "other", "concepts: [circle, square, star, {ring: {names: [ring, hoop]}}]")
    curate(recipe(other), folder / "pool", folder / "store", said=heard)
    assert any("measuring 2 of 2 shards" in line for line in heard)
    assert any("comparing samples for label_errors" in line for line in heard)
    assert any("comparing samples for drop_label_errors" in line for line in heard)


def test_ready_embeddings_can_t_embed_prompts(tmp_path: Path) -> None:
    metadata = metadata_shard(tmp_path / "metadata" / "0.parquet", [{}])
    np.savez(tmp_path / "metadata" / "0.npz", b32_img=np.ones((1, 512)), b32_txt=np.ones((1, 512)))
    labels = written(tmp_path)
    ready = "name: x\nmeasures:\n  clip: {measure: datacomp_embeddings, model: b32}\n"
    texts = {
        f'  concepts: {{labels: "{labels}"}}\nfilters: [caption_words: 1]\n': "concepts embeds prompts",
        f'  label_errors: {{labels: "{labels}"}}\nfilters: [caption_words: 1]\n': "measure label_errors",
        f'filters: [drop_label_errors: "{labels}"]\n': "filter drop_label_errors: it embeds prompts",
    }
    for text, message in texts.items():
        with pytest.raises(RecipeError, match=f"{message}.* model of 'clip_image', which no clip measure"):
            plan_of(ready + text, metadata, tmp_path / "store")


REAL = """\
name: errors
measures:
  clip: {{model: "local-dir:{model}", batch_size: 250}}
filters:
  - drop_label_errors: {{labels: "{labels}", method: p_mislabelled}}
output: {{report: false, shards: false}}
"""
CLASSES = "concepts: [airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck]\n"


@pytest.mark.slow
def test_wrong_labels_of_real_annotators_rank_first(shared: Path, tmp_path: Path) -> None:
    """0.917 where this was written; 1 - clip_cosine reaches 0.908."""
    data = shared / "data" / "human-noise-random_label1"
    text = REAL.format(model=shared / "models" / "cifar-clip", labels=written(tmp_path, CLASSES))
    curate(text, data / "shards", tmp_path / "store")
    with (data / "truth.csv").open() as stream:
        wrong = {row["key"]: row["is_wrong"] == "1" for row in csv.DictReader(stream)}
    rows = ask(tmp_path / "store", "SELECT key, p_mislabelled, verdict FROM drop_label_errors")
    assert all(row["p_mislabelled"] is not None for row in rows)
    ranked = sorted(rows, key=lambda row: row["p_mislabelled"])
    ranks = [rank for rank, row in enumerate(ranked) if wrong[row["key"]]]
    bad, good = len(ranks), len(rows) - len(ranks)
    assert (bad + good, bad) == (10_000, 1_713)
    auroc = (sum(ranks) - bad * (bad - 1) / 2) / (bad * good)
    assert auroc >= 0.91
    dropped = [wrong[row["key"]] for row in rows if row["verdict"] == "drop"]
    assert sum(dropped) / len(dropped) > 0.65
    assert sum(dropped) / bad > 0.55
