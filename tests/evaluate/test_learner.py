"""A training depends on its pairs and its seed, and leaves no trace in the process."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from curate.evaluate.held_out import HeldOut, scenes
from curate.evaluate.learner import _batches, schedule_of, trained_scores
from curate.evaluate.settings import BATCH


def test_a_budget_is_whole_batches() -> None:
    assert schedule_of(51_200).steps == 400
    assert schedule_of(1).steps == 1
    assert schedule_of(BATCH * 3 + 10).steps == 3


@pytest.mark.parametrize("count", [8, 13, 5])
def test_every_sample_is_seen_once_before_any_is_seen_again(count: int) -> None:
    places = np.concatenate(list(islice(_batches(count, 5, np.random.default_rng(0)), count * 3)))
    seen = np.bincount(places, minlength=count)
    assert (seen == 15).all()
    assert sorted(places[:count].tolist()) == list(range(count))


def test_the_same_seed_gives_the_same_scores_and_the_process_is_left_as_it_was() -> None:
    pairs, clean = scenes(BATCH, 32), HeldOut.of(scenes(40, 32), None)
    torch.manual_seed(3)
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    heard: list[int] = []

    def tell(step: int, _: float) -> None:
        heard.append(step)

    first = trained_scores(pairs, clean, 3 * BATCH, 0, tell)
    assert heard == [0, 1, 2]
    torch.set_num_threads(1)  # the number of threads outside changes nothing
    assert trained_scores(pairs, clean, 3 * BATCH, 0, tell) == first
    torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    assert trained_scores(pairs, clean, 3 * BATCH, 1, tell) != first


@pytest.mark.slow
def test_a_model_learns_its_own_pairs() -> None:
    pairs = scenes(BATCH, 32)
    found = trained_scores(pairs, HeldOut.of(pairs, None), 40 * BATCH, 0, lambda *_: None)
    assert found["image_to_text_recall_at_5"] > 0.25  # by chance 5 of 128
