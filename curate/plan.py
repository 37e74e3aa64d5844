"""What a recipe will do with a pool and a store; refuses what can't work before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from curate.recipe import NamedOptions, Recipe, filter_name
from curate.tags import check_tags
from filters.core.catalogue import filter_kind, nearest
from filters.core.declaration import Filter
from filters.core.errors import MissingSignal, PoolError, RecipeError
from filters.core.tags import declared_tags
from transforms.fingerprints import fingerprint
from transforms.measure import (
    CollectiveMeasure,
    Column,
    DerivedMeasure,
    Measure,
    NamedMeasure,
    PoolMeasure,
    SampleMeasure,
    find_measure,
    measure_names,
)
from transforms.measures.clip import as_clip
from transforms.measuring import DoneParts, MeasureConfig, missing_measures
from transforms.pool import Shard, list_pool
from transforms.relating import relation_class
from transforms.samples import samples_measure
from transforms.store import Store

VIRTUAL = Column("shard_number", pa.int32(), "the shard's place in the pool; not stored")
# What the store calls embeddings, and recipes.
EMBEDDINGS = (("img", "image"), ("txt", "text"))
# Columns of the samples table, which every pool has.
ALWAYS_THERE = ("uid", "caption", "key", "url")
# Columns of the view `samples` that the decision writes: a measure's would hide them.
DECIDED = ("verdict", "dropped_by", "value", "value_text", "bound", "votes", "weight", "duplicate_of")


@dataclass(frozen=True)
class Plan:
    """A recipe, resolved against a pool and a store.

    Attributes:
        measures: what is measured shard by shard, in order; `samples` is always there and not among
            them.
        collective: what compares the rows of the whole pool, once that is done.
        lacking: part -> names of the tables that the store lacks for it.
        unused: measures of the recipe that this pool has no use for.
    """

    recipe: Recipe
    store: Store
    shards: tuple[Shard, ...]
    measures: tuple[NamedMeasure, ...]
    collective: tuple[NamedMeasure, ...]
    lacking: dict[str, frozenset[str]]
    unused: tuple[str, ...]

    @cached_property
    def samples(self) -> NamedMeasure:
        """The table that everything is aligned with."""
        return samples_measure(self.recipe.file.pool.options())

    @cached_property
    def columns(self) -> dict[str, tuple[Column, NamedMeasure]]:
        """Every column there will be, with the measure that writes it."""
        return {
            column.name: (column, measure)
            for measure in (self.samples, *self.measures, *self.collective)
            for column in measure.columns()
        }

    @property
    def writers(self) -> dict[str, str]:
        """Column -> group of the store; of a collective measure, the beginning of its name."""
        return {name: measure.group for name, (_, measure) in self.columns.items()}

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The columns of the ledger that filters state, whatever the verdict."""
        return declared_tags(step.rule for step in self.recipe.steps)

    @property
    def has_images(self) -> bool:
        """False for a pool of metadata, from which no shard can be written."""
        return self.shards[0].format != "datacomp"

    def to_measure(self) -> list[Shard]:
        """The shards that lack something."""
        return [shard for shard in self.shards if self.lacking[shard.part]]

    def measure_config(self, decode_threads: int) -> MeasureConfig:
        """What the workers need to measure."""
        options = self.recipe.file.pool.options()
        return MeasureConfig(self.store, options, self.measures, decode_threads)

    def ledger_id(self, parts: Sequence[str], failed: Sequence[Mapping[str, str]] = ()) -> str:
        """Names the decision of this recipe over these parts: `<recipe>-<fp>`.

        failed: the shards of the pool that could not be read; the decision records them.
        """
        decision = self.decision_fingerprint(len(self.recipe.steps), parts)
        measured = sorted(measure.group for measure in (*self.measures, *self.collective))
        lost = sorted([item["shard"], item["code"]] for item in failed)
        return f"{self.recipe.name}-{fingerprint([decision, measured, lost, *self.tags])[:8]}"

    @property
    def continuous_id(self) -> str:
        """Names this recipe's continuous decision, whatever shards there are: `<recipe>-<fp>`."""
        decision = self.decision_fingerprint(len(self.recipe.steps), [])
        measured = sorted(measure.group for measure in self.measures)
        return f"{self.recipe.name}-{fingerprint(['continuous', decision, measured, *self.tags])[:8]}"

    def decision_fingerprint(self, steps: int, parts: Sequence[str]) -> str:
        """Names everything that the first so many steps depend on."""
        rules = [
            [step.name, filter_name(step.rule), _options(step.rule)] for step in self.recipe.steps[:steps]
        ]
        groups = sorted({self.writers[name] for name in self._read(steps) if name in self.writers})
        return fingerprint([rules, self.samples.group, groups + self._compared(steps), list(parts)])

    def relation_fingerprint(self, steps: int, parts: Sequence[str]) -> str:
        """Names what the last of so many steps compares: the survivors before it, and how.

        Thresholds are not part of it, so they can be chosen again without comparing again.
        """
        rule = self.recipe.steps[steps - 1].rule
        kind = relation_class(str(rule.relation))
        given = _options(rule)
        options = {name: given[name] for name in rule.relation_options if name in given}
        groups = [self.writers[name] for name in sorted(rule.reads()) if name in self.writers]
        groups += [self.embeddings[name] for name in rule.embeddings()]
        before = self.decision_fingerprint(steps - 1, parts)
        return fingerprint([before, rule.relation, kind.version, options, groups])

    @cached_property
    def embeddings(self) -> dict[str, str]:
        """Name of the embeddings, such as clip_image -> the folder of the store that holds them."""
        return {
            name: f"embeddings/{measure.folder}/{kind}" for name, (kind, measure) in self._encoded.items()
        }

    @cached_property
    def encoders(self) -> dict[str, Measure]:
        """Name of the embeddings -> the options of the measure that makes them."""
        return {name: measure.options for name, (_, measure) in self._encoded.items()}

    @cached_property
    def _encoded(self) -> dict[str, tuple[str, NamedMeasure]]:
        return {
            f"{measure.name}_{word}": (kind, measure)
            for measure in self.measures
            for kind, word in EMBEDDINGS
            if kind in getattr(measure.options, "encodes", ())
        }

    def collective_group(self, measure: NamedMeasure, parts: Sequence[str]) -> str:
        """Where a collective measure's columns over these parts lie: they depend on all of them."""
        if not isinstance(measure.options, CollectiveMeasure):
            raise TypeError(measure.name)
        kind = relation_class(measure.options.relation)
        return (
            f"{measure.group}-{fingerprint([kind.version, kind.identity(measure.options), list(parts)])[:8]}"
        )

    def _read(self, steps: int) -> set[str]:
        return {name for step in self.recipe.steps[:steps] for name in step.rule.reads()}

    def _compared(self, steps: int) -> list[str]:
        names = {name for step in self.recipe.steps[:steps] for name in step.rule.embeddings()}
        return sorted(self.embeddings[name] for name in names)


