"""What the commands do, once their options are read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import filesize
from rich.console import Console
from rich.markup import escape

from curate.answers import Form, safe_text, show_answer
from curate.audit import score_audit, write_audit
from curate.audit.terminal import print_audit, print_score
from curate.describe import plain_table
from curate.evaluate.settings import Settings
from curate.explain import Explanation, explain
from curate.exporting import Publication, Selection, export_selection
from curate.forecast import forecasts
from curate.plan import Plan, describe_steps, make_plan
from curate.progress import show_progress
from curate.query import connect, describe_views, open_decision, run_sql
from curate.recipe import load_recipe
from curate.report import write_report
from curate.report.page import VERDICT_WORDS
from curate.report.terminal import print_summary
from curate.run import RunOptions, RunResult, run_recipe
from curate.state import save_survivors
from curate.target import Target
from filters.core.errors import QueryError
from transforms.storage import redact
from transforms.store import Store

AUDIT_BUDGET = 200
EXAMPLE_SQL = "SELECT dropped_by, count(*) FROM samples GROUP BY 1"
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def run_command(name: str, pool: Sequence[str], target: Target, options: RunOptions) -> None:
    """Runs a recipe and prints what came of it."""
    recipe = load_recipe(name)
    store = target.store(recipe.file.output.storage_options)
    plan = make_plan(recipe, pool, store)
    result = execute(plan, options)
    decision = open_decision(store, result.ledger)
    if recipe.file.output.report:
        write_report(decision, storage_options=recipe.file.pool.storage_options)
    print_summary(decision, out)
    seconds = ", ".join(f"{stage} {value:.1f} s" for stage, value in result.seconds.items())
    out.print(f"\n{seconds}", style="dim")


def execute(plan: Plan, options: RunOptions) -> RunResult:
    """Runs a plan with progress on standard error."""
    with show_progress(err):
        return run_recipe(plan, options, lambda text: err.print(text, markup=False))


def plan_command(name: str, pool: Sequence[str], target: Target) -> None:
    """Prints what a run would do."""
    recipe = load_recipe(name)
    plan = make_plan(recipe, pool, target.store(recipe.file.output.storage_options))
    size = sum(shard.size for shard in plan.shards)
    kind = plan.shards[0].format
    absent = [shard for shard in plan.shards if shard.size == 0]
    out.print(f"[bold]{escape(recipe.name)}[/]  {escape(recipe.file.description)}\n")
    out.print(f"pool   {len(plan.shards)} {kind} shards, {filesize.decimal(size)}")
    if absent:
        out.print(f"       {len(absent)} of them are missing or empty, the first: {escape(absent[0].uri)}")
    table = plain_table("measure", "columns", "shards to measure")
    for item in (plan.samples, *plan.measures):
        lacking = sum(item.name in names for names in plan.lacking.values())
        columns = ", ".join(column.name for column in item.columns())
        table.add_row(
            item.name, columns, f"{lacking} of {len(plan.shards)}" if lacking else "none: all there"
        )
    for item in plan.collective:
        table.add_row(item.name, ", ".join(column.name for column in item.columns()), "once all are measured")
    out.print()
    out.print(table)
    table = plain_table("filter", "kind", "options", "reads (written by)")
    for row in describe_steps(plan):
        table.add_row(*(escape(cell) for cell in row.values()))
    out.print()
    out.print(table)
    _print_forecasts(plan)
    ledger = plan.ledger_id([shard.part for shard in plan.shards])
    taken = plan.store.folder.exists(f"ledger/{ledger}/manifest.json")
    out.print(f"\ndecision  {ledger}{'  (taken before: nothing to do)' if taken else ''}")
    for unused in plan.unused:
        out.print(f"note      the measure {unused} is not used: this pool has no images", style="yellow")


def _print_forecasts(plan: Plan) -> None:
    """What comparisons will read, for this pool and a very large one."""
    found = forecasts(plan)
    if not found:
        return
    table = plain_table("compares", "samples", "files", "files x blocks", "reads", "US$ of reads", "expected")
    for forecast in found:
        table.add_row(*forecast.cells())
    out.print()
    out.print(table)


def explain_command(store: Store, name: str, ledger: str | None) -> None:
    """Prints why each sample of this key or uid got its verdict."""
    for found in explain(open_decision(store, ledger), name):
        _print_explanation(found)


def state_command(store: Store, target: str, step: str | None, ledger: str | None) -> None:
    """Saves the survivors of a step and prints what the state now holds."""
    saved = save_survivors(open_decision(store, ledger), step, target)
    rows = sum(batch["rows"] for batch in saved["batches"])
    out.print(f"{rows:,} survivors in {saved['clusters']:,} clusters, {len(saved['batches'])} batches")
    out.print(f"next: [bold]state: {escape(redact(target))}[/] in the filter, and new shards for the pool")


def _print_explanation(found: Explanation) -> None:
    sample = found.sample
    colour = {"keep": "green", "drop": "red", "quarantine": "yellow"}.get(sample["verdict"], "magenta")
    by = f" by {escape(sample['dropped_by'])}" if sample["dropped_by"] else ""
    out.print(f"[bold {colour}]{sample['verdict']}[/]{by}")
    out.print(f"uid      {sample['uid']}\nkey      {safe_text(sample['key'])}")
    out.print(f"place    {safe_text(sample['shard'])}, row {sample['row']}")
    out.print(f"caption  {safe_text(sample['caption'] or '—')}")
    if sample["failure"]:
        out.print(f"failure  {sample['failure']}: {safe_text(sample['failure_detail'] or '')}")
    if found.tags:
        shown = (
            f"{name} {'none' if value is None else f'{value:.6g}'}" for name, value in found.tags.items()
        )
        out.print(f"tags     {', '.join(shown)}")
    _print_relations(found)
    if found.votes:
        table = plain_table("", "filter", "value", "bound", "vote")
        for vote in found.votes:
            mark = "→" if vote.decided else ""
            said = f"{vote.vote}, only tagged" if vote.only_tag else vote.vote
            table.add_row(mark, vote.filter, safe_text(vote.value), escape(vote.bound), said)
        out.print()
        out.print(table)


def _print_relations(found: Explanation) -> None:
    """What the sample was compared with: the original of a copy, the nearest other, its clusters."""
    for original in found.originals:
        word = "copy of " if original.decided else "nearest "
        other = original.sample
        if "shard" not in other:
            out.print(
                f"{word} {other['uid']}\n         {original.likeness} in {original.filter}; not in this pool"
            )
            continue
        by = f" by {other['dropped_by']}" if other["dropped_by"] else ""
        out.print(f"{word} {other['uid']}")
        word = VERDICT_WORDS[other["verdict"]]
        out.print(f"         {original.likeness} in {original.filter}; itself {word}{by}")
        out.print(f"         {safe_text(other['shard'])}, row {other['row']}, key {safe_text(other['key'])}")
        out.print(f"         {safe_text(other['caption'] or '—')}")
    for member in found.clusters:
        cluster = member.cluster
        out.print(
            f"cluster  {cluster['cluster_id']} of {member.filter}: {cluster['samples']:,} samples, "
            f"{cluster['passed']:,} passed, {cluster['kept']:,} kept"
        )


def query_command(store: Store, sql: str | None, ledger: str | None, form: Form, output: Path | None) -> None:
    """Prints the answer to a question; without one, what can be asked."""
    if sql is None:
        schema_command(store, ledger)
        msg = f'give a question, such as "{EXAMPLE_SQL}"'
        raise QueryError(msg)
    show_answer(run_sql(connect(open_decision(store, ledger)), sql), form, output, out)


def schema_command(store: Store, ledger: str | None) -> None:
    """Prints every view and column that can be asked."""
    for view, columns in describe_views(open_decision(store, ledger)).items():
        table = plain_table("column", "meaning", "unit")
        for column in columns:
            table.add_row(*(escape(cell) for cell in column))
        out.print(f"\n[bold]{view}[/]")
        out.print(table)


def export_command(selection: Selection, name: str, target: Target, publication: Publication) -> None:
    """Writes a selection for a target and prints what was written."""
    folder = target.store().folder
    files = export_selection(name, selection, folder, publication)
    more = f" and {len(files) - 1:,} more files" if len(files) > 1 else ""
    where = redact(folder.url)
    out.print(f"{selection.count:,} samples: {where}/{files[0]}{more}", markup=False, soft_wrap=True)


def report_command(store: Store, ledger: str | None, options: Mapping[str, Any]) -> None:
    """Writes the report and prints the summary; options: fsspec options, for the pictures too."""
    decision = open_decision(store, ledger)
    write_report(decision, storage_options=options)
    print_summary(decision, out)


def evaluate_command(
    store: Store,
    ledger: str | None,
    held_out: tuple[tuple[str, ...], str | None],
    settings: Settings,
    options: Mapping[str, Any],
) -> None:
    """Prints what models learn from what was kept; held_out: the patterns of its pool, a vocabulary."""
    from curate.evaluate.comparison import evaluate  # noqa: PLC0415  (torch takes seconds to import)
    from curate.evaluate.held_out import find_held_out  # noqa: PLC0415
    from curate.evaluate.learner import SIDE_PIXELS  # noqa: PLC0415
    from curate.evaluate.table import conditions, evaluation_table  # noqa: PLC0415

    decision = open_decision(store, ledger)
    clean = find_held_out(*held_out, SIDE_PIXELS, options)
    with show_progress(err):
        found = evaluate(decision, clean, settings, options)
    out.print(evaluation_table(found))
    out.print(f"\n{conditions(found)}", style="dim")


def audit_command(
    store: Store, ledger: str | None, budget: int | None, seed: int | None, options: Mapping[str, Any]
) -> None:
    """Draws samples for a person to judge, and says where their page lies and what comes then."""
    decision = open_decision(store, ledger)
    audit = write_audit(
        decision,
        budget=AUDIT_BUDGET if budget is None else budget,
        seed=seed or 0,
        storage_options=options,
    )
    given = (("--budget", budget), ("--seed", seed), ("--decision", ledger))
    words = [f"{name} {shlex.quote(str(value))}" for name, value in given if value is not None]
    print_audit(audit, " ".join(["curate audit", shlex.quote(redact(store.folder.url)), *words]), out)


def audit_score_command(
    store: Store, ledger: str | None, budget: int | None, seed: int | None, answers: Path
) -> None:
    """Prints what the answers to a draw tell of every filter."""
    decision = open_decision(store, ledger)
    print_score(score_audit(decision, answers, budget=budget, seed=seed), out)


def demo_command(folder: Path, samples: int, seed: int) -> None:
    """Makes a pool with planted defects, curates it, and prints what was caught."""
    from curate.demo.pool import write_pool  # noqa: PLC0415  (only the demo draws pictures)
    from curate.demo.table import demo_table  # noqa: PLC0415

    pool, url = folder / "pool", folder / "store"
    err.print(f"drawing {samples} samples with planted defects")
    planted = write_pool(pool, samples=samples, seed=seed)
    recipe = load_recipe("demo")
    store = Store.at(str(url))
    plan = make_plan(recipe, [str(pool / "shards" / "*.tar")], store)
    result = execute(plan, RunOptions())
    decision = open_decision(store, result.ledger)
    path = write_report(decision)
    print_summary(decision, out)
    out.print()
    out.print(demo_table(decision, planted))
    out.print(f'\nreport  {path}\nask     curate query {url} "{EXAMPLE_SQL}"')
