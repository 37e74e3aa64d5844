"""What a runner is: where a recipe runs, with its options, what it can't do, and how it is started.

A runner is one module in `curate.runners`, a frozen pydantic model of its options, found by the
module's name. `--options FILE` gives them as YAML; options of the command line win.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.engine import Engine
from curate.plan import Plan
from curate.recipe_errors import RecipeProblems
from curate.recipe_yaml import Document, parse_yaml
from filters.core.catalogue import declared_in, names_in
from filters.core.errors import RecipeError, RunnerError

DEFAULT_RUNNER = "local"


class Runner(BaseModel):
    """Where a recipe runs, with its options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(default=1, ge=1, description="How many shards are worked on side by side.")

    @property
    def name(self) -> str:
        """The runner's name: that of its module."""
        return type(self).__module__.rpartition(".")[2]

    def check(self, plan: Plan) -> None:
        """Raises RunnerError where this plan can't be run here; nothing is started yet."""

    def seen_by_workers(self, plan: Plan) -> Plan:
        """The plan as workers can follow it, who may run in another folder."""
        return plan

    @abstractmethod
    def start(self, title: str) -> AbstractContextManager[Engine]:
        """The engine, started for one run and stopped after it; title: the recipe's name.

        Raises: RunnerError where it can't be started.
        """


def runner_names() -> list[str]:
    """Every runner's name, sorted."""
    return names_in("curate.runners")


def find_runner(name: str) -> type[Runner]:
    """The runner's class.

    Raises: RunnerError for an unknown name, with the nearest known ones.
    """
    try:
        return declared_in("curate.runners", name, Runner)  # type: ignore[type-abstract]
    except RecipeError as cause:
        raise RunnerError(str(cause)) from cause


def load_runner(
    name: str, options: str | Path | None = None, given: Mapping[str, Any] | None = None
) -> Runner:
    """The runner of this name.

    options: a YAML file of its options. given: options of the command line, which win over the
    file's; None stands for one that was not given.
    Raises: RunnerError naming file, line, key, value and fix for everything that is wrong.
    """
    declared = find_runner(name)
    flags = {key: value for key, value in (given or {}).items() if value is not None}
    content: dict[str, Any] = {}
    if options is not None:
        content = _read(Path(options), declared, flags)
    try:
        return declared.model_validate({**content, **flags})
    except ValidationError as invalid:
        raise RunnerError(_problems(name, invalid)) from invalid


def _read(path: Path, declared: type[Runner], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a file, checked so that messages name its lines."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        msg = f"can't read the options {str(path)!r}: {cause}"
        raise RunnerError(msg) from cause
    try:
        document = parse_yaml(text, str(path))
        _check(document, declared, flags)
    except RecipeError as cause:
        raise RunnerError(str(cause)) from cause
    content: dict[str, Any] = document.content or {}
    return content


def _check(document: Document, declared: type[Runner], flags: Mapping[str, Any]) -> None:
    problems = RecipeProblems(document)
    if not isinstance(document.content or {}, dict):
        problems.add((), "options are a mapping", "write one `key: value` on each line")
        problems.raise_any()
    try:
        declared.model_validate({**(document.content or {}), **flags})
    except ValidationError as invalid:
        if not any(error["loc"] and error["loc"][0] in flags for error in invalid.errors()):
            problems.add_all((), invalid, declared)
            problems.raise_any()


def _problems(name: str, invalid: ValidationError) -> str:
    """What is wrong with options that stand in no file."""
    lines = []
    for error in invalid.errors(include_url=False):
        key = str(error["loc"][0]) if error["loc"] else ""
        if error["type"] == "missing":
            lines.append(f"runner {name}: {key} is required: give it in --options FILE")
        elif error["type"] == "extra_forbidden":
            lines.append(f"runner {name} has no {key}: leave --{key} out")
        else:
            said = str(error["msg"]).removeprefix("Value error, ")
            lines.append(f"runner {name}: {key}: {said}" if key else f"runner {name}: {said}")
    return "\n".join(lines)