def _options(rule: Filter) -> dict[str, Any]:
    """What the rule was given; the content of files that it compares with, not their names."""
    options = rule.identity()
    for name in rule.added_options:
        if options[name] == type(rule).model_fields[name].default:
            del options[name]
    for handed in rule.measures().values():  # counts in the measure's own name, by content
        options = {name: value for name, value in options.items() if name not in handed}
    if rule.relation is not None:
        options |= relation_class(rule.relation).identity(rule)
    return options


def make_plan(recipe: Recipe, pool: Sequence[str], store: Store) -> Plan:
    """The plan.

    pool: patterns that replace the recipe's; empty to use those.
    Raises: PoolError, ModelError, RecipeError or MissingSignal, before any work.
    """
    section = recipe.file.pool
    shards = list_pool(pool or section.uris, section.options(), section.storage_options)
    return plan_for(recipe, shards, store)


def plan_for(recipe: Recipe, shards: Sequence[Shard], store: Store) -> Plan:
    """The plan for these shards, at least one.

    Raises: ModelError, RecipeError or MissingSignal, before any work.
    """
    check_tags(recipe)
    measures, unused = _choose_measures(recipe, metadata=shards[0].format == "datacomp")
    for measure in measures:
        measure.options.check()
    collective = tuple(item for item in measures if isinstance(item.options, CollectiveMeasure))
    measures = tuple(item for item in measures if item not in collective)
    plan = Plan(recipe, store, tuple(shards), measures, collective, {}, unused)
    _check_columns(plan)
    return with_shards(plan, shards)


def with_shards(plan: Plan, shards: Sequence[Shard]) -> Plan:
    """The same plan for these shards."""
    config = MeasureConfig(plan.store, plan.recipe.file.pool.options(), plan.measures)
    done = DoneParts(plan.store)
    lacking = {shard.part: missing_measures(shard, config, done) for shard in shards}
    return replace(plan, shards=tuple(shards), lacking=lacking)


