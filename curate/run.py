"""One run of a recipe: plan, measure, decide, write, and the record of it."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from curate import __version__
from curate.pipeline import Flow, Say, measure_diversity, measure_pool, prepare_steps
from curate.plan import Plan
from curate.recipe import OutputSection
from curate.runner import Runner
from curate.runners.local import Local
from filters.core.decide import VERDICTS
from filters.core.errors import InvariantBroken, TooManyFailures
from transforms.attempts import acquit
from transforms.deciding import DecideConfig, DecidePart, PartCounts
from transforms.measure import NamedMeasure
from transforms.measuring import ShardReport
from transforms.removal import finish_removals
from transforms.storage import Folder, redact
from transforms.subset import write_subset
from transforms.tasks import drop_tasks
from transforms.writing import WriteConfig, plan_shards


@dataclass(frozen=True)
class RunOptions:
    """What a run may use, and where.

    Attributes:
        workers: on this machine; a runner says itself how many workers it has.
        runner: where it runs; None: on this machine.
    """

    workers: int = 1
    decode_threads: int = 2
    runner: Runner | None = None

    def where(self) -> Runner:
        """The runner."""
        return self.runner or Local(workers=self.workers)

    def recorded(self) -> dict[str, Any]:
        """What the record of a run says of them."""
        runner = self.where()
        return {"runner": runner.name, "workers": runner.workers, "decode_threads": self.decode_threads}


@dataclass(frozen=True)
class RunResult:
    """What a run leaves: the ledger's name and everything that is in its manifest."""

    ledger: str
    manifest: dict[str, Any]
    seconds: dict[str, float]

    @property
    def counts(self) -> dict[str, int]:
        """Verdict -> rows."""
        counts: dict[str, int] = self.manifest["verdicts"]
        return counts


def run_recipe(plan: Plan, options: RunOptions, say: Say) -> RunResult:
    """Runs the plan; holds the store's lock all the while.

    Raises: RunnerError before anything is done; TooManyFailures after the ledger is written and
    before shards are; WorkerLost; StoreError.
    """
    started = time.time()
    with at_work(plan, options, say) as flow:
        plan, clock = flow.plan, Clock()
        found = _as_asked(plan, decide_pool(flow, clock))
        ledger = found["ledger"]
        plan.store.folder.write_json("latest.json", {"ledger": ledger})
        clock.lap("decide")
        check_failures(plan, found)
        _write_outputs(flow, found)
        clock.lap("write")
        _record(plan, ledger, started, {**flow.laps, **clock.seconds}, options)
    return RunResult(ledger, found, clock.seconds)


@contextmanager
def at_work(plan: Plan, options: RunOptions, say: Say) -> Iterator[Flow]:
    """The plan, as workers can follow it, on its started engine; the store is locked and in order.

    Raises: RunnerError before anything is done; StoreError, StoreLocked.
    """
    runner = options.where()
    runner.check(plan)
    plan = runner.seen_by_workers(plan)
    plan.store.prepare()
    with plan.store.lock(), runner.start(plan.recipe.name) as engine:
        finish_removals(plan.store)
        yield Flow(plan, engine, say, options.decode_threads)
        if engine.graph_bytes is not None:
            drop_tasks(plan.store.folder)


def decide_pool(flow: Flow, clock: Clock) -> dict[str, Any]:
    """Measures what lacks and decides, unless that was done before; returns the decision's manifest."""
    plan = flow.plan
    reports = measure_lacking(flow)
    clock.lap("measure")
    parts, failed = readable_parts(plan, reports)
    ledger = plan.ledger_id([part.part for part in parts], failed)
    found = _find_manifest(plan, ledger)
    return _decide(flow, ledger, parts, failed) if found is None else found


def measure_lacking(flow: Flow) -> list[ShardReport]:
    """Measures the plan's shards that lack something; reports on those."""
    lacking = flow.plan.to_measure()
    acquit(
        {shard.part for shard in flow.plan.shards} - {shard.part for shard in lacking}, flow.plan.store.folder
    )
    if not lacking:
        flow.say(f"all {len(flow.plan.shards)} shards are measured")
        return []
    flow.say(f"measuring {len(lacking)} of {len(flow.plan.shards)} shards")
    return flow.measure(lacking)


def readable_parts(
    plan: Plan, reports: Sequence[ShardReport], first: int = 0
) -> tuple[list[DecidePart], list[dict[str, str]]]:
    """The parts with rows, in pool order, and the shards that could not be read at all.

    first: the number of the first part.
    """
    absent = {report.part: report for report in reports if not report.complete}
    failed = [
        {"shard": report.uri, "code": str(report.failure), "detail": report.detail}
        for report in sorted(absent.values(), key=lambda report: report.uri)
    ]
    parts: list[DecidePart] = []
    for shard in plan.shards:
        if shard.part in absent:
            continue
        marker = plan.store.done(plan.samples.group, shard.part)
        if marker is None:
            msg = f"{shard.uri} was measured, but its part {shard.part} is not in the store"
            raise InvariantBroken(msg)
        # Numbered among the readable: what is fitted and compared depends on these parts alone.
        parts.append(DecidePart(shard.part, first + len(parts), int(marker["rows"])))
    return parts, failed


