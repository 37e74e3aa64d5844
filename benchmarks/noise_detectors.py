"""Detectors of wrong captions, each by its published constants; high scores look wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.noisy_pools import NoisyPool
from filters.core import confident, prototypes, separation
from filters.core.declaration import Columns
from filters.core.uids import format_uids, uid_places
from filters.drop_mismatched import DropMismatched
from filters.fuse import Fuse, Vote
from transforms.clustering import unit_rows
from transforms.measures.separation import Separation
from transforms.noise.agreement import VOTERS, Agreement, agreement, credibility, neighbours_among, votes
from transforms.noise.class_density import ClassDensity, class_references
from transforms.noise.clip_loss import TEMPERATURE, bank_places, bank_scores, pool_scores
from transforms.noise.nearest import Neighbours
from transforms.noise.neighbourhood import COPY_COSINE, LemonScores, lemon, pair_reference
from transforms.noise.seeding import seeding

BANK = 2048
PENALTIES = (10.0, 100.0, 1000.0)  # of the regression on noisy labels, which choose one of them
NEIGHBOURS = 10  # of prototypes and density, as the measure has it

Scores = NDArray[np.floating]


@dataclass(frozen=True)
class Detector:
    """One row of the table: (n,) scores, NaN where it has no answer."""

    name: str
    score: Callable[[NoisyPool], Scores]


# --- one score of a pair


def one_less_cosine(pool: NoisyPool) -> Scores:
    return pool.distances


def clip_loss(pool: NoisyPool, *, own_temperature: bool) -> Scores:
    temperature = 1 / pool.scale if own_temperature else TEMPERATURE
    return -pool_scores(pool.image, pool.text, pool.uids, temperature=temperature, repetitions=1)


def clip_loss_by_bank(pool: NoisyPool, *, own_temperature: bool) -> Scores:
    temperature = 1 / pool.scale if own_temperature else TEMPERATURE
    bank = bank_places(pool.uids, BANK)
    own = uid_places(pool.uids, pool.uids[bank])
    sides = (pool.image, pool.text, pool.image[bank], pool.text[bank])
    return -bank_scores(*sides, own=own, temperature=temperature)


# --- neighbours


@lru_cache(maxsize=2)
def neighbourhood(pool: NoisyPool, copy_cosine: float | None = None) -> LemonScores:
    reference = pair_reference(pool.image, pool.text, pool.uids, copy_cosine=copy_cosine)
    return lemon(pool.image, pool.text, reference, uids=pool.uids)


@lru_cache(maxsize=1)
def nearest_images(pool: NoisyPool) -> Neighbours:
    return neighbours_among(pool.image, VOTERS - 1)[0]


def label_agreement(pool: NoisyPool) -> Agreement:
    cast = votes(nearest_images(pool), pool.labels, pool.labels, pool.classes)
    return agreement(cast, pool.labels)


def neighbours_doubt(pool: NoisyPool) -> Scores:
    own = np.eye(pool.classes, dtype=np.float32)[pool.labels]
    return 1 - credibility(nearest_images(pool), zero_shot(pool, pool.scale).astype(np.float32), own)


# --- probabilities of the class that the caption names


def zero_shot(pool: NoisyPool, scale: float, *, mirrored: bool = False) -> NDArray[np.float64]:
    """(n, K) float64: softmax over classes of the scaled cosines with their prompts."""
    images = unit_rows(pool.image)[0].astype(np.float64)
    if mirrored:
        images = (images + unit_rows(pool.mirrored)[0]) / 2  # and so the mean of both cosines
    return prototypes.class_probabilities(images, pool.prompts, scale)


def self_confidence(pool: NoisyPool, *, mirrored: bool) -> Scores:
    return 1 - confident.self_confidence(pool.labels, zero_shot(pool, pool.scale, mirrored=mirrored))


def normalised_margin(pool: NoisyPool) -> Scores:
    return 1 - confident.normalised_margin(pool.labels, zero_shot(pool, pool.scale))


@lru_cache(maxsize=1)
def mislabelled(pool: NoisyPool) -> Scores:
    """Zero-shot probabilities at the scale that the labels themselves suggest, and the joint."""
    scale = prototypes.calibrated_scale(unit_rows(pool.image)[0], pool.labels, pool.prompts)
    return by_joint(pool, zero_shot(pool, scale))


@lru_cache(maxsize=1)
def mislabelled_by_regression(pool: NoisyPool) -> Scores:
    """Probabilities of a regression on the noisy labels, out of sample, and the joint."""
    return by_joint(pool, regression(pool, pool.labels))


def regression(pool: NoisyPool, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, K) float64, out of sample, by the penalty under which the labels are likeliest."""
    images, folds = unit_rows(pool.image)[0], separation.uid_folds(pool.uids)
    fitted = (
        separation.noisy_label_probabilities(images, labels, folds, pool.classes, penalty)
        for penalty in PENALTIES
    )
    return min(fitted, key=lambda found: separation.label_loss(found, labels))


