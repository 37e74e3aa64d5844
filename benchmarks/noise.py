"""Wrong captions that people wrote: how well each detector ranks them before the right ones.

`python -m benchmarks.noise --data DATA --model CHECKPOINT` prints the table. DATA holds
`shards/*.tar` with one caption for each concept, and `truth.csv` with key, is_wrong. Nothing is
fitted to truth.csv: constants are the methods' published ones, the temperature beside them is the
model's own, and the pool itself, wrong captions and all, is the reference set.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.photographs import CACHE
from transforms.clustering import Floats, unit_rows
from transforms.decode import decode_image
from transforms.encoders import LOCAL_DIR, load_encoder, weights_identity
from transforms.noise.agreement import VOTERS, Agreement, agreement, credibility, neighbours_among, votes
from transforms.noise.clip_loss import TEMPERATURE, bank_places, bank_scores, own_places, pool_scores
from transforms.noise.neighbourhood import COPY_COSINE, LemonScores, lemon, pair_reference
from transforms.pool import PoolOptions, RawSample
from transforms.pools.webdataset import read_tar

RESAMPLES, SEED = 1000, 0
BANK = 2048
_BATCH = 250

Scores = NDArray[np.floating]


@dataclass(frozen=True)
class NoisyPool:
    """Embedded pairs, one caption for each concept, and which pairs are wrong.

    Attributes:
        image, mirrored, text: (n, d) float16; mirrored: of the pictures' mirror images.
        captions: (n,) str; wrong: (n,) bool, which no detector sees.
        scale: the model's own factor of cosines, 1 / temperature.
    """

    image: NDArray[np.float16]
    mirrored: NDArray[np.float16]
    text: NDArray[np.float16]
    captions: NDArray[np.str_]
    wrong: NDArray[np.bool_]
    scale: float

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(n,) which concept the caption names."""
        return np.unique(self.captions, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def uids(self) -> NDArray[np.uint64]:
        """(n, 2): the place in the pool."""
        return np.stack([np.zeros(len(self.text)), np.arange(len(self.text))], axis=1).astype(np.uint64)

    @cached_property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    def logits(self, image: NDArray[np.float16]) -> Floats:
        """(n, classes) cosines of the pictures with each concept's caption, times the scale."""
        first = np.unique(self.captions, return_index=True)[1]
        return (unit_rows(image)[0] @ unit_rows(self.text[first])[0].T) * np.float32(self.scale)

    def lemon(self, copy_cosine: float | None) -> LemonScores:
        reference = pair_reference(self.image, self.text, self.uids, copy_cosine=copy_cosine)
        return lemon(self.image, self.text, reference, uids=self.uids)

    @cached_property
    def agreement(self) -> Agreement:
        near, _ = neighbours_among(self.image, VOTERS - 1)
        return agreement(votes(near, self.labels, self.labels, self.classes), self.labels)


def read_pool(data: Path, model: Path) -> NoisyPool:
    """The pairs of the shards, embedded once for a model and then taken from the cache."""
    tars = sorted((data / "shards").glob("*.tar"))
    name = f"{LOCAL_DIR}{model}"
    about = [weights_identity(name, None), *(f"{path.resolve()} {path.stat().st_size}" for path in tars)]
    cached = CACHE / f"noise-{xxhash.xxh3_64_hexdigest(chr(10).join(about).encode())}.npz"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        unfinished = cached.with_suffix(".tmp.npz")
        np.savez(unfinished, **_embedded(tars, name))  # type: ignore[arg-type]
        unfinished.replace(cached)
    with np.load(cached) as found:
        stored = dict(found)
    with (data / "truth.csv").open(newline="", encoding="utf-8") as stream:
        truth = {row["key"]: row["is_wrong"] == "1" for row in csv.DictReader(stream)}
    wrong = np.array([truth[key] for key in stored.pop("keys").tolist()])
    return NoisyPool(wrong=wrong, scale=float(stored.pop("scale")), **stored)


def _embedded(tars: Sequence[Path], name: str) -> dict[str, NDArray[np.generic]]:
    encoder = load_encoder(name, None, "cpu", "fp32")
    pairs = list(_pairs(tars))
    found: dict[str, list[NDArray[np.float16]]] = {"image": [], "mirrored": [], "text": []}
    for start in range(0, len(pairs), _BATCH):
        print(f"  embedding {start} of {len(pairs)}", end="\r", flush=True)
        some = pairs[start : start + _BATCH]
        _, image, text = encoder.encode([encoder.prepare(rgb, caption) for _, rgb, caption in some])
        turned = [encoder.prepare(ImageOps.mirror(rgb), caption) for _, rgb, caption in some]
        for side, rows in zip(found, (image, encoder.encode(turned)[1], text), strict=True):
            found[side].append(rows)
    return {
        **{side: np.concatenate(rows) for side, rows in found.items()},
        "keys": np.array([key for key, _, _ in pairs]),
        "captions": np.array([caption for _, _, caption in pairs]),
        "scale": np.array(encoder.model.logit_scale.exp().item()),
    }


def _pairs(tars: Sequence[Path]) -> Iterator[tuple[str, Image.Image, str]]:
    options = PoolOptions()
    for path in tars:
        with path.open("rb") as stream:
            for raw in read_tar(stream, options):
                if isinstance(raw, RawSample) and raw.caption is not None:
                    rgb = decode_image(raw.image, raw.image_name, options).rgb
                    yield raw.key, rgb, raw.caption.decode()


# --- detectors: each gives (n,) scores, high for pairs that look wrong


@dataclass(frozen=True)
class Detector:
    """One row of the table."""

    name: str
    score: Callable[[NoisyPool], Scores]


def one_less_cosine(pool: NoisyPool) -> Scores:
    return 1 - np.einsum("nd,nd->n", unit_rows(pool.image)[0], unit_rows(pool.text)[0])


def self_confidence(pool: NoisyPool, *, mirrored: bool) -> Scores:
    logits = pool.logits(pool.image)
    if mirrored:
        logits = (logits + pool.logits(pool.mirrored)) / 2
    return 1 - _softmax(logits)[np.arange(len(logits)), pool.labels]


def clip_loss(pool: NoisyPool, *, own_temperature: bool) -> Scores:
    temperature = 1 / pool.scale if own_temperature else TEMPERATURE
    return -pool_scores(pool.image, pool.text, pool.uids, temperature=temperature, repetitions=1)


def clip_loss_by_bank(pool: NoisyPool, *, own_temperature: bool) -> Scores:
    temperature = 1 / pool.scale if own_temperature else TEMPERATURE
    bank = bank_places(pool.uids, BANK)
    own = own_places(pool.uids, pool.uids[bank])
    sides = (pool.image, pool.text, pool.image[bank], pool.text[bank])
    return -bank_scores(*sides, own=own, temperature=temperature)


def neighbours_doubt(pool: NoisyPool) -> Scores:
    near, _ = neighbours_among(pool.image, VOTERS - 1)
    own = np.eye(pool.classes, dtype=np.float32)[pool.labels]
    return 1 - credibility(near, _softmax(pool.logits(pool.image)), own)


def _softmax(logits: Floats) -> Floats:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


DETECTORS = (
    Detector("1 - clip_cosine", one_less_cosine),
    Detector("self-confidence over the captions", partial(self_confidence, mirrored=False)),
    Detector("self-confidence, with mirror images", partial(self_confidence, mirrored=True)),
    Detector(f"s-CLIPLoss, tau {TEMPERATURE}", partial(clip_loss, own_temperature=False)),
    Detector("s-CLIPLoss, the model's tau", partial(clip_loss, own_temperature=True)),
    Detector(f"s-CLIPLoss, tau {TEMPERATURE}, bank", partial(clip_loss_by_bank, own_temperature=False)),
    Detector("s-CLIPLoss, the model's tau, bank", partial(clip_loss_by_bank, own_temperature=True)),
    Detector("LEMoN", lambda pool: pool.lemon(None).score),
    Detector(f"LEMoN, copies from {COPY_COSINE} dropped", lambda pool: pool.lemon(COPY_COSINE).score),
    Detector("LEMoN, image side alone", lambda pool: pool.lemon(None).image_side),
    Detector("LEMoN, text side alone", lambda pool: pool.lemon(None).text_side),
    Detector("kNN agreement, vote", lambda pool: pool.agreement.outvoted.astype(np.float32)),
    Detector("kNN agreement, margin of the vote", lambda pool: pool.agreement.margin),
    Detector("kNN agreement, rank", lambda pool: pool.agreement.rank),
    Detector("neighbours' doubt", neighbours_doubt),
)


# --- what came of it


def figures(scores: Scores, wrong: NDArray[np.bool_], weights: NDArray[np.int64]) -> NDArray[np.float64]:
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


def table(pool: NoisyPool, resamples: int = RESAMPLES) -> str:
    """What each detector reaches, in Markdown, with bootstrap intervals of 95 %."""
    count = len(pool.wrong)
    draws = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), resamples)
    weights = np.concatenate([np.ones((1, count), np.int64), draws])
    lines = [
        "| detector | AUROC | average precision | precision at the true rate | AUROC less the first |",
        "|---|---|---|---|---|",
    ]
    first = None
    for detector in DETECTORS:
        found = figures(detector.score(pool), pool.wrong, weights)
        first = found if first is None else first
        cells = [_interval(found[:, column]) for column in range(3)]
        cells.append(_interval(found[:, 0] - first[:, 0], "+.4f") if found is not first else "-")
        lines.append(f"| {detector.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(values: NDArray[np.float64], form: str = ".3f") -> str:
    """The value of the pool itself, which stands first, and the interval of its resamples."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:{form}} ({low:{form}} to {high:{form}})"


def rank_correlation(one: Scores, other: Scores) -> float:
    """Spearman's, ties by place."""
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (one, other)]
    return float(np.corrcoef(ranks)[0, 1])


def main() -> None:
    """Prints the table, and how well banks agree with whole batches."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with shards/ and truth.csv")
    parser.add_argument("--model", type=Path, required=True, help="folder of a local open_clip checkpoint")
    options = parser.parse_args()
    pool = read_pool(options.data, options.model)
    print(f"{len(pool.wrong):,} pairs, {pool.wrong.mean():.1%} wrong; the model's tau {1 / pool.scale:.3f}\n")
    print(table(pool))
    for own_temperature in (False, True):
        agreed = rank_correlation(
            clip_loss(pool, own_temperature=own_temperature),
            clip_loss_by_bank(pool, own_temperature=own_temperature),
        )
        name = "the model's tau" if own_temperature else f"tau {TEMPERATURE}"
        print(f"\ns-CLIPLoss, {name}: bank of {BANK:,} and pool agree with Spearman {agreed:.4f}")


if __name__ == "__main__":
    main()
