"""The summary of a decision for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curate.explain import stored_steps
from curate.query import Decision, connect
from curate.report.counts import failures, signal_schema, waterfall
from curate.report.losses import find_losses
from curate.report.page import VERDICT_WORDS, report_name
from curate.report.wording import MAX_NAME, clean_text, count_words, cut_text, share_words
from transforms.storage import redact

MOST_SHARDS = 5
MOST_WARNINGS = 10
_COLOURS = {"keep": "green", "drop": "red", "quarantine": "yellow", "failed": "magenta"}


def print_summary(decision: Decision, console: Console) -> None:
    """Prints what was kept and why not more, what failed, and where the outputs lie."""
    manifest = decision.manifest
    rows = manifest["rows"]
    console.print(f"[bold]{escape(decision.ledger)}[/]  {count_words(rows)} samples read", highlight=False)
    said = []
    for verdict, word in VERDICT_WORDS.items():
        count = manifest["verdicts"].get(verdict, 0)
        if count or verdict in ("keep", "drop"):
            said.append(f"[{_COLOURS[verdict]}]{word} {count_words(count)}[/] ({share_words(count, rows)})")
    console.print(", ".join(said), highlight=False)
    connection = connect(decision)
    if manifest["recipe"]["filters"]:
        schema = signal_schema(connection)
        console.print()
        console.print(_falls(decision, dict(zip(schema.names, schema.types, strict=True))))
    found = failures(connection)
    if found:
        table = _table("failure", "meaning", "times")
        for failure in found:
            table.add_row(escape(failure.code), escape(failure.meaning), count_words(failure.rows))
        console.print()
        console.print(table)
    _print_warnings(find_losses(decision, connection).warnings(), console)
    _print_lost(decision, console)
    _print_outputs(decision, console)


def _falls(decision: Decision, types: dict[str, pa.DataType]) -> Table:
    rows = decision.manifest["rows"]
    table = _table("filter", "bound", "stopped", "remaining", "of all")
    for fall in waterfall(decision, stored_steps(decision.manifest), types):
        table.add_row(
            escape(fall.filter),
            escape(cut_text(fall.bound, MAX_NAME)),
            count_words(fall.stopped),
            count_words(fall.remaining),
            share_words(fall.remaining, rows),
        )
    return table


def _print_warnings(warnings: Sequence[str], console: Console) -> None:
    """Which filters remove much of a rare concept; names of concepts are other people's text."""
    if not warnings:
        return
    console.print("\n[bold]filters that remove much of a rare concept[/]", highlight=False)
    for line in warnings[:MOST_WARNINGS]:
        console.print(f"  [red]{escape(clean_text(line))}[/]", highlight=False)
    if len(warnings) > MOST_WARNINGS:
        console.print(f"  … and {count_words(len(warnings) - MOST_WARNINGS)} more", highlight=False)


def _print_lost(decision: Decision, console: Console) -> None:
    lost = decision.manifest["failed_shards"]
    if not lost:
        return
    noun = "shard" if len(lost) == 1 else "shards"
    console.print(f"\n[bold]{count_words(len(lost))} {noun} could not be read[/]", highlight=False)
    for item in lost[:MOST_SHARDS]:
        shard = escape(clean_text(redact(item["shard"])))
        console.print(f"  {shard}  {escape(item['code'])}", highlight=False, soft_wrap=True)
    if len(lost) > MOST_SHARDS:
        console.print(f"  … and {count_words(len(lost) - MOST_SHARDS)} more", highlight=False)


def _print_outputs(decision: Decision, console: Console) -> None:
    """One line for each output that is there; lines are never folded, so that paths can be copied."""
    folder, ledger = decision.store.folder, decision.ledger
    root = redact(folder.url)
    outputs = [("ledger", f"ledger/{ledger}", f"ledger/{ledger}/manifest.json")]
    if any(name.endswith(".tar") for name in folder.names(f"curated/{ledger}")):
        outputs.append(("shards", f"curated/{ledger}", ""))
    outputs.append(("subset", f"subsets/{ledger}.npy", f"subsets/{ledger}.npy"))
    outputs.append(("report", report_name(decision), report_name(decision)))
    console.print()
    for word, name, probe in outputs:
        if not probe or folder.exists(probe):
            console.print(f"{word}  {escape(root)}/{escape(name)}", highlight=False, soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        number = column in ("stopped", "remaining", "of all", "times")
        fixed = number or column == "failure"
        table.add_column(column, justify="right" if number else "left", no_wrap=fixed, overflow="fold")
    return table