def with_the_truth(pool: NoisyPool) -> Scores:
    """No detector: what the embeddings allow a regression that is taught and told the true labels."""
    joint = np.zeros((pool.classes, pool.classes), np.int64)
    np.add.at(joint, (pool.labels, pool.true_labels), 1)
    return confident.p_mislabelled(pool.labels, regression(pool, pool.true_labels), joint)


def by_joint(pool: NoisyPool, probabilities: NDArray[np.float64]) -> Scores:
    sums = confident.threshold_sums(pool.labels, probabilities)
    classes = confident.confident_classes(probabilities, confident.thresholds(sums))
    joint = confident.calibrated_joint(confident.joint_counts(pool.labels, classes, pool.classes), sums[1])
    return confident.p_mislabelled(pool.labels, probabilities, joint)


@lru_cache(maxsize=1)
def unlike_prototypes(pool: NoisyPool) -> Scores:
    """CAPro: texts smoothed over neighbours choose anchors, whose images are the prototypes."""
    images, texts = unit_rows(pool.image)[0], unit_rows(pool.text)[0]
    near, _ = neighbours_among(pool.image, NEIGHBOURS)
    smoothed = prototypes.smoothed_texts(texts, near.place, images)
    likeness = prototypes.similarities(smoothed, pool.labels, pool.prompts)
    anchors = prototypes.choose_anchors(likeness, pool.labels, pool.uids)
    sums = prototypes.image_sums(images, pool.labels, anchors, pool.classes)
    found = prototypes.visual_prototypes(sums)
    return 1 - prototypes.judge(images, pool.labels, found, zero_shot(pool, pool.scale)).score


def class_density(pool: NoisyPool) -> Scores:
    images, chosen = unit_rows(pool.image)[0], class_references(pool.labels, pool.uids, seed=0)
    known = ClassDensity(images[chosen], pool.labels[chosen], pool.uids[chosen], NEIGHBOURS)
    return known.scores(images, pool.labels, pool.uids, known.medians(pool.classes))


# --- detectors of detectors: the product's own filters, fitted to the whole pool


def two_groups(pool: NoisyPool) -> Scores:
    """1 - p_clean by the mixture on the cosine; NaN where it shows no two groups."""
    return 1 - _judged(DropMismatched(by="cosine"), {"cosine": pa.array(1 - pool.distances)})


@lru_cache(maxsize=2)
def separated(pool: NoisyPool, *, by_labels: bool = False) -> Scores:
    """LSA; seeds are certain by the cosine, as the measure has it, or by p_mislabelled."""
    if by_labels:
        seeds = mislabelled(pool)
    else:
        cosines = 1 - pool.distances
        defaults = Separation()
        seeds = seeding(cosines, "agreement", defaults.noisy_share, defaults.clean_share).p_noise(cosines)
    features = separation.pair_features(unit_rows(pool.image)[0], unit_rows(pool.text)[0])
    return separation.separate(features, seeds, pool.distances, pool.uids).p_noise


