"""The recipe: as it ran, with other thresholds, and beside another one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from curate.explore.predict import Change, compare, predict
from curate.report.page import recipe_text
from curate.schema import recipe_schema
from curate.serve.routes.signals import plain
from curate.serve.settings import WithExplorer, WithService

router = APIRouter(tags=["recipes"])


class RecipeAnswer(BaseModel):
    """The recipe as YAML, and the options of its filters as they ran."""

    text: str
    filters: list[dict[str, Any]]


class RecipeQuestion(BaseModel):
    """A recipe as YAML."""

    text: str = Field(min_length=1, max_length=200_000)


class StepItem(BaseModel):
    """One filter: what would reach and pass it; `exact` where that is no guess."""

    step: str
    reaching: int
    passing: int
    exact: bool


class ChangeItem(BaseModel):
    """Samples whose fate would change in one way, with a few of them."""

    before: str
    after: str
    samples: int
    examples: list[dict[str, Any]]


class PredictionAnswer(BaseModel):
    """What a recipe would keep, and what would change."""

    kept: int
    now: int
    filters: list[StepItem]
    changes: list[ChangeItem]
    notes: list[str]


class ComparisonAnswer(BaseModel):
    """How two decisions over the same samples differ."""

    kept: int
    other: int
    same: int
    changes: list[ChangeItem]


@router.get("/decisions/{ledger}/recipe")
def recipe(explorer: WithExplorer) -> RecipeAnswer:
    """The recipe as it ran."""
    manifest = explorer.decision.manifest
    return RecipeAnswer(text=recipe_text(manifest), filters=list(manifest["recipe"]["filters"]))


@router.get("/recipe-schema")
def schema() -> dict[str, Any]:
    """The JSON Schema of recipes."""
    return recipe_schema()


@router.post("/decisions/{ledger}/predict")
def prediction(asked: RecipeQuestion, explorer: WithExplorer, service: WithService) -> PredictionAnswer:
    """What a changed recipe would keep, from what is stored; nothing is measured or written."""
    with service.heavy():
        found = predict(explorer, asked.text)
        return PredictionAnswer(
            kept=found.kept,
            now=found.now,
            filters=[
                StepItem(step=one.name, reaching=one.reaching, passing=one.passing, exact=one.exact)
                for one in found.steps
            ],
            changes=[_change(explorer, one) for one in found.changes],
            notes=list(found.notes),
        )


@router.get("/decisions/{ledger}/compare/{other}")
def comparison(other: str, explorer: WithExplorer, service: WithService) -> ComparisonAnswer:
    """Which samples two decisions treat differently, and why."""
    with service.heavy():
        found = compare(explorer, service.explorer(other))
        return ComparisonAnswer(
            kept=found.kept,
            other=found.other,
            same=found.same,
            changes=[_change(explorer, one) for one in found.changes],
        )


def _change(explorer: Any, change: Change) -> ChangeItem:
    examples = [plain(sample) for sample in explorer.read(change.rows)]
    return ChangeItem(before=change.before, after=change.after, samples=change.samples, examples=examples)
