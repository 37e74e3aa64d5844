"""Wrong captions: how well each detector ranks them before the right ones.

    python -m benchmarks.noise --data DATA --model CHECKPOINT
    python -m benchmarks.noise --demo [--model CHECKPOINT]

The first is about captions that people got wrong: DATA holds `shards/*.tar` with one caption for
each class, and `truth.csv` with key, is_wrong. The second swaps captions in the demo's world, at
random or between pictures of the same main object, and embeds with the demo's model unless another
is given. Nothing is fitted to the truth: constants are the methods' published ones, the temperature
beside them is the model's own, and the pool itself, wrong captions and all, is the reference set.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.noise_detectors import (
    BANK,
    DETECTORS,
    Detector,
    Scores,
    clip_loss,
    clip_loss_by_bank,
    with_the_truth,
)
from benchmarks.noisy_pools import NoisyPool, Swap, demo_pairs, human_pool, swapped
from curate.demo.train import MODEL_FOLDER
from transforms.noise.clip_loss import TEMPERATURE

RESAMPLES, SEED = 1000, 0
DEMO_PAIRS = 4000
SWAPS: tuple[Swap, ...] = ("random", "hard")
RATES = (0.05, 0.1, 0.2)
FIGURES = ("AUROC", "average precision", "precision at the true rate")

Figures = NDArray[np.float64]


def figures(scores: Scores, wrong: NDArray[np.bool_], weights: NDArray[np.int64]) -> Figures:
    """AUROC, average precision, and precision where as many are called wrong as are wrong.

    weights: (r, n) int64: how often each pair is in each of r resamples. Pairs without a score are
    the least suspicious; pairs of one score are all called together, or in part at the boundary.
    Returns: (r, 3) float64.
    """
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    values = np.unique(ranked)[::-1]
    group = np.searchsorted(-values, -ranked)
    found = np.empty((len(weights), 3))
    for row, weight in enumerate(weights):
        bad = np.bincount(group, weight * wrong, len(values))
        good = np.bincount(group, weight * ~wrong, len(values))
        bads, goods = np.cumsum(bad), np.cumsum(good)
        called = bads + goods
        area = (good * (bads - bad / 2)).sum() / (bads[-1] * goods[-1])
        average = (bad * bads / np.maximum(called, 1)).sum() / bads[-1]
        # Within a group of one score right and wrong ones are called in proportion.
        at_rate = np.interp(bads[-1], np.insert(called, 0, 0), np.insert(bads, 0, 0)) / bads[-1]
        found[row] = area, average, at_rate
    return found


def measured(
    pool: NoisyPool, detectors: Sequence[Detector] = DETECTORS, resamples: int = RESAMPLES
) -> dict[str, Figures | None]:
    """Detector -> the figures of the pool itself, then of its bootstrap samples; None without an answer.

    All detectors see the same samples, so that differences between them are of pairs.
    """
    count = len(pool.wrong)
    draws = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), resamples)
    weights = np.concatenate([np.ones((1, count), np.int64), draws])
    scored = ((detector.name, detector.score(pool)) for detector in detectors)
    return {
        name: None if np.isnan(scores).all() else figures(scores, pool.wrong, weights)
        for name, scores in scored
    }


def table(found: Mapping[str, Figures | None]) -> str:
    """What each detector reaches in one pool, in Markdown, with bootstrap intervals of 95 %."""
    lines = [f"| detector | {' | '.join(FIGURES)} | AUROC less the first |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {' | '.join(_cells(found, name))} |" for name in found]
    return "\n".join(lines)


def swap_table(found: Mapping[str, Mapping[str, Figures | None]]) -> str:
    """The same for several pools side by side: a column for each, the four figures below each other."""
    lines = [f"| detector | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    for detector in next(iter(found.values())):
        cells = ["<br>".join(_cells(pool, detector)) for pool in found.values()]
        lines.append(f"| {detector} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(found: Mapping[str, Figures | None], name: str) -> list[str]:
    own, first = found[name], next(iter(found.values()))
    if own is None or first is None:
        return ["no answer", "-", "-", "-"]
    cells = [_interval(own[:, column]) for column in range(3)]
    return [*cells, "-" if own is first else _interval(own[:, 0] - first[:, 0], "+.4f")]


def _interval(values: Figures, form: str = ".3f") -> str:
    """The value of the pool itself, which stands first, and the interval of its resamples."""
    low, high = np.quantile(values[1:], [0.025, 0.975]).tolist()
    return f"{values[0]:{form}} ({low:{form}} to {high:{form}})"


def better(found: Mapping[str, Figures | None]) -> list[str]:
    """The others whose AUROC is above that of the first in 97.5 % of the samples."""
    (_, first), *others = found.items()
    if first is None:
        return []
    return [name for name, own in others if own is not None and _low(own[:, 0] - first[:, 0]) > 0]


def fused_less_best(found: Mapping[str, Figures | None]) -> list[str]:
    """How far each fused detector is above the single one of the greatest AUROC."""
    single = {name: one for name, one in found.items() if one is not None and not name.startswith("fused")}
    best = max(single, key=lambda name: float(single[name][:1, 0].item()))
    most = single[best]
    return [
        f"{name} less {best}: AUROC {_interval(own[:, 0] - most[:, 0], '+.4f')}, "
        f"average precision {_interval(own[:, 1] - most[:, 1], '+.4f')}"
        for name, own in found.items()
        if name not in single and own is not None
    ]


def _low(values: Figures) -> float:
    return float(np.quantile(values[1:], 0.025))


def rank_correlation(one: Scores, other: Scores) -> float:
    """Spearman's, ties by place."""
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (one, other)]
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def _print_human(data: Path, model: Path) -> None:
    pool = human_pool(data, model)
    print(f"{len(pool.wrong):,} pairs, {pool.wrong.mean():.1%} wrong; the model's tau {1 / pool.scale:.3f}\n")
    found = measured(pool)
    print("\n\n".join([table(found), *fused_less_best(found)]))
    taught = Detector("no detector: regression on the truth", with_the_truth)
    print(f"\n{table(measured(pool, [DETECTORS[0], taught]))}")
    for own_temperature in (False, True):
        agreed = rank_correlation(
            clip_loss(pool, own_temperature=own_temperature),
            clip_loss_by_bank(pool, own_temperature=own_temperature),
        )
        name = "the model's tau" if own_temperature else f"tau {TEMPERATURE}"
        print(f"\ns-CLIPLoss, {name}: bank of {BANK:,} and pool agree with Spearman {agreed:.4f}")


def _print_demo(model: Path) -> None:
    pairs, facts = demo_pairs(DEMO_PAIRS, model)
    found = {
        f"{swap} {rate:.0%}": measured(swapped(pairs, facts, swap, rate)) for swap in SWAPS for rate in RATES
    }
    print(f"{DEMO_PAIRS:,} pairs; the model's tau {1 / pairs.scale:.3f}\n\n{swap_table(found)}")
    for name, pool in found.items():
        print(f"\n{name}, above 1 - clip_cosine: {'; '.join(better(pool)) or 'none'}")


def main() -> None:
    """Prints the table, and how well banks agree with whole batches."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with shards/ and truth.csv")
    parser.add_argument("--model", type=Path, help="folder of a local open_clip checkpoint")
    parser.add_argument("--demo", action="store_true", help="swapped captions in the demo's world")
    options = parser.parse_args()
    if options.demo:
        _print_demo(options.model or MODEL_FOLDER)
    elif options.data and options.model:
        _print_human(options.data, options.model)
    else:
        parser.error("give --demo, or --data and --model")


if __name__ == "__main__":
    main()
