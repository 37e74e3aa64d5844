"""The recipe: what to read, measure, keep and write, as a person wrote it in YAML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.recipe_errors import RecipeProblems
from curate.recipe_yaml import Document, parse_yaml
from filters.core.catalogue import filter_names, find_filter, nearest
from filters.core.decide import Step
from filters.core.declaration import Filter
from filters.core.errors import RecipeError
from transforms.measure import Measure, find_measure, measure_names
from transforms.pool import PoolOptions
from transforms.storage import redact

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
LEVELS = "alignment_levels"  # a key of `output`, and the filter that it stands for
MEASURE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class PoolSection(PoolOptions):
    """What to read."""

    uri: str | tuple[str, ...] = Field(
        default=(),
        repr=False,  # a URL can hold a password
        description="Paths, globs, brace ranges, folders or URLs; --pool replaces it.",
    )
    storage_options: dict[str, Any] = Field(
        default_factory=dict,
        exclude=True,
        repr=False,
        description="fsspec options (endpoint, credentials); never stored, never logged.",
    )

    @property
    def uris(self) -> tuple[str, ...]:
        """The patterns as a tuple."""
        return (self.uri,) if isinstance(self.uri, str) else self.uri

    def options(self) -> PoolOptions:
        """How to read, without where."""
        return PoolOptions(**{name: getattr(self, name) for name in PoolOptions.model_fields})


class RareConcepts(BaseModel):
    """Which losses the report flags: what a filter removes of a concept that is rare in the pool."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share_below: float = Field(default=0.01, gt=0, le=1, description="A smaller share of the pool is rare.")
    removes_above: float = Field(
        default=0.5, ge=0, lt=1, description="A filter that removes a larger share of one is flagged."
    )
    confidence: float = Field(
        default=0.95, ge=0.5, lt=1, description="How sure it must be that more is removed, not by accident."
    )


class OutputSection(BaseModel):
    """What to write beside the ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: bool = Field(default=True, description="Curated WebDataset tars with the kept samples.")
    samples_per_shard: int = Field(default=10_000, ge=1, description="Samples in one curated tar.")
    subset: bool = Field(default=True, description="DataComp subset file with the kept uids.")
    report: bool = Field(default=True, description="HTML report.")
    diversity: bool = Field(
        default=True, description="RankMe and Vendi of pool, kept samples and a random draw of as many."
    )
    diversity_rows: int = Field(
        default=100_000, ge=2, description="Most rows of each, drawn by uid hash; memory and time follow it."
    )
    rare_concepts: RareConcepts = Field(
        default=RareConcepts(), description="Which losses of rare concepts the report flags."
    )
    alignment_levels: int | None = Field(
        default=None,
        ge=2,
        le=127,
        description="Tag samples with so many steps of clip_cosine: the filter alignment_levels, last.",
    )
    weights: Literal["p_clean"] | None = Field(
        default=None,
        description="Write this tag as `weight` into the json of kept samples, for training.",
    )
    storage_options: dict[str, Any] = Field(
        default_factory=dict,
        exclude=True,
        repr=False,
        description="fsspec options of the store; never stored, never logged.",
    )


class DriftSection(BaseModel):
    """When a continuous run says that the stream is no longer what the recipe was calibrated on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_shards: int = Field(default=20, ge=1, description="Shards of one window, in order of arrival.")
    confidence: float = Field(
        default=0.999, ge=0.5, lt=1, description="How sure it must be that a difference is no accident."
    )
    kept_rate: bool = Field(
        default=True, description="Alarm where the kept rate leaves the interval of the calibration."
    )
    distance_above: float = Field(
        default=0.15,
        gt=0,
        le=1,
        description="Alarm where a signal's distribution is farther from the calibration's "
        "(Kolmogorov-Smirnov).",
    )
    far_share_above: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Alarm where more samples are farther from all centroids than 99 % of the calibration's.",
    )


