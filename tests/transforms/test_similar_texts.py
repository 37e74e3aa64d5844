"""Captions that are nearly the same: MinHash finds them, exact Jaccard decides."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from filters.drop_similar_captions import DropSimilarCaptions
from tests.relating import after_others, compared, cut
from tests.transforms.relations.test_near_duplicates import pool
from transforms import similar_texts
from transforms.similar_texts import jaccard, most_similar_earlier, normalised, shingles, signatures

WORDS = ("red", "green", "blue", "old", "small", "dog", "cat", "house", "river", "stone", "music", "winter")


def captions(count: int, seed: int = 0) -> list[str]:
    """Sentences of which some are others with a word changed, and some are equal."""
    chance = random.Random(seed)  # noqa: S311  (no secrets here)
    found: list[str] = []
    for _ in range(count):
        if found and chance.random() < 0.4:
            words = chance.choice(found).split()
            words[chance.randrange(len(words))] = chance.choice(WORDS)
            found.append(" ".join(words))
        else:
            found.append(" ".join(chance.choices(WORDS, k=12)))
    return found


def test_texts_are_compared_without_case_punctuation_and_width() -> None:
    assert normalised("  A ﬁne—Photo,\tof\u00a0a DOG!! ") == "a fine photo of a dog"
    assert normalised("日本語。") == "日本語"
    assert normalised("?!") == ""


def test_shingles_are_five_characters_or_the_whole_short_text() -> None:
    assert shingles("abcdef") == {"abcde", "bcdef"}
    assert shingles("ab") == {"ab"}
    assert jaccard(shingles("abcdef"), shingles("abcde")) == 0.5


@pytest.mark.parametrize("above", [0.6, 0.8])
def test_nothing_above_the_bound_is_missed_often_and_similarities_are_exact(above: float) -> None:
    texts = captions(400)
    similarity, original = most_similar_earlier(texts, above)
    sets = [shingles(text) for text in texts]
    missed = wanted = 0
    for at in range(400):
        truth = max([0.0, *(jaccard(sets[at], sets[other]) for other in range(at))])
        assert similarity[at] <= truth
        if similarity[at] > 0:
            assert similarity[at] == jaccard(sets[at], sets[original[at]])
        if truth > above:
            wanted += 1
            missed += similarity[at] <= above
    assert wanted > 60
    assert missed <= 0.05 * wanted


def test_equal_texts_name_the_first_and_empty_ones_nothing() -> None:
    similarity, original = most_similar_earlier(["a dog", "", "a dog", "", "a dog"], 0.8)
    assert similarity.tolist() == [0, 0, 1, 0, 1]
    assert original.tolist() == [-1, -1, 0, -1, 0]
    assert [len(found) for found in most_similar_earlier([], 0.8)] == [0, 0]


@pytest.mark.parametrize("known", [0, 1, 200, 399, 400])
def test_known_texts_come_first_and_are_not_asked_about(known: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = captions(400)
    texts[3] = texts[390] = ""
    similarity, original = most_similar_earlier(texts, 0.6)
    signed = signatures(texts[:known])
    assert signed.shape == (known, similar_texts.PERMUTATIONS)
    made: list[str] = []

    def made_now(some: list[str]) -> object:
        made.extend(some)
        return signatures(some)

    monkeypatch.setattr(similar_texts, "signatures", made_now)
    found = most_similar_earlier(texts, 0.6, signed)
    assert [values.tolist() for values in found] == [similarity[known:].tolist(), original[known:].tolist()]
    assert len(made) <= 400 - known


def test_a_large_group_is_compared_with_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"the same long caption about a picture of something {at:03d}" for at in range(120)]
    whole, _ = most_similar_earlier(texts, 0.6)
    monkeypatch.setattr(similar_texts, "WHOLE_GROUP", 20)
    some, _ = most_similar_earlier(texts, 0.6)
    assert np.count_nonzero(whole > 0.6) == np.count_nonzero(some > 0.6) == 119


def test_captions_count_inside_a_cluster_of_images_only(tmp_path: Path) -> None:
    rows = pool(200, seed=6)
    rows["failure"] = [None] * 200
    rows["caption"] = captions(200, seed=1)
    rows["caption"][5], rows["caption"][6] = None, "\x00 …"
    one = compared(tmp_path / "one", DropSimilarCaptions(clusters=1), [rows])[0]
    order = sorted(range(200), key=lambda at: rows["uid"][at])
    similarity, original = most_similar_earlier([normalised(rows["caption"][at] or "") for at in order], 0.8)
    for place, at in enumerate(order):
        assert one["caption_jaccard"][at] == np.float32(similarity[place])
        uid = None if original[place] < 0 else rows["uid"][order[original[place]]]
        assert one["duplicate_of"][at] == uid
    parts = compared(
        tmp_path / "two", DropSimilarCaptions(clusters=1), cut(rows, [range(90), range(90, 200)])
    )
    assert parts[0]["caption_jaccard"] + parts[1]["caption_jaccard"] == one["caption_jaccard"]
    torn = compared(tmp_path / "torn", DropSimilarCaptions(clusters=6), [rows])[0]
    pairs = zip(torn["caption_jaccard"], one["caption_jaccard"], strict=True)
    assert all(inside <= everywhere for inside, everywhere in pairs)
    assert torn["caption_jaccard"] != one["caption_jaccard"]


@pytest.mark.parametrize("known", [0, 1, 150, 199])
def test_what_was_kept_in_earlier_batches_comes_first(tmp_path: Path, known: int) -> None:
    rows = pool(200, seed=6)
    rows["failure"] = [None] * 200
    rows["caption"] = captions(200, seed=1)
    rows["caption"][5], rows["caption"][6], rows["caption"][190] = None, "\x00 …", "Ééé " * 600
    # As in one go where earlier rows have the greater signal.
    rows["clip_cosine"] = np.where(np.arange(200) < known, 0.9, 0.1).astype(np.float32)
    rule = DropSimilarCaptions(by="clip_cosine", clusters=1)
    whole = compared(tmp_path / "whole", rule, [rows])[0]
    found = after_others(tmp_path / "later", rule, rows, range(known), range(known, 200))
    assert len(found["caption_jaccard"]) == 200 - known
    for name, values in found.items():
        assert values == whole[name][known:], name
    if known == 150:
        earlier = set(rows["uid"][:known])
        assert sum(original in earlier for original in found["duplicate_of"]) > 5


def test_inside_clusters_only_what_was_kept_in_them_is_looked_at(tmp_path: Path) -> None:
    rows = pool(8, seed=6)
    rows["failure"] = [None] * 8
    rows["caption"] = captions(4, seed=2) * 2
    rows["vectors"] = np.eye(8, dtype=np.float16)[[0, 1, 2, 0, 0, 2, 2, 0]]  # row 5 is elsewhere than row 1
    found = after_others(tmp_path, DropSimilarCaptions(clusters=3), rows, range(4), range(4, 8))
    assert [original is not None for original in found["duplicate_of"]] == [True, False, True, True]
