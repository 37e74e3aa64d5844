"""Detectors that judge together: label models of folds, and a probability for every pair of ranks.

The label model of `fusion` says how far each detector is to be trusted and how likely each pattern
of votes is noise. A vote is coarse, so samples are told apart by the ranks behind the votes: their
weighted mean (`fusion.combined_ranks`) is a score, and the label model's probabilities over that
score, made monotone (`calibration`), give p_noise. Models are cross-fitted: a sample is judged by
that of the folds that it is not in. The curve is one for all, else samples of two folds would change
places wherever it is flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from filters.core.calibration import read_curve
from filters.core.fusion import (
    ABSTAIN,
    CLEAN,
    NOISE,
    Agreement,
    Counts,
    Floats,
    LabelModel,
    Votes,
    agreement,
    combined_ranks,
    fit_label_model,
    pattern_counts,
    patterns,
)

Folds: TypeAlias = NDArray[np.int64]

FEWEST_SOURCES = 3  # with fewer, agreement says nothing of who is right
STEPS = 2**30  # p_noise is a multiple of 1 / STEPS, so that it can be summed in integers
_LEAST_CORRELATION, _STANDARD_ERRORS = 0.02, 2.0
_LEAST_WORTH, _LEAST_RELIABILITY = 1.5, 0.55  # copies count as 1, and make the model useless


def votes_of(ranks: Floats, noise_share: Floats, clean_share: Floats) -> Votes:
    """What ranks vote: (n, m) int8.

    ranks: (n, m) in (0, 1), high where noise, NaN unknown; the shares: (m,), together at most 1.
    """
    with np.errstate(invalid="ignore"):
        said = np.where(ranks > 1.0 - noise_share, NOISE, np.where(ranks <= clean_share, CLEAN, ABSTAIN))
    return np.where(np.isnan(ranks), ABSTAIN, said).astype(np.int8)


def fold_counts(votes: Votes, folds: Folds, number: int) -> Counts:
    """Pattern counts of each fold, which add up: (number, 3^m) int64; votes: (n, m); folds: (n,)."""
    return np.stack([pattern_counts(votes[folds == fold]) for fold in range(number)])


@dataclass(frozen=True)
class Panel:
    """Cross-fitted label models, and how likely noise is at each combined rank.

    Attributes:
        models: of each fold, fitted on the others.
        points: (2, k) float64 that the curve of all runs through, from `calibration.curve`; k is 0
            before it is fitted.
    """

    models: tuple[LabelModel, ...] = ()
    points: Floats = field(default_factory=lambda: np.empty((2, 0)))

    def posteriors(self, votes: Votes, folds: Folds) -> Floats:
        """How likely noise is by the votes alone: (n,) float64; NaN where all abstain."""
        found = np.full(len(votes), np.nan)
        for fold, model in enumerate(self.models):
            found[folds == fold] = model.p_noise(votes[folds == fold])
        return found

    def scores(self, ranks: Floats, folds: Folds, least: int = 1) -> Floats:
        """The combined ranks: (n,) float64 in (0, 1), high where noise.

        A detector without a score counts as one of middle rank, which says nothing: what one
        detector says alone moves the score by its own weight only, not by that of all. NaN where
        fewer than `least` are known, or none that has weight. ranks: (n, m), NaN unknown.
        """
        known = ~np.isnan(ranks)
        found = np.full(len(ranks), np.nan)
        for fold, model in enumerate(self.models):
            weights = model.weights()
            here = (folds == fold) & (known.sum(axis=1) >= least) & known[:, weights > 0].any(axis=1)
            found[here] = combined_ranks(np.where(known[here], ranks[here], 0.5), weights)
        return found

    def p_noise(self, ranks: Floats, folds: Folds, least: int = 1) -> Floats:
        """How likely each sample is noise: (n,) float64, a multiple of 2^-30.

        NaN as in `scores`, and before the curve is fitted.
        """
        if not self.points.size:
            return np.full(len(ranks), np.nan)
        found = read_curve(self.points, self.scores(ranks, folds, least))
        in_steps: Floats = np.rint(found * STEPS) / STEPS
        return in_steps


def panel_json(panel: Panel) -> dict[str, Any]:
    """The panel as JSON values."""
    models = [
        {
            "noise_share": one.noise_share,
            "given": one.given.tolist(),
            "independence": one.independence.tolist(),
        }
        for one in panel.models
    ]
    return {"models": models, "points": panel.points.tolist()}


def panel_of(stored: dict[str, Any]) -> Panel:
    """The panel that `panel_json` wrote."""
    models = [
        LabelModel(one["noise_share"], np.array(one["given"]), np.array(one["independence"]))
        for one in stored["models"]
    ]
    return Panel(tuple(models), np.array(stored["points"]))


def fit_panel(counts: Counts, names: Sequence[str], sources: Sequence[str]) -> tuple[Panel, LabelModel]:
    """The models of the folds, and that of all together.

    counts: (F, 3^m) int64 from `fold_counts`; names: (m,); sources: (m,), what each detector agrees
    with by design, such as itself.
    Raises: ValueError saying why the votes tell nothing: too few sources say both noise and clean,
    they contradict each other, agree no more than by chance, or are copies of one another.
    """
    whole = counts.sum(axis=0)
    speaking = _speaking(whole, names, sources)
    _check_agreement(agreement(whole), names, sources)
    numbers = {source: number for number, source in enumerate(dict.fromkeys(sources))}
    groups = tuple(numbers[source] for source in sources)
    models = [fit_label_model(some, groups) for some in (whole, *(whole - own for own in counts))]
    for model in models:
        worth = float(model.independence[speaking].sum())
        if worth < _LEAST_WORTH or model.reliability().max() < _LEAST_RELIABILITY:
            msg = (
                f"the votes are nearly copies of one another, worth {worth:.1f} detectors together: "
                "their agreement says nothing; fuse what works differently"
            )
            raise ValueError(msg)
    return Panel(tuple(models[1:])), models[0]


def _speaking(counts: Counts, names: Sequence[str], sources: Sequence[str]) -> NDArray[np.bool_]:
    """(m,) which detectors say both noise and clean; raises ValueError where too few do."""
    votes = patterns(len(names))[counts > 0]
    speaking: NDArray[np.bool_] = (votes == NOISE).any(axis=0) & (votes == CLEAN).any(axis=0)
    many = len(set(np.array(sources)[speaking].tolist()))
    if many < FEWEST_SOURCES:
        mute = [
            f"{name} {'has no score' if (votes[:, at] == ABSTAIN).all() else 'says the same of all'}"
            for at, name in enumerate(names)
            if not speaking[at]
        ]
        msg = f"{many} of the votes say both noise and clean, and it takes {FEWEST_SOURCES}"
        raise ValueError(": ".join([msg, ", ".join(mute)] if mute else [msg]))
    return speaking


def _check_agreement(found: Agreement, names: Sequence[str], sources: Sequence[str]) -> None:
    """Raises ValueError where one detector contradicts the others, or too few agree.

    One that says noise where others say clean is likely declared the wrong way round; votes that
    agree no more than by chance would be weighed by chance. Both are judged by the mean correlation
    with the votes of other sources, against two standard errors.
    """
    source = np.array(sources)
    others = np.where(source[:, None] != source, found.correlation, np.nan)
    known = np.isfinite(others)
    mean = np.where(known, others, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    pairs = np.where(known, found.both, np.iinfo(np.int64).max).min(axis=1)
    least = np.maximum(_LEAST_CORRELATION, _STANDARD_ERRORS / np.sqrt(pairs))
    worst = int(np.argmin(mean + least))
    if mean[worst] < -least[worst]:
        msg = (
            f"{names[worst]} says noise where the others say clean (mean correlation {mean[worst]:.2f}): "
            "turn it round, `high: noise` or `high: clean`, or leave it out"
        )
        raise ValueError(msg)
    agreeing = len(set(source[mean > least].tolist()))
    if agreeing < FEWEST_SOURCES:
        shown = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, mean, strict=True))
        msg = (
            f"{agreeing} of the votes agree with the others beyond chance, and it takes "
            f"{FEWEST_SOURCES} (mean correlations: {shown})"
        )
        raise ValueError(msg)


def overview(counts: Counts, model: LabelModel | None) -> dict[str, Any]:
    """What a report shows of the detectors: JSON values, None where there is nothing to say.

    counts: (3^m,) int64. Returns: coverage, reliability, weight and independence, (m,) each; and
    agree and correlation, (m, m), as `fusion.Agreement` has them.
    """
    found = agreement(counts)
    trusted = (
        {}
        if model is None
        else {
            "reliability": model.reliability(),
            "weight": model.weights(),
            "independence": model.independence,
        }
    )
    shown = {"coverage": found.coverage, "agree": found.agree, "correlation": found.correlation, **trusted}
    return {name: _plain(values) for name, values in shown.items()}


def _plain(values: Floats) -> Any:
    """Nested lists with None for NaN, which JSON does not have."""
    shown = np.round(values, 6).astype(object)
    shown[np.isnan(values)] = None
    return shown.tolist()
