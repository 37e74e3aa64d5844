"""How diverse the kept samples are, beside the pool and a random draw, as a run measured it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.query import Decision
from transforms.diversity_of_parts import Diversity

_NAMES = {"pool": "pool", "control": "random draw", "kept": "kept"}
_MEASURES = {"rank_me": "RankMe", "vendi": "Vendi"}


@dataclass(frozen=True)
class Reading:
    """One measure of one set of rows.

    Attributes:
        value: from 1 to the width; None where there are no rows.
        spread: the least and the greatest of several draws; None of a single one.
        percent: the value of the greatest in the table, for a bar.
    """

    value: float | None
    spread: tuple[float, float] | None
    percent: float


@dataclass(frozen=True)
class DiversityRow:
    """The pool, the random draw or the kept samples."""

    name: str
    rows: int
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class EmbeddingDiversity:
    """The diversity of one kind of embeddings; verdicts: what each measure says of the kept ones."""

    name: str
    width: int
    rows: tuple[DiversityRow, ...]
    verdicts: tuple[str, ...]


def read_diversity(decision: Decision) -> list[EmbeddingDiversity]:
    """What the run of this decision measured; nothing where it was not asked to, or has no embeddings."""
    output = decision.manifest["recipe"]["output"]
    if not output.get("diversity"):
        return []
    name = f"{Diversity.group(decision.ledger, output['diversity_rows'])}/summary.json"
    folder = decision.store.folder
    if not folder.exists(name):
        return []
    found = folder.read_json(name)["embeddings"]
    return [_embedding(name, found[name]) for name in sorted(found) if found[name]["pool"]["rows"]]


def _embedding(name: str, found: Mapping[str, Any]) -> EmbeddingDiversity:
    greatest = {measure: max(found[key][measure] or 0.0 for key in _NAMES) for measure in _MEASURES}
    rows = tuple(
        DiversityRow(
            words,
            found[key]["rows"],
            tuple(_reading(found[key], measure, greatest[measure]) for measure in _MEASURES),
        )
        for key, words in _NAMES.items()
    )
    verdicts = tuple(_verdict(found, measure) for measure in _MEASURES) if found["kept"]["rows"] else ()
    return EmbeddingDiversity(name, found["width"], rows, verdicts)


def _reading(found: Mapping[str, Any], measure: str, greatest: float) -> Reading:
    value, spread = found[measure], found.get(f"{measure}_range")
    percent = 100 * value / greatest if value is not None and greatest else 0.0
    return Reading(value, tuple(spread) if spread else None, percent)


def _verdict(found: Mapping[str, Any], measure: str) -> str:
    """The kept samples beside the random draw, in words."""
    kept, usual = found["kept"][measure], found["control"][measure]
    least, most = found["control"].get(f"{measure}_range", (usual, usual))
    if least <= kept <= most:
        return f"{_MEASURES[measure]}: as diverse as a random draw"
    change = 100 * (kept / usual - 1)
    word = "more" if change > 0 else "less"
    return f"{_MEASURES[measure]}: {abs(change):.1f} % {word} than a random draw"
