"""How much of a pool to keep when the training budget is known: quality against repetition.

Goyal et al. 2024, "Scaling laws for data filtering: data curation cannot be compute agnostic"
(arXiv 2404.07177). A pool is ranked and cut in parts of equal size, ten for deciles. Training on n
unique samples for k epochs has the error

    y(k) = a n^b1 prod_{j=2..k} (j / (j - 1))^bj + d,   bj = b (1/2)^((j - 1) / tau)

so a part is worth b < 0 and loses half of that worth every tau epochs. When p parts are mixed,
each is seen p times less often, so its half-life is p tau, and the exponent of epoch j is the mean
over parts. A short budget is best spent on the best tenth; a long one wears it out, and more
samples of lower rank win.

What we do differently: parts keep the order of their rank (the published script sorts them by
b), the irreducible error d is added at the end (it multiplies d by what follows; the form
`published` reproduces that), and the fits are data here, not made here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Form = Literal["utility", "published", "data"]

_UNIT = 1e5  # sample counts are measured in it, inside the power
_WORN_OUT = 60  # after so many half-lives nothing is left to gain, by 2^-60
# Muennighoff et al. 2023 (arXiv 2305.16264): up to 4 epochs are almost as good as fresh data; the
# fits saw 2 to 10 epochs.
SAFE_REPETITIONS, MOST_REPETITIONS = 4.0, 10.0


@dataclass(frozen=True)
class Part:
    """A part of the ranked pool: its exponent, below 0, and half-life in epochs."""

    b: float
    half_life: float


@dataclass(frozen=True)
class Fits:
    """What was fitted to the parts of one pool, the best part first.

    Attributes:
        form: the law: "utility" as above, "published" with d inside the product, "data" for
            exponents over effective samples.
        a, d: scale and irreducible error, the same for all parts.
        of: how many such parts the whole pool has; parts beyond the fitted ones are not chosen.
    """

    form: Form
    a: float
    d: float
    parts: tuple[Part, ...]
    of: int = 10


# ImageNet error of ViT-B/32 on the best four deciles, by T-MARS, of DataComp medium (12.8 M each).
MEDIUM_UTILITY = Fits(
    "published",
    a=0.025,
    d=0.1,
    parts=(
        Part(-0.160, 1 + 9 * 63 / 99),
        Part(-0.125, 1 + 9 * 83 / 99),
        Part(-0.100, 1 + 9 * 47 / 99),
        Part(-0.085, 1 + 9 * 14 / 99),
    ),
)
MEDIUM_DATA = Fits(
    "data",
    a=0.022,
    d=0.1,
    parts=(
        Part(-0.18227, 4.0),
        Part(-0.14485, 1 + 9 * 37 / 99),
        Part(-0.13530, 1 + 9 * 21 / 99),
        Part(-0.09758, 1 + 9 * 5 / 99),
    ),
)


def predicted_error(fits: Fits, parts: int, unique: int, seen: int) -> float:
    """The error after training on the best so many parts, mixed evenly.

    unique: samples of these parts together; seen: samples that the training sees, repeats counted.
    Raises: ValueError where a number is below 1, or more parts are asked for than were fitted.
    """
    if not 1 <= parts <= len(fits.parts) or unique < 1 or seen < 1:
        msg = f"{parts} parts of {len(fits.parts)} fitted, {unique} samples, {seen} seen: none may be below 1"
        raise ValueError(msg)
    mixed = fits.parts[:parts]
    law = _effective_data if fits.form == "data" else _utility
    return law(fits, mixed, unique, seen)


def _utility(fits: Fits, mixed: Sequence[Part], unique: int, seen: int) -> float:
    error, before = 0.0, 0
    for after, worths in _epochs(mixed, unique, seen):
        exponent = sum(part.b * worth for part, worth in zip(mixed, worths, strict=True)) / len(mixed)
        if before:
            error *= (after / before) ** exponent
        else:
            error = (fits.a * after / _UNIT) ** exponent + (fits.d if fits.form == "published" else 0.0)
        before = after
    return error if fits.form == "published" else error + fits.d


def _effective_data(fits: Fits, mixed: Sequence[Part], unique: int, seen: int) -> float:
    """A repeated sample counts as part of one; a mixture's exponent is weighted by what is left of each."""
    error, before, effective = 0.0, 0, 0.0
    for after, worths in _epochs(mixed, unique, seen):
        exponent = sum(part.b * worth for part, worth in zip(mixed, worths, strict=True)) / sum(worths)
        grown = effective + (after - before) * sum(worths) / len(mixed)
        error = error * (grown / effective) ** exponent if before else (fits.a * grown / _UNIT) ** exponent
        before, effective = after, grown
    return error + fits.d


