"""Which recipes can decide shards as they come, and what they need for it."""

from __future__ import annotations

from curate.follow.calibration import NONE, Calibration, newest_calibration
from curate.plan import Plan
from filters.core.decide import Step
from filters.core.declaration import FittedFilter
from filters.core.errors import RecipeError
from transforms.relating import relation_class
from transforms.storage import redact


def refuse_continuous(plan: Plan) -> None:
    """Raises RecipeError where shards that come later can't be decided by themselves."""
    for measure in plan.collective:
        msg = (
            f"measure {measure.name!r} compares all rows of a pool with one another, so shards can't be "
            "decided as they come: run it over the pool without --follow, or take out what reads it"
        )
        raise RecipeError(msg)
    for step in plan.recipe.steps:
        if step.rule.relation is None:
            continue
        reason = relation_class(step.rule.relation).refusal(step.rule)
        if reason is not None:
            msg = (
                f"filter {step.name} can't decide shards as they come: {reason}; run it over the pool "
                "without --follow, or take it out"
            )
            raise RecipeError(msg)


def calibrated_steps(plan: Plan) -> list[str]:
    """The names of the steps that judge with what a calibration finds."""
    return [
        step.name for step in plan.recipe.steps if isinstance(step.rule, FittedFilter) or clusters_rows(step)
    ]


def require_calibration(plan: Plan, command: str) -> Calibration:
    """The calibration to judge with: the newest; `NONE` where there is none and none is needed.

    command: what makes one, for the message.
    Raises: RecipeError where filters need one.
    """
    found = newest_calibration(plan.store, plan.continuous_id)
    needing = calibrated_steps(plan)
    if found is None and needing:
        msg = (
            f"{', '.join(needing)} judge{'s' if len(needing) == 1 else ''} by what is fitted to a pool, and "
            f"{redact(plan.store.folder.url)} has no calibration of this recipe: run `{command}` first"
        )
        raise RecipeError(msg)
    return found or NONE


def clusters_rows(step: Step) -> bool:
    """Whether the step's comparison finds clusters."""
    return step.rule.relation is not None and relation_class(step.rule.relation).finds_clusters(step.rule)