def _find_manifest(plan: Plan, ledger: str) -> dict[str, Any] | None:
    """The manifest of the same decision, where it was taken before."""
    name = f"ledger/{ledger}/manifest.json"
    if not plan.store.folder.exists(name):
        return None
    found: dict[str, Any] = plan.store.folder.read_json(name)
    return found


def _as_asked(plan: Plan, found: dict[str, Any]) -> dict[str, Any]:
    """The manifest with this run's output options: they are no part of what names a decision."""
    output = plan.recipe.public()["output"]
    if found["recipe"]["output"] == output:
        return found
    found = {**found, "recipe": {**found["recipe"], "output": output}}
    plan.store.folder.write_json(f"ledger/{found['ledger']}/manifest.json", found)
    return found


def _decide(
    flow: Flow, ledger: str, parts: Sequence[DecidePart], failed: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    plan = flow.plan
    config = decide_config(plan, ledger)
    config = measure_pool(flow, config, parts)
    config = prepare_steps(flow, config, parts)
    flow.say(f"deciding {sum(part.rows for part in parts)} samples")
    counts = flow.decide(config, parts)
    manifest = make_manifest(plan, config, counts, failed)
    plan.store.folder.write_json(f"ledger/{ledger}/manifest.json", manifest)
    return manifest


def decide_config(plan: Plan, ledger: str) -> DecideConfig:
    """How to decide by the plan, with nothing compared and fitted yet."""
    return DecideConfig(
        plan.store, plan.writers, plan.recipe.steps, f"ledger/{ledger}", {}, plan.embeddings, plan.encoders
    )


def make_manifest(
    plan: Plan,
    config: DecideConfig,
    counts: Sequence[PartCounts],
    failed: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """Everything a reader needs to understand and query the decision; no times, no secrets."""
    uris = {shard.part: shard.uri for shard in plan.shards}
    verdicts = add_up([dict.fromkeys(VERDICTS, 0), *(part.verdicts for part in counts)])
    rows = sum(part.rows for part in counts)
    if sum(verdicts.values()) != rows:
        msg = f"verdicts {verdicts} do not add up to {rows} rows"
        raise InvariantBroken(msg)
    steps = len(config.steps)
    overlap = [
        [sum(part.overlap[one][other] for part in counts) for other in range(steps)] for one in range(steps)
    ]
    return {
        "ledger": config.ledger.removeprefix("ledger/"),
        "curate_version": __version__,
        "recipe": plan.recipe.public(),
        "rows": rows,
        "verdicts": verdicts,
        "dropped_by": add_up([part.dropped_by for part in counts]),
        "tags": list(plan.tags),
        "overlap": overlap,
        "artefacts": {step.name: step.artefact for step in config.steps if step.artefact is not None},
        "relations": config.relations,
        "samples": plan.samples.group,
        "measures": [
            {
                "name": measure.name,
                "kind": measure.kind,
                "group": config.writers[measure.columns()[0].name],
                "version": measure.options.version,
                "columns": [column.name for column in measure.columns()],
                "embeddings": _embeddings(measure),
            }
            for measure in (*plan.measures, *plan.collective)
        ],
        "parts": [
            {
                "part": part.part,
                "number": part.number,
                "uri": uris[part.part],
                "rows": part.rows,
                "verdicts": part.verdicts,
            }
            for part in counts
        ],
        "failed_shards": list(failed),
    }


def _embeddings(measure: NamedMeasure) -> str | None:
    return f"embeddings/{measure.folder}" if getattr(measure.options, "encodes", ()) else None


def add_up(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sum of counts by name."""
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total


def check_failures(plan: Plan, manifest: Mapping[str, Any]) -> None:
    """Raises TooManyFailures where rows or whole shards failed beyond the recipe's bound."""
    bound = plan.recipe.file.max_failed_fraction
    rows, failed = manifest["rows"], manifest["verdicts"].get("failed", 0)
    lost = manifest["failed_shards"]
    ledger = manifest["ledger"]
    shards = len(lost) + len(manifest["parts"])
    written = f"the ledger {ledger} is written, curated shards are not"
    if lost and len(lost) / shards > bound:
        names = ", ".join(f"{item['shard']} ({item['code']})" for item in lost[:5])
        msg = (
            f"{len(lost)} of {shards} shards could not be read, more than max_failed_fraction "
            f"{bound:g}: {names}{' …' if len(lost) > 5 else ''}; {written}"
        )
        raise TooManyFailures(msg)
    if rows and failed / rows > bound:
        # What was removed on purpose is no fault of the pool.
        failed -= _removed_rows(plan, manifest)
    if rows and failed / rows > bound:
        worst = max(manifest["parts"], key=lambda part: part["verdicts"]["failed"])
        question = "FROM samples SELECT failure, count(*) GROUP BY 1"
        msg = (
            f"{failed} of {rows} samples failed ({failed / rows:.1%}), more than max_failed_fraction "
            f"{bound:g}; most of them in {worst['uri']} ({worst['verdicts']['failed']}). See which: "
            f'curate query {redact(plan.store.folder.url)} "{question}"; {written}'
        )
        raise TooManyFailures(msg)


def _removed_rows(plan: Plan, manifest: Mapping[str, Any]) -> int:
    """How many of the failed rows `curate remove` took out."""
    markers = (plan.store.done(manifest["samples"], part["part"]) or {} for part in manifest["parts"])
    return sum(int(marker.get("removed_rows", 0)) for marker in markers)


def _write_outputs(flow: Flow, manifest: Mapping[str, Any]) -> None:
    plan, output = flow.plan, flow.plan.recipe.file.output
    ledger, folder = manifest["ledger"], flow.plan.store.folder
    kept = manifest["verdicts"].get("keep", 0)
    names = [part["part"] for part in manifest["parts"]]
    if output.subset and not folder.exists(f"subsets/{ledger}.npy"):
        flow.say(f"writing the subset of {kept} uids")
        write_subset(plan.store, f"ledger/{ledger}", names, f"subsets/{ledger}.npy", kept)
    counts = [
        PartCounts(part["part"], part["number"], part["rows"], part["verdicts"], {}, [])
        for part in manifest["parts"]
    ]
    if output.diversity and plan.embeddings and counts:
        decided = DecideConfig(plan.store, {}, (), f"ledger/{ledger}", {}, plan.embeddings)
        measure_diversity(flow, decided, counts, output.diversity_rows)
    if not output.shards or not plan.has_images:
        return
    target = f"curated/{ledger}"
    layout = _keep_layout(folder, target, output)
    config = write_config(plan, manifest)
    shards = {shard.part: shard for shard in plan.shards}
    removed = {int(number): many for number, many in layout.get("removed", {}).items()}
    outputs = list(plan_shards(counts, shards, output.samples_per_shard, removed))
    done = set(folder.names(target))
    missing = [item for item in outputs if f"{item.number:08d}.done.json" not in done]
    if missing:
        flow.say(f"writing {len(missing)} curated shards")
        flow.write(config, missing)


def write_config(plan: Plan, manifest: Mapping[str, Any]) -> WriteConfig:
    """How to write the curated shards of a decision."""
    ledger, output = manifest["ledger"], plan.recipe.file.output
    stored = {item["name"]: item["group"] for item in manifest["measures"]}
    groups = {
        stored[measure.name]: tuple(column.name for column in measure.columns() if column.carried)
        for measure in (*plan.measures, *plan.collective)
    }
    pool = plan.recipe.file.pool.options()
    target = f"curated/{ledger}"
    return WriteConfig(
        plan.store, pool, f"ledger/{ledger}", target, ledger, groups, plan.tags, output.weights
    )


def layout_of(output: OutputSection) -> dict[str, Any]:
    """How curated shards are laid out: what must not change while they stand."""
    layout: dict[str, Any] = {"samples_per_shard": output.samples_per_shard}
    if output.weights is not None:
        layout["weights"] = output.weights
    return layout


def _keep_layout(folder: Folder, target: str, output: OutputSection) -> dict[str, Any]:
    """Removes curated shards of another size, which would hold samples twice, or with other weights.

    Returns: how they are laid out, with the samples that were removed from each since.
    """
    name = f"{target}/layout.json"
    layout = layout_of(output)
    if folder.exists(name):
        found: dict[str, Any] = folder.read_json(name)
        if {key: value for key, value in found.items() if key != "removed"} == layout:
            return found
        folder.remove(name)  # first: what it describes is complete as long as it stands
    if folder.names(target):
        folder.remove(target)
    folder.write_json(name, layout)
    return layout


def _record(
    plan: Plan, ledger: str, started: float, seconds: Mapping[str, float], options: RunOptions
) -> None:
    """What was run, when, and how long it took; kept apart from everything that is reproducible."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started))
    record = {
        "recipe": plan.recipe.name,
        "ledger": ledger,
        "started": stamp,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "options": options.recorded(),
        "curate": __version__,
        "python": platform.python_version(),
        "host": platform.node(),
    }
    plan.store.folder.write_json(f"runs/{stamp}-{ledger}.json", record)


class Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The stage has ended: it took the time since the last one did."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now
