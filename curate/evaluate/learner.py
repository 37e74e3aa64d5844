"""The small CLIP that sets of samples are compared by, and how it learns from pairs alone.

The architecture of the demonstration's model, for smaller pictures, and the plain contrastive loss
(Radford et al. 2021, arXiv 2103.00020, section 2.3): nothing but the pairs teaches it. One seed
gives the initial weights, the order of the samples and the small changes of their pictures. One
thread computes, so that a machine's number of cores changes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import open_clip
import torch
from torch.nn import functional

from curate.demo.train import MODEL_CONFIG
from curate.evaluate.data import Pairs
from curate.evaluate.held_out import HeldOut
from curate.evaluate.score import scores
from curate.evaluate.settings import BATCH
from curate.evaluate.training import Schedule, augmented, train_model

SIDE_PIXELS = 32
WARMUP_SHARE = 1 / 12
PREPROCESSING: dict[str, Any] = MODEL_CONFIG["preprocess_cfg"]


def learner_config() -> dict[str, Any]:
    """What open_clip builds the model from."""
    config: dict[str, Any] = copy.deepcopy(MODEL_CONFIG["model_cfg"])
    config["vision_cfg"]["image_size"] = SIDE_PIXELS
    return config


def schedule_of(budget: int) -> Schedule:
    """The schedule in which a model sees `budget` samples, rounded to whole batches."""
    steps = max(1, round(budget / BATCH))
    return Schedule(steps, BATCH, warmup_steps=max(1, round(steps * WARMUP_SHARE)))


def trained_scores(
    pairs: Pairs, held_out: HeldOut, budget: int, seed: int, heard: Callable[[int, float], object]
) -> dict[str, float]:
    """What a model does on held-out pairs after it saw so many of these samples.

    pairs: at least a batch. heard: is told each step and its loss.
    """
    with _reproducible(seed):
        model = open_clip.CLIP(**learner_config()).train()
        tokenize = open_clip.SimpleTokenizer(context_length=model.context_length)
        schedule, rng = schedule_of(budget), np.random.default_rng([seed, budget])
        tokens = tokenize(list(pairs.captions))
        batches = _batches(len(pairs), schedule.batch, rng)

        def step_loss() -> torch.Tensor:
            chosen = next(batches)
            shown = augmented(pairs.pixels[chosen], schedule, PREPROCESSING, rng)
            images = model.encode_image(shown, normalize=True)
            texts = model.encode_text(tokens[chosen], normalize=True)
            cosines = model.logit_scale.exp() * images @ texts.T
            own = torch.arange(len(chosen))
            loss = functional.cross_entropy(cosines, own) + functional.cross_entropy(cosines.T, own)
            return loss / 2

        train_model(model, step_loss, schedule, heard)
        return scores(model, tokenize, held_out, PREPROCESSING)


def _batches(
    count: int, batch: int, rng: np.random.Generator
) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """Places of batch after batch: every sample once before any comes again."""
    waiting = rng.permutation(count)
    while True:
        while len(waiting) < batch:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield waiting[:batch]
        waiting = waiting[batch:]


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """One thread, deterministic kernels and this seed, inside the block alone."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            torch.set_num_threads(1)
            torch.use_deterministic_algorithms(mode=True)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=strict)