def _choose_measures(recipe: Recipe, *, metadata: bool) -> tuple[tuple[NamedMeasure, ...], tuple[str, ...]]:
    """The measures that this pool allows and the recipe asks for, openly or by a filter's reads."""
    asked = list(recipe.measures)
    kinds = {item.kind for item in asked}
    chosen: list[NamedOptions] = []
    for kind in measure_names():
        declared = find_measure(kind)
        wanted = getattr(declared, "automatic", False) or (metadata and kind == "datacomp_columns")
        if wanted and kind not in kinds:
            chosen.append(NamedOptions(kind, kind, declared()))
    chosen += asked
    usable = [item for item in chosen if _fits(item.options, metadata=metadata)]
    usable += _on_demand(recipe, usable, metadata=metadata)
    unused = tuple(item.name for item in asked if item not in usable)
    return _named(recipe, usable), unused


def _fits(options: Measure, *, metadata: bool) -> bool:
    if isinstance(options, PoolMeasure):
        return metadata
    return not (metadata and isinstance(options, SampleMeasure))


def _on_demand(recipe: Recipe, usable: Sequence[NamedOptions], *, metadata: bool) -> list[NamedOptions]:
    """Measures that a filter reads and that need no options: named after their kind."""
    written = {column.name for item in usable for column in item.options.columns(item.name)}
    wanted = [name for step in recipe.steps for name in step.rule.reads() if name not in written]
    found: list[NamedOptions] = []
    for kind in measure_names():
        declared = find_measure(kind)
        if issubclass(declared, PoolMeasure) or any(item.name == kind for item in usable):
            continue
        try:
            options = declared()
        except ValidationError:
            continue  # it has options that only the recipe can give
        if _fits(options, metadata=metadata) and any(
            column.name in wanted for column in options.columns(kind)
        ):
            found.append(NamedOptions(kind, kind, options))
    return found


def _named(recipe: Recipe, usable: Sequence[NamedOptions]) -> tuple[NamedMeasure, ...]:
    """The measures with what they depend on; those that read embeddings come last."""
    samples = samples_measure(recipe.file.pool.options()).folder
    named: dict[str, NamedMeasure] = {}
    for item in sorted(usable, key=lambda item: _place(item.options)):
        depends = [samples]
        if isinstance(item.options, CollectiveMeasure | DerivedMeasure):
            depends += _sources(item.name, item.options, named)
        if isinstance(item.options, DerivedMeasure) and (encoder := item.options.encoder()):
            if encoder not in named or not getattr(named[encoder].options, "encodes", ()):
                encoders = [name for name, one in named.items() if getattr(one.options, "encodes", ())]
                msg = (
                    f"measure {item.name!r} reads the embeddings of {encoder!r}, which no measure "
                    f"of this pool writes; {nearest(encoder, encoders) if encoders else 'add a clip measure'}"
                )
                raise RecipeError(msg)
            depends.append(named[encoder].folder)
            item = replace(item, options=item.options.bound(named[encoder].options))  # noqa: PLW2901
        named[item.name] = NamedMeasure(item.name, item.kind, item.options, tuple(depends))
    tags = declared_tags(step.rule for step in recipe.steps)
    _check_collisions([samples_measure(recipe.file.pool.options()), *named.values()], tags)
    return tuple(named.values())


def _place(options: Measure) -> int:
    """Those that read what others write come after them."""
    return 2 * isinstance(options, CollectiveMeasure) + isinstance(options, DerivedMeasure)


def _sources(
    name: str, options: CollectiveMeasure | DerivedMeasure, named: Mapping[str, NamedMeasure]
) -> list[str]:
    """The folders of the measures whose embeddings and columns a measure reads."""
    encoders = {
        f"{encoder}_{word}": one.folder
        for encoder, one in named.items()
        for kind, word in EMBEDDINGS
        if kind in getattr(one.options, "encodes", ())
    }
    writers = {column.name: one.folder for one in named.values() for column in one.columns()}
    compared = options.embeddings() if isinstance(options, CollectiveMeasure) else ()
    wanted = [(what, encoders, "compares the embeddings") for what in compared]
    wanted += [(what, writers, "reads") for what in options.reads() if what not in ALWAYS_THERE]
    for what, known, verb in wanted:
        if what not in known:
            said = nearest(what, known) if known else "add a clip measure"
            msg = f"measure {name!r} {verb} {what!r}, which no measure of this pool writes; {said}"
            raise RecipeError(msg)
    return sorted({known[what] for what, known, _ in wanted})


