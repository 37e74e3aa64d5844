"""What fitted filters judge with in a continuous run: found once, numbered, never changed.

    calibrations/<recipe>-<fp>/<number>.json                   artefacts, and what they were fitted on
    calibrations/<recipe>-<fp>/<number>-<step>-centroids.npy   clusters of a step; its .json beside it

It also keeps what drift is measured against. The next calibration takes the next number; those before
stay as they are. `curate.follow.calibrate` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from curate.plan import Plan
from filters.core.decide import Step
from filters.core.declaration import FittedFilter
from filters.core.errors import RecipeError
from transforms.relating import relation_class
from transforms.storage import redact
from transforms.store import Store


@dataclass(frozen=True)
class Calibration:
    """A calibration of a recipe; number 0 stands for none, where the recipe needs none."""

    number: int
    content: Mapping[str, Any]

    def applied(self, step: Step) -> Step:
        """The step with what was fitted."""
        return replace(step, artefact=self.content["artefacts"].get(step.name, step.artefact))

    def centroids(self, step: str) -> str | None:
        """The file of the store with the step's clusters, where it has any."""
        found: str | None = self.content["centroids"].get(step)
        return found

    @property
    def reference(self) -> Mapping[str, Any] | None:
        """What drift is measured against; None without a calibration."""
        found: Mapping[str, Any] | None = self.content["reference"]
        return found


NONE = Calibration(0, {"artefacts": {}, "centroids": {}, "reference": None})


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


def newest_calibration(store: Store, name: str) -> Calibration | None:
    """The calibration with the greatest number, None where there is none."""
    numbers = [
        int(stem)
        for file in store.folder.names(f"calibrations/{name}")
        if file.endswith(".json") and (stem := file.removesuffix(".json")).isdigit()
    ]
    return read_calibration(store, name, max(numbers)) if numbers else None


def read_calibration(store: Store, name: str, number: int) -> Calibration:
    """The calibration of this number."""
    return Calibration(number, store.folder.read_json(calibration_file(name, number)))


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
    return step.rule.relation is not None and relation_class(step.rule.relation).clusters_rows


def calibration_file(name: str, number: int) -> str:
    """The file of the store that holds a calibration."""
    return f"calibrations/{name}/{number:04d}.json"