def _epochs(mixed: Sequence[Part], unique: int, seen: int) -> Iterator[tuple[int, list[float]]]:
    """After each epoch, the last one in part: samples seen, and what each part is worth in it, 1 at first."""
    lives = [part.half_life * len(mixed) for part in mixed]
    last = min(math.ceil(seen / unique), math.ceil(_WORN_OUT * max(lives)))
    for epoch in range(last):
        yield min(unique * (epoch + 1), seen), [0.5 ** (epoch / life) for life in lives]


@dataclass(frozen=True)
class Choice:
    """How much to keep.

    Attributes:
        keep: share of the pool; samples: floor(keep x pool), at least 1.
        repetitions: how often the training sees each of them.
        errors: share -> predicted error of every share that was weighed; empty without fits.
        warning: what makes the choice doubtful; empty where nothing does.
    """

    keep: float
    samples: int
    repetitions: float
    errors: dict[float, float]
    warning: str


def choose_share(pool: int, seen: int, fits: Fits = MEDIUM_DATA) -> Choice:
    """The share of a ranked pool with the least predicted error; of equal ones the smaller share.

    pool: samples in the pool; seen: samples that the training will see, repeats counted.
    Raises: ValueError where the pool has fewer samples than parts, or seen is below 1.
    """
    if pool < fits.of or seen < 1:
        msg = f"a pool of {pool} samples can't be cut in {fits.of} parts for a training of {seen} samples"
        raise ValueError(msg)
    errors = {
        parts / fits.of: predicted_error(fits, parts, pool * parts // fits.of, seen)
        for parts in range(1, len(fits.parts) + 1)
    }
    keep = min(errors, key=lambda share: errors[share])
    samples = pool * round(keep * fits.of) // fits.of
    doubts = []
    if keep == max(errors) < 1:
        doubts.append(f"nothing above the best {keep:.0%} was fitted, so more could be better still")
    return _chosen(keep, samples, seen, errors, doubts)


def guarded_share(pool: int, seen: int, repetitions: float = SAFE_REPETITIONS) -> Choice:
    """The smallest share whose samples are seen at most so often: the rule where nothing is fitted.

    Raises: ValueError where a number is below 1.
    """
    if pool < 1 or seen < 1 or not 1 <= repetitions < math.inf:
        msg = f"pool {pool}, samples seen {seen} and repetitions {repetitions} must be at least 1"
        raise ValueError(msg)
    samples = min(pool, math.ceil(seen / repetitions))
    return _chosen(samples / pool, samples, seen, {}, [])


def _chosen(keep: float, samples: int, seen: int, errors: dict[float, float], doubts: list[str]) -> Choice:
    often = seen / samples
    if often > MOST_REPETITIONS:
        doubts.append(
            f"each sample is seen {often:.3g} times, and beyond {MOST_REPETITIONS:.3g} nothing was fitted"
        )
    elif not errors and often > SAFE_REPETITIONS:
        doubts.append(f"each sample is seen {often:.3g} times; above {SAFE_REPETITIONS:.3g} repeating costs")
    return Choice(keep, samples, often, errors, "; ".join(doubts))