Votes = Mapping[str, tuple[Callable[[NoisyPool], Scores], str]]
SEVEN: Votes = {
    # Of one group are those that read the same evidence, and so agree by design: the pair's cosine
    # and what is near it; where the picture lies among the classes; the two embeddings as they are.
    "cosine": (one_less_cosine, "pair"),
    "s_clip_loss": (partial(clip_loss, own_temperature=True), "pair"),
    "lemon": (lambda pool: neighbourhood(pool).score, "pair"),
    "doubt": (neighbours_doubt, "class"),
    "mislabelled": (mislabelled, "class"),
    "prototypes": (unlike_prototypes, "class"),
    "separation": (separated, "plane"),
}
FOUR: Votes = {
    "s_clip_loss": (partial(clip_loss, own_temperature=True), "pair"),
    "mirrored": (partial(self_confidence, mirrored=True), "mirrored"),
    "mislabelled": (mislabelled, "class"),
    "regression": (mislabelled_by_regression, "labels"),
}


def fused(pool: NoisyPool, *, which: Votes) -> Scores:
    """p_noise of the filter `fuse` with these votes; NaN where it has no answer."""
    votes = tuple(Vote(by=name, high="noise", group=group) for name, (_, group) in which.items())
    columns = {name: pa.array(score(pool).astype(np.float32)) for name, (score, _) in which.items()}
    columns["uid"] = pa.array(format_uids(pool.uids))
    return _judged(Fuse(votes=votes, drop_if_p_noise_above=0.5), columns)


def _judged(rule: DropMismatched | Fuse, columns: Columns) -> NDArray[np.float64]:
    """What the fitted filter finds in each row."""
    artefact = rule.start()
    while not rule.complete(artefact):
        artefact = rule.advance(artefact, rule.accumulate(artefact, columns))
    return np.asarray(rule.judge(columns, artefact).value, np.float64)


DETECTORS = (
    Detector("1 - clip_cosine", one_less_cosine),
    Detector("self-confidence over the classes", partial(self_confidence, mirrored=False)),
    Detector("self-confidence, with mirror images", partial(self_confidence, mirrored=True)),
    Detector("normalised margin", normalised_margin),
    Detector("p_mislabelled, zero-shot", mislabelled),
    Detector("p_mislabelled, regression on the labels", mislabelled_by_regression),
    Detector(f"s-CLIPLoss, tau {TEMPERATURE}", partial(clip_loss, own_temperature=False)),
    Detector("s-CLIPLoss, the model's tau", partial(clip_loss, own_temperature=True)),
    Detector(f"s-CLIPLoss, tau {TEMPERATURE}, bank", partial(clip_loss_by_bank, own_temperature=False)),
    Detector("s-CLIPLoss, the model's tau, bank", partial(clip_loss_by_bank, own_temperature=True)),
    Detector("LEMoN", lambda pool: neighbourhood(pool).score),
    Detector(
        f"LEMoN, copies from {COPY_COSINE} dropped", lambda pool: neighbourhood(pool, COPY_COSINE).score
    ),
    Detector("LEMoN, image side alone", lambda pool: neighbourhood(pool).image_side),
    Detector("LEMoN, text side alone", lambda pool: neighbourhood(pool).text_side),
    Detector("kNN agreement, vote", lambda pool: label_agreement(pool).outvoted.astype(np.float32)),
    Detector("kNN agreement, margin of the vote", lambda pool: label_agreement(pool).margin),
    Detector("kNN agreement, rank", lambda pool: label_agreement(pool).rank),
    Detector("neighbours' doubt", neighbours_doubt),
    Detector("prototypes", unlike_prototypes),
    Detector("distance to pictures of the class", class_density),
    Detector("mixture on the cosine", two_groups),
    Detector("linear separation, seeds by the cosine", separated),
    Detector("linear separation, seeds by p_mislabelled", partial(separated, by_labels=True)),
    Detector("fused, seven", partial(fused, which=SEVEN)),
    Detector("fused, four", partial(fused, which=FOUR)),
)
