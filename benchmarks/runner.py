"""Runs one benchmark in the process it is called in."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from benchmarks.machine import CoreUse, describe_machine


def run_benchmark(name: str, small: bool) -> dict[str, Any]:  # noqa: FBT001  (called by name)
    """The section of one benchmark as JSON values, with the machine it was measured on."""
    before = CoreUse.now()
    section = importlib.import_module(f"benchmarks.{name}").run(small=small)
    others = CoreUse.now().others_since(before)
    machine = f"{describe_machine()} Other processes kept {others:.1f} cores busy meanwhile."
    if small:
        met = [(target, None) for target, _ in section.met]
        remarks = [*section.remarks, "A smoke run: it shows that the benchmark works, no more."]
        section = dataclasses.replace(section, met=met, remarks=remarks)
    return {**dataclasses.asdict(section), "machine": machine}
