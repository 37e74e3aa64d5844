"""Signals: histograms, facets, and what a moved threshold would do."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, Field

from curate.explore.conditions import Condition
from curate.explore.cuts import cut
from curate.explore.explorer import Explorer
from curate.serve.settings import WithExplorer, WithService

router = APIRouter(tags=["signals"])

GREATEST = float(np.finfo(np.float32).max)
Conditions = Annotated[list[Condition], Field(default_factory=list, max_length=50)]


class HistogramsQuestion(BaseModel):
    """Which columns, over which samples; a column's own conditions don't count for its histogram."""

    columns: list[str] = Field(max_length=20)
    conditions: Conditions


class HistogramItem(BaseModel):
    """Counts between edges; `whole` of all samples, `counts` of those that meet the conditions."""

    column: str
    edges: list[float]
    counts: list[int]
    whole: list[int]
    missing: int


class HistogramsAnswer(BaseModel):
    """How many samples there are, how many meet all conditions, and the histograms."""

    total: int
    matching: int
    histograms: list[HistogramItem]


class FacetsQuestion(BaseModel):
    """A column of texts, over which samples."""

    column: str
    conditions: Conditions
    most: int = Field(default=50, ge=1, le=1000, strict=True)


class FacetItem(BaseModel):
    """A text: samples that meet the conditions, and all."""

    label: str
    matching: int
    samples: int


class CutQuestion(BaseModel):
    """A bound in place of a filter's own, or after all filters where `step` is left out."""

    bound: Condition
    step: str | None = None
    conditions: Conditions
    examples: int = Field(default=12, ge=0, le=60, strict=True)


class LossItem(BaseModel):
    """A concept: samples that reach the cut, and those that pass."""

    concept: str
    before: int
    after: int


class CutAnswer(BaseModel):
    """What would pass, what concepts lose, and the samples nearest to the bound on either side."""

    reaching: int
    passing: int
    now: int
    concepts: list[LossItem]
    inside: list[dict[str, object]]
    outside: list[dict[str, object]]
    approximate: list[str]


@router.post("/decisions/{ledger}/histograms")
def histograms(asked: HistogramsQuestion, explorer: WithExplorer, service: WithService) -> HistogramsAnswer:
    """Histograms of numeric columns, each over the samples that meet the other columns' conditions."""
    with service.heavy():
        found = [_histogram(explorer, column, asked.conditions) for column in asked.columns]
        matching = explorer.matching(explorer.mask(asked.conditions))
    return HistogramsAnswer(total=explorer.rows, matching=matching, histograms=found)


def _histogram(explorer: Explorer, column: str, conditions: list[Condition]) -> HistogramItem:
    found = explorer.histogram(column, conditions)
    # JSON has no infinity: an edge that is infinite is drawn as the end of the axis.
    edges = np.clip(found.edges, -GREATEST, GREATEST)
    return HistogramItem(
        column=column,
        edges=edges.tolist(),
        counts=found.counts.tolist(),
        whole=found.whole.tolist(),
        missing=found.missing,
    )


@router.post("/decisions/{ledger}/facets")
def facets(asked: FacetsQuestion, explorer: WithExplorer, service: WithService) -> list[FacetItem]:
    """The most frequent texts of a column."""
    with service.heavy():
        found = explorer.facets(asked.column, asked.conditions, asked.most)
    return [FacetItem(label=label, matching=matching, samples=whole) for label, matching, whole in found]


@router.post("/decisions/{ledger}/cut")
def threshold(asked: CutQuestion, explorer: WithExplorer, service: WithService) -> CutAnswer:
    """What moving a threshold would do. Filters in `approximate` keep what they were fitted on."""
    with service.heavy():
        found = cut(
            explorer, asked.bound, step=asked.step, conditions=asked.conditions, examples=asked.examples
        )
        inside, outside = explorer.read(found.inside), explorer.read(found.outside)
        values = explorer.columns.numbers(asked.bound.column) if len(inside) + len(outside) else None
    for sample in (*inside, *outside):
        value = float("nan") if values is None else float(values[sample["number"]])
        sample["at"] = value if np.isfinite(value) else None
    return CutAnswer(
        reaching=found.reaching,
        passing=found.passing,
        now=found.now,
        concepts=[
            LossItem(concept=loss.concept, before=loss.before, after=loss.after) for loss in found.concepts
        ],
        inside=[plain(sample) for sample in inside],
        outside=[plain(sample) for sample in outside],
        approximate=list(found.approximate),
    )


def plain(sample: dict[str, object]) -> dict[str, object]:
    """The sample with numbers that JSON can hold."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in sample.items()
    }
