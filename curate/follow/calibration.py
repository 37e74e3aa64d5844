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

from filters.core.decide import Step
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


def calibration_file(name: str, number: int) -> str:
    """The file of the store that holds a calibration."""
    return f"calibrations/{name}/{number:04d}.json"
