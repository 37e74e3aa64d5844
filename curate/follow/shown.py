"""What `curate status` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from curate.describe import plain_table
from curate.follow.status import read_status
from curate.report.page import VERDICT_WORDS
from transforms.store import Store

out = Console(highlight=False)


def status_command(store: Store, name: str | None, *, as_json: bool) -> None:
    """Prints how a continuous run stands."""
    status = read_status(store, name)
    if as_json:
        out.print(json.dumps(status, indent=1, sort_keys=True), markup=False, soft_wrap=True)
        return
    shards = status["shards"]
    running = "running" if status["running"] else "not running"
    calibration = f"calibration {status['calibration']}" if status["calibration"] else "no calibration"
    out.print(f"[bold]{status['ledger']}[/]  {running}, {status['batches']} batches, {calibration}")
    out.print(f"shards   {shards['done']:,} done, {shards['waiting']:,} waiting, {shards['failed']:,} failed")
    if shards["waiting"]:
        out.print(
            f"lag      {status['lag_seconds']:,.0f} s: {escape(str(status['oldest_waiting']))}",
            soft_wrap=True,
        )
    verdicts = (f"{count:,} {VERDICT_WORDS[verdict]}" for verdict, count in status["verdicts"].items())
    out.print(f"samples  {status['rows']:,}: {', '.join(verdicts) or 'none yet'}")
    for lost in status["failed_shards"]:
        out.print(f"failed   {escape(lost['shard'])}: {lost['code']}", soft_wrap=True)
    _print_windows(status["windows"])
    _print_drift(status["drift"])


def _print_windows(windows: Sequence[Mapping[str, Any]]) -> None:
    if not windows:
        return
    table = plain_table("window", "shards", "samples", "kept", "expected")
    for one in windows:
        low, high = one["interval"] or (None, None)
        expected = "" if low is None else f"{low:.1%} to {high:.1%}"
        cells = (
            str(one["first"]),
            str(one["shards"]),
            f"{one['rows']:,}",
            f"{one['kept_rate']:.1%}",
            expected,
        )
        table.add_row(*cells)
    out.print()
    out.print(table)


def _print_drift(drift: Mapping[str, Any] | None) -> None:
    if drift is None:
        return
    worst = sorted(drift["distances"].items(), key=lambda item: (-item[1], item[0]))[:3]
    if worst:
        out.print(f"\ndrift    {', '.join(f'{name} {value:.2f}' for name, value in worst)}")
    for name, said in sorted(drift["alarms"].items()):
        out.print(f"[bold red]alarm[/]    {escape(name)}: {escape(said)}")