class RecipeFile(BaseModel):
    """The top level of a recipe file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME, description="Names the ledger and outputs: a-z, 0-9, _ and -.")
    description: str = Field(default="", description="One line on what the recipe is for.")
    pool: PoolSection = PoolSection()
    measures: dict[str, dict[str, Any] | None] = Field(
        default_factory=dict,
        description="Measure name -> options; `measure: KIND` where the name is your own.",
    )
    filters: list[Any] = Field(description="In order; each sees the survivors of those before it.")
    output: OutputSection = OutputSection()
    drift: DriftSection = DriftSection()
    max_failed_fraction: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="More failed rows or shards than this end the run with exit code 3.",
    )


@dataclass(frozen=True)
class NamedOptions:
    """A measure as the recipe asks for it: its name, its kind, its options."""

    name: str
    kind: str
    options: Measure


@dataclass(frozen=True)
class Recipe:
    """A recipe that was read and found well-formed; the plan says whether it can work."""

    file: RecipeFile
    measures: tuple[NamedOptions, ...]
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.file.name

    def public(self) -> dict[str, Any]:
        """The recipe as JSON values, without credentials, with every default spelt out."""
        plain = self.file.model_dump(mode="json", exclude={"measures", "filters"})
        plain["pool"]["uri"] = [redact(uri) if "://" in uri else uri for uri in self.file.pool.uris]
        plain["measures"] = {
            item.name: {"measure": item.kind, **item.options.model_dump(mode="json", by_alias=True)}
            for item in self.measures
        }
        plain["filters"] = [
            {"name": step.name, "filter": filter_name(step.rule), **step.rule.model_dump(mode="json")}
            for step in self.steps
        ]
        return plain


def filter_name(rule: Filter) -> str:
    """The recipe key of a filter: its module's name."""
    return type(rule).__module__.rpartition(".")[2]


