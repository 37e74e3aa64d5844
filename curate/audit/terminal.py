"""What an audit prints."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curate.audit.draw import LEAST
from curate.audit.estimate import CONFIDENCE, Estimate
from curate.audit.page import Audit
from curate.audit.result import AuditResult
from curate.audit.score import Score
from curate.report.page import VERDICT_WORDS
from curate.report.wording import count_words

NOTHING = "too few answers"


def print_audit(audit: Audit, command: str, console: Console) -> None:
    """Prints what was drawn, where the page lies, and how to go on; command: without `--answers`."""
    rows = sum(stratum.rows for stratum in audit.strata)
    drawn = sum(stratum.drawn for stratum in audit.strata)
    console.print(f"[bold]{count_words(drawn)} of {count_words(rows)} samples drawn[/]\n")
    table = _table("stratum", "samples", "drawn", "probability")
    for one in sorted(audit.strata, key=lambda one: one.name):
        table.add_row(
            escape(one.name), count_words(one.rows), count_words(one.drawn), f"{one.probability:.3g}"
        )
    console.print(table)
    thin = [one for one in audit.strata if one.drawn == LEAST < one.rows]
    if thin:
        console.print(
            f"\n{count_words(len(thin))} strata have {LEAST} draws only: a larger --budget tells more",
            style="dim",
        )
    if audit.unreadable:
        console.print(
            f"\n{count_words(audit.unreadable)} pictures can't be read any more: their shards are gone, have "
            "changed, or need --storage-options; nobody can judge these samples",
            style="yellow",
        )
    console.print(f"\nopen  {escape(audit.where)}/index.html", soft_wrap=True)
    console.print(
        "      in a browser: J matches, F does not match, K can't tell, U undo; save the answers",
        soft_wrap=True,
    )
    console.print(f"then  {escape(command)} --answers {escape(audit.answers)}", soft_wrap=True)


def print_score(score: Score, console: Console) -> None:
    """Prints each filter's precision and what it missed, the whole, and where it lies."""
    result = score.result
    unanswered = result.drawn - result.answered
    console.print(
        f"[bold]{count_words(result.answered)} of {count_words(result.drawn)} drawn samples answered[/]"
        + (
            f", {count_words(unanswered)} not: taken to be like the others of their stratum"
            * bool(unanswered)
        )
    )
    if result.groups:
        table = _table("filter", "stopped", "answered", "precision", "miss rate")
        for one in result.groups:
            how = "" if one.verdict == "drop" else f", {VERDICT_WORDS[one.verdict]}"
            table.add_row(
                escape(one.dropped_by) + how,
                count_words(one.rows),
                count_words(one.answered),
                estimate_words(one.precision),
                estimate_words(one.missed),
            )
        console.print()
        console.print(table)
    console.print()
    console.print(_whole(result))
    if result.left_out:
        console.print(
            f"\n{count_words(result.left_out)} samples are of kinds without any answer, and left out of "
            "numbers over several kinds",
            style="yellow",
        )
    console.print(
        "\nbad: the caption does not describe the image; precision: the share of what a filter stopped that "
        "is bad, which a filter for something else, such as size or copies, need not have; miss rate: the "
        "share of what passed it that is bad; in brackets: between which shares the true one lies, with "
        f"{CONFIDENCE:.0%} confidence",
        style="dim",
    )
    where = escape(score.where)
    console.print(f"\nresult    {where}/result.json", soft_wrap=True)
    console.print(f"for fuse  audited: {where}/audited.csv", soft_wrap=True)
    console.print("          the same answers with their probabilities, which fuse evens out", soft_wrap=True)


def estimate_words(found: Estimate | None) -> str:
    """12.3 % (8.1, 17.0), or that there are too few answers."""
    if found is None:
        return NOTHING
    return f"{100 * found.share:.1f} % ({100 * found.low:.1f}, {100 * found.high:.1f})"


def _whole(result: AuditResult) -> Table:
    table = _table("of all", "the share that is", "")
    for whole, part, found in (
        ("kept samples", "bad (the recipe's miss rate)", result.kept_bad),
        ("stopped samples", "bad", result.stopped_bad),
        ("samples", "bad", result.pool_bad),
        ("bad samples", "stopped", result.bad_stopped),
        ("good samples", "stopped, so lost", result.good_lost),
    ):
        table.add_row(whole, part, estimate_words(found))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        number = column in ("samples", "drawn", "probability", "stopped", "answered")
        estimate = column in ("precision", "miss rate", "")
        table.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=estimate)
    return table
