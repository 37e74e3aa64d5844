"""Retrieval counts equal captions as one answer; classes count where a caption names a single one."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest

from curate.demo.vocabulary import colour_vocabulary, kind_vocabulary
from curate.evaluate.data import Pair, Pairs
from curate.evaluate.held_out import HeldOut
from curate.evaluate.learner import PREPROCESSING, SIDE_PIXELS, learner_config
from curate.evaluate.score import recall_at, scores


def test_the_nearest_is_right_when_rows_match() -> None:
    rows = np.eye(6)
    assert recall_at(rows, rows, [str(place) for place in range(6)], 1) == 1.0
    assert recall_at(rows, np.roll(rows, 1, axis=0), [str(place) for place in range(6)], 1) == 0.0


def test_the_best_five_may_hold_it() -> None:
    answers = np.eye(6)
    queries = 0.5 * np.eye(6) + np.roll(np.eye(6), 1, axis=1)  # the own answer is the second nearest
    captions = [str(place) for place in range(6)]
    assert recall_at(queries, answers, captions, 1) == 0.0
    assert recall_at(queries, answers, captions, 5) == 1.0


def test_another_pair_of_the_same_caption_is_as_good() -> None:
    queries, answers = np.eye(2), np.eye(2)[::-1]
    assert recall_at(queries, answers, ["a cat", "a cat"], 1) == 1.0
    assert recall_at(queries, answers, ["a cat", "a dog"], 1) == 0.0


def test_one_pair_is_always_found() -> None:
    assert recall_at(np.ones((1, 3)), np.ones((1, 3)), ["alone"], 5) == 1.0


def pairs_of(*captions: str) -> Pairs:
    generator = np.random.default_rng(0)
    shape = (SIDE_PIXELS, SIDE_PIXELS, 3)
    return Pairs.of(
        Pair(generator.integers(0, 256, shape, dtype=np.uint8), caption, f"{place:032x}")
        for place, caption in enumerate(captions)
    )


def test_a_caption_of_several_classes_or_none_has_no_class() -> None:
    held_out = HeldOut.of(
        pairs_of("a red ball on grass", "a red ball and a blue cup", "three boats", "a photo"),
        colour_vocabulary(),
    )
    assert held_out.labels.tolist() == [0, -1, -1, -1]
    assert held_out.labelled == 1
    assert len(held_out.prompts) == 11
    kinds = HeldOut.of(pairs_of("two butterflies", "some fish", "three boats"), kind_vocabulary())
    assert (kinds.labels >= 0).all()


@pytest.mark.parametrize("classes", [True, False])
def test_every_score_is_a_share_and_zero_shot_asks_for_classes(*, classes: bool) -> None:
    model = open_clip.CLIP(**learner_config())
    held_out = HeldOut.of(pairs_of("a red ball", "a blue cup"), colour_vocabulary() if classes else None)
    found = scores(model, open_clip.SimpleTokenizer(context_length=24), held_out, PREPROCESSING)
    assert ("zero_shot_accuracy" in found) is classes
    assert all(0 <= share <= 1 for share in found.values())
    assert found["image_to_text_recall_at_5"] == 1.0
