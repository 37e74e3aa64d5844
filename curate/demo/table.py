"""What the demo planted and what the recipe caught, defect by defect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rich.table import Table

from curate.demo.pool import Planted
from curate.query import Decision, connect, run_sql
from filters.core.catalogue import filter_names

CLEAN = "clean"


@dataclass
class Caught:
    """One kind of defect.

    Attributes:
        planted: samples that have it.
        caught: those that were dropped, quarantined or failed; of clean samples: wrongly so.
        by: filter or failure code -> samples that it caught.
        expected: the filter or code that is there to catch it.
    """

    planted: int = 0
    caught: int = 0
    by: Counter[str] = field(default_factory=Counter)
    expected: str = ""


def count_caught(decision: Decision, planted: Iterable[Planted]) -> dict[str, Caught]:
    """What became of the planted samples, by defect, in the order of their first sample.

    Of a pair of copies either may be the one that stays (the smaller uid does): dropping the
    original as the duplicate catches the copy just as well, and is no wrong drop.
    """
    truths = list(planted)
    reasons = _reasons(decision, truths)
    swapped = _swapped_pairs(truths, reasons)
    found: dict[str, Caught] = {}
    for truth in truths:
        entry = found.setdefault(truth.defect, Caught())
        entry.planted += 1
        entry.expected = truth.expected_code
        reason = None if truth in swapped.values() else reasons[truth]
        if truth in swapped:
            reason = reasons[swapped[truth]]
        if reason is not None:
            entry.caught += 1
            entry.by[reason] += 1
    return found


def _reasons(decision: Decision, truths: Iterable[Planted]) -> dict[Planted, str | None]:
    """What stopped each sample; of a sample that is no row, what stopped its shard there."""
    verdicts = _verdicts(decision)
    shards = _failed_shards(decision)
    return {
        truth: shards.get(truth.shard) if truth.row < 0 else verdicts[truth.shard, truth.row]
        for truth in truths
    }


def _swapped_pairs(
    truths: Iterable[Planted], reasons: Mapping[Planted, str | None]
) -> dict[Planted, Planted]:
    """Copy -> its original, where the original was dropped as the duplicate of the two."""
    by_key = {truth.key: truth for truth in truths if truth.defect == CLEAN}
    return {
        truth: by_key[truth.original_key]
        for truth in truths
        if truth.original_key in by_key
        and truth.expected == "drop"
        and reasons[truth] is None
        and reasons[by_key[truth.original_key]] == truth.expected_code
    }


def demo_table(decision: Decision, planted: Iterable[Planted]) -> Table:
    """The table that `curate demo` prints."""
    found = count_caught(decision, planted)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("defect", "planted", "caught", "missed", "wrongly\ndropped"):
        table.add_column(name, justify="left" if name == "defect" else "right", no_wrap=name == "defect")
    table.add_column("by")
    unbuilt = set()
    for defect, entry in sorted(found.items(), key=lambda item: (item[0] == CLEAN, item[0])):
        by = ", ".join(f"{name} {count}" for name, count in entry.by.most_common(2))
        if defect == CLEAN:
            table.add_row(defect, str(entry.planted), "", "", str(entry.caught), by, style="green")
            continue
        missed = entry.planted - entry.caught
        mark = ""
        if missed and entry.expected not in (*filter_names(), *entry.by):
            unbuilt.add(entry.expected)
            mark = "*"
        shown = f"{missed}{mark}" if missed else ""
        style = "yellow" if missed else ""
        table.add_row(defect, str(entry.planted), str(entry.caught), shown, "", by, style=style)
    if unbuilt:
        table.caption = f"* would take {', '.join(sorted(unbuilt))}, which is not built yet"
        table.caption_justify = "left"
    return table


def _verdicts(decision: Decision) -> Mapping[tuple[str, int], str | None]:
    """(shard file, row) -> the filter or failure that stopped the sample, None for a kept one."""
    sql = "SELECT shard, row, coalesce(failure, dropped_by) AS reason FROM samples"
    rows = run_sql(connect(decision), sql).to_pylist()
    return {(str(row["shard"]).rpartition("/")[2], row["row"]): row["reason"] for row in rows}


def _failed_shards(decision: Decision) -> Mapping[str, str]:
    """Shard file -> the failure of the shard itself."""
    rows = run_sql(connect(decision), "SELECT shard, code FROM failures WHERE row IS NULL").to_pylist()
    return {str(row["shard"]).rpartition("/")[2]: row["code"] for row in rows}