def _check_collisions(measures: Iterable[NamedMeasure], tags: Iterable[str]) -> None:
    """No two columns of a store have one name; SQL takes upper and lower case for the same."""
    seen = dict.fromkeys((VIRTUAL.name, *DECIDED, *tags), "ledger")
    for measure in measures:
        for column in measure.columns():
            other = seen.setdefault(column.name.lower(), measure.name)
            if other != measure.name:
                msg = f"measures {other!r} and {measure.name!r} both write {column.name!r}: rename one"
                raise RecipeError(msg)


def _check_columns(plan: Plan) -> None:
    """Every filter's columns are written, and have types that it can judge."""
    known = {name: column.type for name, (column, _) in plan.columns.items()}
    known[VIRTUAL.name] = VIRTUAL.type
    for measure in plan.collective:
        if isinstance(measure.options, CollectiveMeasure):
            _check_prompted(plan, f"measure {measure.name}", measure.options.relation, measure.options)
    for step in plan.recipe.steps:
        for name in step.rule.reads():
            if name not in known:
                raise MissingSignal(_missing(plan, step.name, name, known))
        for name in step.rule.embeddings():
            if name not in plan.embeddings:
                raise MissingSignal(_no_embeddings(plan, step.name, name))
        try:
            step.rule.check(known)
            if step.rule.relation is not None:
                relation_class(step.rule.relation).check(step.rule)
                _check_prompted(plan, "it", step.rule.relation, step.rule)
        except (ValueError, PoolError, RecipeError) as cause:
            msg = f"filter {step.name}: {cause}"
            raise RecipeError(msg) from cause


def _check_prompted(plan: Plan, who: str, relation: str, rule: Filter | CollectiveMeasure) -> None:
    """Where prompts are compared with embeddings, one model makes both."""
    for name in relation_class(relation).prompted(rule):
        as_clip(who, name, plan.encoders.get(name))


def _no_embeddings(plan: Plan, step: str, name: str) -> str:
    said = (
        f"filter {step} compares the embeddings {name!r}, which no measure of this recipe and pool writes; "
    )
    measure = name.rpartition("_")[0]
    if measure in plan.unused:
        return said + f"the measure {measure!r} needs images, but this pool holds DataComp metadata only"
    if not plan.embeddings:
        return said + f"add to `measures`: `{measure or 'clip'}: {{measure: clip, model: …, pretrained: …}}`"
    return said + nearest(name, plan.embeddings)


def _missing(plan: Plan, step: str, name: str, known: dict[str, pa.DataType]) -> str:
    said = f"filter {step} reads {name!r}, which no measure of this recipe and pool writes; "
    if name.endswith("_cosine"):
        encoder = name.removesuffix("_cosine")
        if encoder in plan.unused:
            return said + f"the measure {encoder!r} needs images, but this pool holds DataComp metadata only"
        return said + f"add to `measures`: `{encoder}: {{measure: clip, model: …, pretrained: …}}`"
    if name.endswith("_score"):
        head = name.removesuffix("_score")
        return said + f"add to `measures`: `{head}: {{measure: score_head, checkpoint: …}}`"
    if not plan.has_images and any(
        name == column.name for column in find_measure("image_facts")().columns("")
    ):
        return said + "it needs images, but this pool holds DataComp metadata only"
    return said + nearest(name, known)


def describe_steps(plan: Plan) -> list[dict[str, str]]:
    """One line for each filter: name, kind, options, and who writes what it reads."""
    rows = []
    for step in plan.recipe.steps:
        options = {
            name: value
            for name, value in step.rule.model_dump(mode="json").items()
            if value != type(step.rule).model_fields[name].default
        }
        reads = [name for name in step.rule.reads() if name not in ("uid", "row", "shard_number")]
        rows.append(
            {
                "filter": step.name,
                "kind": filter_kind(step.rule) + (", only tags" if step.rule.only_tag else ""),
                "options": ", ".join(f"{name}={value}" for name, value in options.items()),
                "reads": ", ".join(f"{name} ({plan.columns[name][1].name})" for name in reads) or "uid",
            }
        )
    return rows
