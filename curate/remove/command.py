"""What `curate remove` does and says, once its options are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer

from curate.answers import safe_text
from curate.commands import err, out
from curate.remove.find import Asked, Found, find_samples
from curate.report.wording import cut_text
from filters.core.errors import QueryError
from transforms.removal import Removal, finish_removals, remove
from transforms.removal.changes import groups_with
from transforms.removal.perform import records
from transforms.samples import SCHEMA
from transforms.storage import redact
from transforms.store import Store

SHOWN = 20
_CAPTION, _NAME = 100, 60
# What a removal deletes, by its folder, and the command that makes it again.
_AGAIN = {"report": "curate report", "index": "curate index", "audit": "curate audit"}


@dataclass(frozen=True)
class Signed:
    """Who removes, why, and how sure they are.

    Attributes:
        yes: no question is asked; dry_run: nothing is removed.
    """

    by: str | None = None
    reason: str | None = None
    yes: bool = False
    dry_run: bool = False


def remove_command(store: Store, asked: Asked, signed: Signed) -> None:
    """Shows what goes, asks, removes it, and says what was done.

    Raises: QueryError where nobody signs or agrees, or what is asked for is unknown; StoreError.
    """
    store.check()
    if signed.dry_run:
        _say_pending(store)
        _show(store, find_samples(store, asked))
        err.print("nothing was removed: this was a dry run", style="dim")
        return
    by, reason = (signed.by or "").strip(), (signed.reason or "").strip()
    if not by or not reason:
        msg = "a removal is signed: give --by NAME and --reason TEXT, or --dry-run to look only"
        raise QueryError(msg)
    with store.lock():
        for name in finish_removals(store):
            err.print(f"finished {name}, which was interrupted", markup=False)
        found = find_samples(store, asked)
        _show(store, found)
        if not found.why:
            return
        if not signed.yes:
            _ask(store, len(found.why))
        named = {kind: sorted(values) for kind, values in found.named.items()}
        name, record = remove(store, Removal(by, reason, found.places, named, found.counts))
    _say_done(store, name, record)


def _ask(store: Store, count: int) -> None:
    try:
        agreed = typer.confirm(
            f"Remove {count:,} samples from {redact(store.folder.url)} for good?", err=True
        )
    except typer.Abort as cause:
        msg = "nobody to ask: give --yes; nothing was removed"
        raise QueryError(msg) from cause
    if not agreed:
        msg = "not agreed: nothing was removed"
        raise QueryError(msg)


def _say_pending(store: Store) -> None:
    for name, record in records(store).items():
        if record["state"] != "done":
            err.print(f"{name} was interrupted: the next command that writes finishes it", markup=False)


def _show(store: Store, found: Found) -> None:
    """The first of the samples, and how many there are for which reason."""
    for note in found.notes:
        err.print(f"note: {note}", style="yellow", markup=False)
    if not found.why:
        out.print("nothing to remove")
        return
    for sample in _samples(store, found):
        key, caption = cut_text(sample["key"], _NAME), cut_text(sample["caption"] or "—", _CAPTION)
        out.print(f"[bold]{sample['uid']}[/]  {sample['why']}")
        out.print(f"  {safe_text(key)}, {safe_text(sample['shard'])}, row {sample['row']}", soft_wrap=True)
        out.print(f"  {safe_text(caption)}", soft_wrap=True)
    if len(found.why) > SHOWN:
        out.print(f"… and {len(found.why) - SHOWN:,} more")
    reasons = ", ".join(f"{why} {many:,}" for why, many in found.counts.items())
    out.print(f"{len(found.why):,} samples: {reasons}")


def _samples(store: Store, found: Found) -> list[dict[str, Any]]:
    """The first samples as a samples table has them."""
    shown = sorted(found.why)[:SHOWN]
    known: dict[tuple[str, int], dict[str, Any]] = {}
    for group in groups_with(store.folder, SCHEMA.names):
        for part in sorted({part for part, _ in shown}):
            if store.done(group, part) is None:
                continue
            rows = [row for there, row in shown if there == part]
            names = ["uid", "key", "caption", "shard", "row"]
            for row, sample in zip(
                rows, store.read_part(group, part, names).take(rows).to_pylist(), strict=True
            ):
                known.setdefault((part, row), {**sample, "why": found.why[part, row]})
    return [known[place] for place in shown if place in known]


def _say_done(store: Store, name: str, record: Mapping[str, Any]) -> None:
    files = record["files"]
    deleted = [file for file, told in files.items() if told["after"] is None]
    rows = sum(map(len, record["places"].values()))
    where = redact(store.folder.url)
    out.print(
        f"\nremoved {rows:,} samples: {len(files) - len(deleted):,} files rewritten, {len(deleted):,} deleted"
    )
    out.print(f"record  {where}/{name}", markup=False, soft_wrap=True)
    for folder, command in _AGAIN.items():
        if any(file.startswith(f"{folder}/") for file in deleted):
            out.print(f"again   {command} {where}", markup=False, soft_wrap=True)
    err.print(
        "the pool itself, exports, saved states and copies of this store elsewhere still hold them",
        style="yellow",
    )
