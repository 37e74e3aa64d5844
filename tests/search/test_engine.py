"""Searching by text, by image, by another sample, under a condition."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curate.search.engine import FOUND, MOST_FOUND, SearchEngine
from curate.search.shown import ShownSamples
from filters.core.errors import QueryError
from tests.compared import HOSTILE
from tests.pools import photo, sample, write_tar
from tests.running import EVERYDAY, ask, curate
from tests.search.conftest import PICTURES, all_embeddings, opened


@pytest.fixture(scope="module")
def engine(pictures: Path) -> SearchEngine:
    return SearchEngine(opened(pictures))


def places(found: object) -> list[tuple[str, int]]:
    return list(zip(found["shard"].to_pylist(), found["row"].to_pylist(), strict=True))  # type: ignore[index]


def test_a_caption_finds_what_its_embedding_is_nearest_to(engine: SearchEngine) -> None:
    found = engine.by_text("a photo of a ship at sea", 26)
    assert found.schema == FOUND
    assert found["rank"].to_pylist() == list(range(1, found.num_rows + 1))
    assert found.num_rows == 24, "two samples are broken and have no embedding"
    query = engine.encoder.encode_texts(["a photo of a ship at sea"])[0].astype(np.float64)
    rows = all_embeddings(engine.decision).astype(np.float64)
    expected = np.sort((rows * query).sum(axis=1)[~np.isnan(rows[:, 0])])[::-1]
    assert np.allclose(found["cosine"].to_numpy(), expected, atol=1e-6)


def test_a_text_finds_its_own_caption_among_embeddings_of_texts(pictures: Path) -> None:
    engine = SearchEngine(opened(pictures), "clip_text")
    (first,) = engine.by_text("the same picture again", 1).to_pylist()
    assert first["caption"] == "the same picture again"
    assert first["cosine"] > 0.999


def test_an_image_finds_itself_and_its_copies(engine: SearchEngine) -> None:
    found = engine.by_image(photo(4, side=48), 2).to_pylist()
    assert found[0]["key"] == "0004"
    assert found[0]["cosine"] > 0.999


def test_a_sample_finds_its_copies_and_not_itself(engine: SearchEngine) -> None:
    rows = ask(engine.decision.store, "SELECT uid, key, shard FROM samples WHERE key = '0900'")
    found = engine.like(rows[0]["uid"].upper(), 30).to_pylist()
    assert len(found) == 23
    assert "0900" not in {one["key"] for one in found}
    assert found[0]["cosine"] > 0.999
    assert found[0]["verdict"] in {"keep", "drop"}


def test_results_say_what_became_of_each_sample(engine: SearchEngine) -> None:
    by_place = {
        (row["shard"], row["row"]): row
        for row in ask(
            engine.decision.store, "SELECT uid, key, caption, verdict, dropped_by, shard, row FROM samples"
        )
    }
    for one in engine.by_text("anything", 26).to_pylist():
        expected = by_place[one["shard"], one["row"]]
        assert {name: one[name] for name in expected} == expected
    captions = {one["caption"] for one in engine.by_text("anything", 26).to_pylist()}
    assert HOSTILE in captions


@pytest.mark.parametrize(
    "where",
    [
        "verdict = 'keep' AND width > 50",
        "dropped_by IS NOT NULL -- those that are gone",
        "uid IN (SELECT duplicate_of FROM duplicates)",
        "true",
        "false",
        "NULL",
        "caption LIKE '%[red]%'",
    ],
)
def test_a_condition_is_exactly_kept(engine: SearchEngine, where: str) -> None:
    meeting = ask(engine.decision.store, f"SELECT shard, row FROM samples WHERE ({where}\n)")  # noqa: S608
    allowed = {(row["shard"], row["row"]) for row in meeting}
    everything = engine.by_text("a ship", 26)
    found = engine.by_text("a ship", 26, where)
    assert places(found) == [place for place in places(everything) if place in allowed]
    some = engine.by_text("a ship", 3, where)
    assert places(some) == places(found)[:3]


@pytest.mark.parametrize(
    "where",
    [
        "",
        "  ",
        "verdict =",
        "nonsense > 3",
        "caption",
        "uid, key",
        "count(*) > 1",
        "width > ?",
        "true) UNION SELECT shard, row FROM samples --",
        "true\n) UNION ALL (SELECT shard, row FROM samples",
        "true) LIMIT (1",
        "true) OFFSET (1",
        "true) ORDER BY (1",
        "true) GROUP BY (1",
        "true) HAVING (true",
        "true) QUALIFY (true",
        "true); DROP VIEW samples; SELECT (1",
        "true); COPY samples TO '/tmp/x.csv'; SELECT (1",
        "EXISTS (SELECT * FROM read_text('/etc/passwd'))",
        "EXISTS (FROM '/etc/passwd')",
        "EXISTS (FROM glob('/*'))",
        "EXISTS (FROM read_parquet('https://example.org/x.parquet'))",
        "getenv('HOME') IS NOT NULL",
        "'unended",
        "/* unended",
        "(" * 20_000 + "true" + ")" * 20_000,
        "x" * 200_000,
        "uid = '\ud800'",
    ],
)
def test_what_is_no_condition_is_refused(engine: SearchEngine, where: str) -> None:
    with pytest.raises(QueryError):
        engine.by_text("a ship", 3, where)
    assert engine.by_text("a ship", 3).num_rows == 3


@pytest.mark.parametrize("k", [0, -1, MOST_FOUND + 1])
def test_how_many_is_bounded(engine: SearchEngine, k: int) -> None:
    with pytest.raises(QueryError, match="finds 1 to 10,000 samples"):
        engine.by_text("a ship", k)


@pytest.mark.parametrize("text", ["", " \n", "long " * 10_000])
def test_a_text_has_words_and_an_end(engine: SearchEngine, text: str) -> None:
    with pytest.raises(QueryError, match="a text to search with has"):
        engine.by_text(text)


@pytest.mark.parametrize("text", ["صورة قطة", "一只黑猫", "\x00\x1b[2J", "<script>", "\udcff", "🚢" * 500])
def test_any_text_can_be_searched_with(engine: SearchEngine, text: str) -> None:
    assert engine.by_text(text, 5).num_rows == 5


def bomb() -> bytes:
    """A picture of a few kilobytes that declares 200 megapixels."""
    stream = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "zero_bytes"),
        (b"<html>", "not_an_image"),
        (photo(1)[:300], "truncated_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not_an_image"),
        (bomb(), "decompression_bomb"),
    ],
)
def test_what_is_no_picture_is_told(engine: SearchEngine, content: bytes, code: str) -> None:
    with pytest.raises(QueryError, match=f"can't be searched with: {code}"):
        engine.by_image(content)


def test_a_file_that_is_too_large_is_not_decoded(engine: SearchEngine) -> None:
    with pytest.raises(QueryError, match="at most 33,554,432 are read"):
        engine.by_image(photo(1) + bytes(1 << 25))


@pytest.mark.parametrize("uid", ["0" * 32, "", "x' OR '1' = '1", "x'; DROP VIEW samples"])
def test_an_unknown_uid_is_told(engine: SearchEngine, uid: str) -> None:
    with pytest.raises(QueryError, match="no sample with the uid"):
        engine.like(uid)


def test_a_sample_that_failed_has_no_neighbours(engine: SearchEngine) -> None:
    (row, *_) = ask(engine.decision.store, "SELECT uid FROM samples WHERE verdict = 'failed'")
    with pytest.raises(QueryError, match="has no embedding"):
        engine.like(row["uid"])


def test_unknown_embeddings_are_answered_with_the_nearest(pictures: Path) -> None:
    with pytest.raises(QueryError, match="did you mean clip_image or clip_text"):
        SearchEngine(opened(pictures), "clip_images")


def test_a_decision_without_embeddings_is_told(tmp_path: Path, small_pool: Path) -> None:
    curate(EVERYDAY, small_pool, tmp_path / "store")
    with pytest.raises(QueryError, match="has no embeddings to search in: add a measure"):
        SearchEngine(opened(tmp_path / "store"))


@pytest.mark.parametrize("rows", [0, 1])
def test_a_store_of_no_or_one_row_is_searched(tmp_path: Path, rows: int) -> None:
    write_tar(tmp_path / "pool" / "0.tar", sample("a", photo(1), "a small picture") if rows else [])
    curate(PICTURES, tmp_path / "pool", tmp_path / "store")
    engine = SearchEngine(opened(tmp_path / "store"))
    engine.warm()
    assert engine.by_text("a ship", 5).num_rows == rows
    assert engine.by_image(photo(1), 5, "verdict = 'keep'").num_rows == rows
    if rows:
        (row,) = ask(tmp_path / "store", "SELECT uid FROM samples")
        assert engine.like(row["uid"]).num_rows == 0


def test_a_part_in_which_nothing_could_be_measured_is_passed_over(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", sample("a", b"", "broken"))
    write_tar(tmp_path / "pool" / "1.tar", sample("b", photo(1), "a small picture"))
    curate(PICTURES, tmp_path / "pool", tmp_path / "store")
    (found,) = SearchEngine(opened(tmp_path / "store")).by_text("a ship", 5).to_pylist()
    assert found["key"] == "b"


def test_threads_share_an_engine(engine: SearchEngine) -> None:
    texts = [f"text number {number}" for number in range(8)]
    alone = {text: engine.by_text(text, 5, f"width > {len(text)}") for text in texts}
    found: dict[str, object] = {}

    def search(text: str) -> None:
        found[text] = engine.by_text(text, 5, f"width > {len(text)}")

    threads = [threading.Thread(target=search, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_samples_are_read_in_any_order_and_forgotten_beyond_the_bound(pictures: Path) -> None:
    decision = opened(pictures)
    bounds = np.array([0, 13, 26])
    numbers = np.array([25, 0, 13, 12, 0])
    small, large = ShownSamples(decision, bounds, most_bytes=1), ShownSamples(decision, bounds)
    for samples in (small, large):
        samples.fill()
        assert samples.read(numbers)["key"].to_pylist() == ["1902", "0000", "1000", "0902", "0000"]
    assert len(small._held) == 1
    assert len(large._held) == 2
    assert large.read(np.empty(0, np.int64)).num_rows == 0
