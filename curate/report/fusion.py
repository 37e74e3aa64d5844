"""How far the detectors of each `fuse` are trusted, and how they overlap: from its artefact alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FILTER = "fuse"


@dataclass(frozen=True)
class Pair:
    """Two detectors where both vote.

    Attributes:
        correlation: of their votes, in [-1, 1]; agree: the share of equal ones; None where nothing is
            known, as of a detector that always says the same.
        shade: how strongly the cell is coloured, in [0, 1].
    """

    correlation: float | None
    agree: float | None

    @property
    def shade(self) -> float:
        return round(max(self.correlation or 0.0, 0.0), 3)


@dataclass(frozen=True)
class Detector:
    """One column that votes.

    Attributes:
        high: what its high scores mean, "noise" or "clean"; group: those it agrees with by design.
        coverage: share of samples on which it votes; None where there is no sample.
        reliability: how often it is right, the mean of noise and clean pairs; None without a model,
            as are the next two.
        share: of all weight in the combined rank; independence: 1, or less where others copy it.
        pairs: with every detector, in order.
    """

    column: str
    high: str
    group: str | None
    coverage: float | None
    reliability: float | None
    share: float | None
    independence: float | None
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Fusion:
    """One fuse of a recipe.

    Attributes:
        reason: why it has no answer, or None.
        samples: that it was fitted to; noise_share: of them, by the model.
        audit: what an audited sample chose, as in the artefact; None without one.
    """

    step: str
    reason: str | None
    detectors: tuple[Detector, ...]
    samples: int
    noise_share: float | None
    audit: Mapping[str, Any] | None


def find_fusions(manifest: Mapping[str, Any]) -> list[Fusion]:
    """Every fuse of a decision, in the recipe's order."""
    names = [item["name"] for item in manifest["recipe"]["filters"] if item["filter"] == FILTER]
    return [_fusion(name, manifest["artefacts"][name]) for name in names]


def _fusion(step: str, artefact: Mapping[str, Any]) -> Fusion:
    return Fusion(
        step=step,
        reason=artefact["reason"],
        detectors=_detectors(artefact),
        samples=artefact.get("samples", 0),
        noise_share=artefact.get("noise_share"),
        audit=artefact["audit"],
    )


def _detectors(artefact: Mapping[str, Any]) -> tuple[Detector, ...]:
    votes, shown = artefact.get("votes", ()), artefact.get("overview", {})
    unknown = [None] * len(votes)
    weights = shown.get("weight", unknown)
    total = sum(weight or 0.0 for weight in weights)
    return tuple(
        Detector(
            column=vote["by"],
            high=vote["high"],
            group=vote["group"],
            coverage=shown["coverage"][at],
            reliability=shown.get("reliability", unknown)[at],
            share=None if weights[at] is None or not total else weights[at] / total,
            independence=shown.get("independence", unknown)[at],
            pairs=tuple(map(Pair, shown["correlation"][at], shown["agree"][at])),
        )
        for at, vote in enumerate(votes)
    )
