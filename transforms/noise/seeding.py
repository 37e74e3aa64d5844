"""From a signal to the pairs that it is certain of: what separation of noise from clean starts with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from filters.core import mixtures

Floats = NDArray[np.float64]
Say = Literal["agreement", "doubt", "p_clean", "p_noise"]

_ROUNDING = 1e-3
AT_LEAST_ROWS = 1000  # below, a mixture may see groups where there are none


@dataclass(frozen=True)
class Seeding:
    """How a signal becomes p_noise; JSON values only.

    Attributes:
        says: what a high value of the signal means.
        by: "probability" where it is one; "mixture" of two groups; "tails", the lowest and highest
            scores; "nothing" where there is no answer, with the reason.
        mixture: its parameters, in the order of `mixtures.PARAMETERS`.
        noisy_to, clean_from: tails: the scores up to which, and from which on, pairs are certain.
        reason: why there is no mixture, or no answer.
    """

    says: Say
    by: Literal["probability", "mixture", "tails", "nothing"]
    mixture: tuple[float, ...] = ()
    noisy_to: float = 0.0
    clean_from: float = 0.0
    reason: str | None = None

    def p_noise(self, signal: NDArray[Any]) -> Floats:
        """(n,) float64 in [0, 1]; NaN where the signal is; .5 is between the tails."""
        values = np.asarray(signal, np.float64)
        if self.by == "probability":
            return np.clip(1 - values if self.says == "p_clean" else values, 0, 1)
        scores = -values if self.says == "doubt" else values
        if self.by == "mixture":
            return 1 - mixtures.p_clean(np.array([self.mixture]), "gaussian", scores)
        found = np.full(len(values), np.nan)
        if self.by == "tails":
            sides = [scores <= self.noisy_to, scores >= self.clean_from, ~np.isnan(scores)]
            found = np.select(sides, [1.0, 0.0, 0.5], np.nan)
        return found


def seeding(signal: NDArray[Any], says: Say, noisy_share: float, clean_share: float) -> Seeding:
    """How this sample of a signal becomes p_noise: by a mixture where it shows two groups.

    signal: (n,) numbers, NaN for none, in any order.
    Raises: ValueError for a probability that does not lie in [0, 1].
    """
    values = np.asarray(signal, np.float64)
    if says in ("p_clean", "p_noise"):
        least, most = np.nanmin(values, initial=0), np.nanmax(values, initial=1)
        if least < -_ROUNDING or most > 1 + _ROUNDING:
            msg = f"{says} lies in [0, 1], but values reach from {least:.6g} to {most:.6g}: is it a score?"
            raise ValueError(msg)
        return Seeding(says, "probability")
    scores = -values if says == "doubt" else values
    parameters, reason = _mixture(scores)
    if reason is None:
        return Seeding(says, "mixture", tuple(parameters.tolist()))
    known = np.sort(scores[~np.isnan(scores)])
    noisy, clean = int(noisy_share * len(known)), int(clean_share * len(known))
    if noisy < 1 or clean < 1:
        return Seeding(says, "nothing", reason=f"{len(known):,} scores have no tails")
    ends = float(known[noisy - 1]), float(known[-clean])
    if ends[0] >= ends[1]:
        return Seeding(says, "nothing", reason="the scores are all equal, or nearly")
    return Seeding(says, "tails", (), *ends, reason)


def _mixture(scores: Floats) -> tuple[Floats, str | None]:
    """The parameters of two groups, (7,), or why there are none."""
    artefact, total = mixtures.begin(), None
    while not artefact["complete"]:
        total = mixtures.count(artefact, scores)
        artefact = mixtures.advance(artefact, total)
    if total is None or artefact["passes"] == 1:
        return np.zeros(0), "no pair has a score"
    fitted, (reason,) = mixtures.fit(total["counts"][None, :], artefact["range"], "gaussian", AT_LEAST_ROWS)
    return fitted[0], reason