def packaged_recipes() -> dict[str, Path]:
    """The recipes that come with Curate, by name."""
    folder = Path(str(files("curate") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(name: str | Path) -> Recipe:
    """The recipe of this file, or the packaged one of this name.

    Raises: RecipeError naming file, line, key, value and fix for everything that is wrong.
    """
    path = Path(name)
    if not path.is_file():
        packaged = packaged_recipes()
        if str(name) not in packaged:
            known = nearest(str(name), packaged)
            msg = f"no recipe file {str(name)!r}, and no packaged recipe of that name; {known}"
            raise RecipeError(msg)
        path = packaged[str(name)]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        msg = f"can't read the recipe {str(path)!r}: {cause}"
        raise RecipeError(msg) from cause
    return parse_recipe(text, str(path), path.parent)


def parse_recipe(text: str, name: str = "recipe", folder: Path | None = None) -> Recipe:
    """The recipe in this text; relative paths in it are relative to `folder`."""
    document = parse_yaml(text, name)
    problems = RecipeProblems(document)
    if not isinstance(document.content, dict):
        problems.add((), "a recipe is a mapping", "begin with `name:` and `filters:`")
        problems.raise_any()
    try:
        file = RecipeFile.model_validate(document.content)
    except ValidationError as found:
        problems.add_all((), found, RecipeFile)
        file = None
    measures = _measures(document, problems, folder or Path.cwd())
    steps = _steps(document, problems, folder or Path.cwd())
    problems.raise_any()
    if file is None:  # for the type checker: a problem was raised above
        raise RecipeError(name)
    measures += _brought(measures, steps, problems)
    steps += _levels(file.output, steps, problems)
    problems.raise_any()
    return Recipe(_located(file, folder), measures, steps)


def _located(file: RecipeFile, folder: Path | None) -> RecipeFile:
    """Relative pool paths stand relative to the recipe."""
    if folder is None or not file.pool.uris:
        return file
    uris = tuple(
        uri if "://" in uri or Path(uri).is_absolute() else str(folder / uri) for uri in file.pool.uris
    )
    return file.model_copy(update={"pool": file.pool.model_copy(update={"uri": uris})})


def _measures(document: Document, problems: RecipeProblems, folder: Path) -> tuple[NamedOptions, ...]:
    section = document.content.get("measures")
    found: list[NamedOptions] = []
    for name, given in section.items() if isinstance(section, dict) else ():
        path = ("measures", name)
        if not isinstance(given, dict | None):
            continue  # the top level has already complained
        options = dict(given or {})
        kind = str(options.pop("measure", name))
        if kind not in measure_names():
            fix = f"set `measure:` to the kind; {nearest(kind, measure_names())}"
            problems.add(path, f"unknown measure {kind!r}", fix)
            continue
        if not MEASURE_NAME.fullmatch(name):
            problems.add(
                path, f"measure name {name!r}", "use up to 64 of A-Z, a-z, 0-9 and _: it names columns"
            )
            continue
        declared = find_measure(kind)
        try:
            measure = declared.model_validate(options)
        except ValidationError as invalid:
            problems.add_all(path, invalid, declared)
            continue
        found.append(NamedOptions(name, kind, measure.located(folder)))
    return tuple(found)


def _steps(document: Document, problems: RecipeProblems, folder: Path) -> tuple[Step, ...]:
    section = document.content.get("filters")
    steps: list[Step] = []
    names: dict[str, int] = {}
    for at, item in enumerate(section if isinstance(section, list) else ()):
        parsed = _filter_item(item, ("filters", at), problems)
        if parsed is None:
            continue
        name, rule = parsed
        names[name] = names.get(name, 0) + 1
        steps.append(Step(name if names[name] == 1 else f"{name}_{names[name]}", rule.located(folder)))
    return tuple(steps)


def _brought(
    measures: Sequence[NamedOptions], steps: Sequence[Step], problems: RecipeProblems
) -> tuple[NamedOptions, ...]:
    """The measures that filters bring and `measures` doesn't list."""
    known = {item.name: item for item in measures}
    for at, step in enumerate(steps):
        for name, given in step.rule.measures().items():
            options = dict(given)
            kind = str(options.pop("measure", name))
            brought = NamedOptions(name, kind, find_measure(kind).model_validate(options))
            there = known.setdefault(name, brought)
            if there != brought and (there.kind != kind or _differ(there.options, brought.options, options)):
                said = ", ".join(f"{option} {value!r}" for option, value in options.items())
                fix = f"leave {' and '.join(options)} out here or there, or give this one a name of its own"
                problems.add(("filters", at), f"it measures {name!r} with {said}, the recipe otherwise", fix)
    return tuple(item for item in known.values() if item not in measures)


def _differ(one: BaseModel, other: BaseModel, names: Iterable[str]) -> bool:
    """Whether two of a kind were given other values of these options."""
    mine, theirs = one.model_dump(by_alias=True), other.model_dump(by_alias=True)
    return any(mine[name] != theirs[name] for name in names)


def _levels(output: OutputSection, steps: Sequence[Step], problems: RecipeProblems) -> tuple[Step, ...]:
    """The step that `output.alignment_levels` asks for, unless the recipe has it."""
    if output.alignment_levels is None:
        return ()
    there = [step for step in steps if filter_name(step.rule) == LEVELS]
    rule = find_filter(LEVELS).model_validate({"levels": output.alignment_levels})
    if not there:
        return (Step(LEVELS, rule),)
    if _differ(there[0].rule, rule, ["levels"]):
        problem = f"the filter {there[0].name} has another number of levels"
        problems.add(("output", LEVELS), problem, "leave one of them out")
    return ()


def _filter_item(
    item: object, path: tuple[str | int, ...], problems: RecipeProblems
) -> tuple[str, Filter] | None:
    if isinstance(item, str):
        item = {item: None}
    if not isinstance(item, dict) or len(item) != 1:
        problems.add(path, "a filter is one name with its options", "write `- min_side_pixels: 200`")
        return None
    name, given = next(iter(item.items()))
    if name not in filter_names():
        problems.add((*path, name), f"unknown filter {name!r}", nearest(name, filter_names()))
        return None
    declared = find_filter(name)
    if given is None:
        given = {}
    elif not isinstance(given, dict):
        if declared.shorthand is None:
            problems.add((*path, name), f"{given!r} alone does not say enough", _usage(name, declared))
            return None
        given = {declared.shorthand: given}
    try:
        return name, declared.model_validate(given)
    except ValidationError as invalid:
        problems.add_all((*path, name), invalid, declared)
        return None


def _usage(name: str, declared: type[Filter]) -> str:
    required = [field for field, info in declared.model_fields.items() if info.is_required()]
    shown = ", ".join(f"{field}: …" for field in required or list(declared.model_fields)[:2])
    return f"write `- {name}: {{{shown}}}`; see `curate filters {name}`"
