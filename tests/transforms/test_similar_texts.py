"""Captions that are nearly the same: MinHash finds them, exact Jaccard decides."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from filters.drop_similar_captions import DropSimilarCaptions
from tests.relating import compared
from tests.transforms.relations.test_near_duplicates import cut, pool
from transforms import similar_texts
from transforms.similar_texts import jaccard, most_similar_earlier, normalised, shingles

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
