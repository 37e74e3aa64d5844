"""The data set card, and data that Hugging Face's library loads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from curate.export.huggingface import fenced, plain, size_category, table
from curate.exporting import Publication
from tests.compared import EMPTY
from tests.export.conftest import exported
from tests.pools import metadata_shard, write_tar
from tests.running import ask, curate


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    """The card's header and its text."""
    whole = (folder / "README.md").read_text(encoding="utf-8")
    _, header, text = whole.split("---\n", 2)
    return yaml.safe_load(header), text


@pytest.fixture(scope="module")
def folder(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("huggingface")
    assert exported(given, "huggingface", folder)[0] == "README.md"
    return folder


def test_the_header_names_configurations_licence_and_size(folder: Path, given: Path, tmp_path: Path) -> None:
    header, _ = card_of(folder)
    assert header["license"] == "unknown"
    assert header["size_categories"] == ["n<1K"]
    assert header["configs"] == [{"config_name": "default", "data_files": "shards/*.tar"}]
    exported(given, "huggingface", tmp_path, publication=Publication(licence="cc-by-4.0"))
    assert card_of(tmp_path)[0]["license"] == "cc-by-4.0"


def test_the_card_counts_what_was_removed_and_why(folder: Path, given: Path) -> None:
    _, text = card_of(folder)
    (kept,) = ask(given, "SELECT count(*) AS n FROM samples WHERE verdict = 'keep'")
    assert f"{kept['n']} image-text samples, kept by the recipe, out of 26" in text
    for row in ask(given, "SELECT filter, dropped FROM drops WHERE place > 0"):
        (line,) = re.findall(rf"^\| \d+ \| {row['filter']} \|.*$", text, re.MULTILINE)
        assert f"| {row['dropped']} |" in line
    assert "at least 30 pixels" in line or "cosine to every earlier sample at most 0.999" in line
    assert "| zero_bytes | the image member is empty | 2 |" in text


def test_the_card_tells_gaps_alerts_diversity_and_the_recipe(folder: Path) -> None:
    _, text = card_of(folder)
    for heading in (
        "Origin",
        "What was removed, and why",
        "What could not be read",
        "Diversity of `clip_image`",
        "Known gaps",
        "Use-case alerts",
        "Columns of `metadata.parquet`",
        "Recipe",
    ):
        assert f"\n## {heading}\n" in text
    assert "7.7 % of the pool could not be read or decoded: zero_bytes 2." in text
    assert "Evaluation sets were not searched for" in text
    assert "Copies were not removed" not in text
    recipe = yaml.safe_load(re.findall(r"```yaml\n(.*?)\n```", text, re.DOTALL)[-1])
    assert recipe["name"] == "given"
    assert [next(iter(step)) for step in recipe["filters"]] == ["min_side_pixels", "drop_near_duplicates"]


def test_other_peoples_text_is_shown_and_not_obeyed(folder: Path) -> None:
    _, text = card_of(folder)
    before_recipe = text.split("## Recipe")[0]
    assert "<b>" not in before_recipe
    assert r"a \[test\] of &lt;b&gt;exports&lt;/b&gt; \| with \`marks\`" in before_recipe


def test_every_column_of_the_metadata_is_described(folder: Path) -> None:
    _, text = card_of(folder)
    for name in pq.read_schema(folder / "metadata.parquet").names:
        assert re.search(rf"^\| {re.escape(name)} \| \S", text, re.MULTILINE), name


@pytest.mark.filterwarnings("ignore")
def test_hugging_faces_library_loads_shards_and_metadata(
    folder: Path, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    import datasets

    cache = str(tmp_path / "cache")
    kept = ask(given, "SELECT uid, caption FROM samples WHERE verdict = 'keep'")
    images: Any = datasets.load_dataset(str(folder), split="train", cache_dir=cache, streaming=True)
    rows = list(images)
    assert [row["curate.json"]["uid"] for row in rows] == [row["uid"] for row in kept]
    assert rows[0]["jpg"].size == (48, 48)
    exported(given, "huggingface", tmp_path / "chosen", "verdict = 'keep'")
    metadata: Any = datasets.load_dataset(str(tmp_path / "chosen"), split="train", cache_dir=cache)
    assert [{name: row[name] for name in ("uid", "caption")} for row in metadata] == kept


def test_shards_are_linked_not_copied(folder: Path, given: Path) -> None:
    placed = sorted((folder / "shards").iterdir())
    stored = sorted(given.glob("curated/*/*.tar"))
    assert [path.name for path in placed] == [path.name for path in stored]
    assert all(one.samefile(other) for one, other in zip(placed, stored, strict=True))


def test_a_condition_has_metadata_alone_and_is_told(given: Path, tmp_path: Path) -> None:
    where = "dropped_by IS NOT NULL -- `the` ```others```"
    files = exported(given, "huggingface", tmp_path, where)
    assert files == ["README.md", "metadata.parquet"]
    header, text = card_of(tmp_path)
    assert header["configs"] == [{"config_name": "default", "data_files": "metadata.parquet"}]
    assert f"````sql\n{where}\n````" in text
    found = pq.read_table(tmp_path / "metadata.parquet")
    assert found["key"].to_pylist() == [
        row["key"] for row in ask(given, "SELECT key FROM samples WHERE dropped_by IS NOT NULL")
    ]
    assert not {"shard", "sample_offset", "votes", "failure_detail"} & set(found.column_names)


def test_an_empty_store_has_a_card(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [])
    curate(EMPTY, tmp_path / "pool", tmp_path / "store")
    exported(tmp_path / "store", "huggingface", tmp_path / "out")
    assert "0 image-text samples, kept by the recipe, out of 0" in card_of(tmp_path / "out")[1]
    assert pq.read_table(tmp_path / "out" / "metadata.parquet").num_rows == 0


def test_a_pool_of_metadata_tells_its_sources_and_languages(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"url": f"https://[x](y).example{at % 2}/a.jpg", "text": "a small picture of a ship"}
        for at in range(5)
    ]
    metadata_shard(tmp_path / "pool" / "0.parquet", rows)
    text = "name: bare\npool: {format: datacomp}\nfilters: [language: en]\noutput: {report: false}\n"
    curate(text, tmp_path / "pool", tmp_path / "store")
    exported(tmp_path / "store", "huggingface", tmp_path / "out")
    _, said = card_of(tmp_path / "out")
    assert "The largest sources:" in said
    assert r"\[x\](y).example0 | 3 |" in said
    assert "| en | 5 |" in said
    assert "Captions were not selected by language" not in said


def test_secrets_are_in_no_file(tmp_path: Path, small_pool: Path) -> None:
    text = EMPTY.replace("{retry_seconds: []}", "{retry_seconds: [], storage_options: {password: hunter2}}")
    curate(text, small_pool, tmp_path / "store")
    exported(tmp_path / "store", "huggingface", tmp_path / "out")
    exported(tmp_path / "store", "croissant", tmp_path / "croissant")
    for path in [*(tmp_path / "out").rglob("*"), *(tmp_path / "croissant").rglob("*")]:
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


@pytest.mark.parametrize(
    ("samples", "words"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (12_800_000, "10M<n<100M"), (10**13, "n>1T")],
)
def test_sizes_are_named_as_the_hub_does(samples: int, words: str) -> None:
    assert size_category(samples) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("drop_near_duplicates", "drop_near_duplicates"),
        ("_x_ *y* `z`", r"\_x\_ \*y\* \`z\`"),
        ("# no heading", r"\# no heading"),
        ("1. no list", r"1\. no list"),
        ("26.9 %", "26.9 %"),
        ("a\nb\x1b[2J", "a b\ufffd\\[2J"),
        ("<script>&amp;", "&lt;script&gt;&amp;amp;"),
        ("![x](javascript:y)", r"!\[x\](javascript:y)"),
    ],
)
def test_plain_text_is_no_markup(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_cells_and_fences_cannot_be_left() -> None:
    assert table(("a",), [("x | y",)]) == "| a |\n| --- |\n| x \\| y |\n"
    assert fenced("a ```` b", "sql") == "`````sql\na ```` b\n`````"
