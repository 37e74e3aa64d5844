"""Commands that hand a store on, add to it, or take out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.app import (
    EmbeddingOption,
    LedgerOption,
    OptionsOption,
    StoreArgument,
    WhereOption,
    app,
    store_at,
)
from curate.target import Target

PANEL = "Keeping"


@app.command(rich_help_panel=PANEL)
def index(
    store: StoreArgument,
    embedding: EmbeddingOption = None,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Make the index that `search` uses: of one kind of embeddings, or of all that the decision has."""
    from curate.search.commands import index_command  # noqa: PLC0415

    index_command(store_at(store, storage_options), embedding, decision)


@app.command(rich_help_panel=PANEL)
def export(  # noqa: PLR0913, PLR0917  (a command's options)
    store: StoreArgument,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A new folder or URL to write to.")],
    to: Annotated[
        str, typer.Option("--to", help="What for: datacomp, clip-retrieval, huggingface or croissant.")
    ],
    where: WhereOption = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Of the data set, as you state it; for its card.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Where the data set is or will be; for Croissant.")
    ] = None,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Hand the kept samples, or those that meet a condition, on to other tools."""
    from curate.commands import export_command  # noqa: PLC0415
    from curate.exporting import Publication, Selection  # noqa: PLC0415
    from curate.query import open_decision  # noqa: PLC0415

    selection = Selection(open_decision(store_at(store, storage_options), decision), where)
    export_command(selection, to, Target(folder), Publication(licence, url))


@app.command(rich_help_panel=PANEL)
def state(
    store: StoreArgument,
    target: Annotated[str, typer.Argument(metavar="STATE", help="Folder or URL to save to, or to add to.")],
    step: Annotated[
        str | None, typer.Option("--step", help="Which filter's survivors; needed where there are several.")
    ] = None,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Save what a deduplication kept, so that later shards are compared with it."""
    from curate.commands import state_command  # noqa: PLC0415

    state_command(store_at(store, storage_options), target, step, decision)


@app.command(rich_help_panel=PANEL)
def remove(  # noqa: PLR0913, PLR0917  (a command's options)
    store: StoreArgument,
    uid: Annotated[
        list[str] | None, typer.Option("--uid", help="A sample's uid, 32 hex digits; repeatable.")
    ] = None,
    url: Annotated[
        list[str] | None, typer.Option("--url", help="Where an image was crawled, as stored; repeatable.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option("--like", help="An image file: all that look like it, or are equal to it.")
    ] = None,
    near_duplicates: Annotated[  # noqa: FBT002
        bool, typer.Option("--near-duplicates", help="Also what decisions found to be copies of them.")
    ] = False,
    by: Annotated[str | None, typer.Option("--by", help="Who answers for it; kept in the record.")] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why, without repeating what is removed; kept too.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; change nothing.")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,  # noqa: FBT002
    storage_options: OptionsOption = None,
) -> None:
    """Take samples out of the store for good, with a signed record; they stay out when read again."""
    from curate.remove.command import Signed, remove_command  # noqa: PLC0415
    from curate.remove.find import Asked  # noqa: PLC0415
    from curate.search.pictures import read_image  # noqa: PLC0415

    image = None if like is None else read_image(like)
    asked = Asked(tuple(uid or ()), tuple(url or ()), image, near_duplicates)
    remove_command(store_at(store, storage_options), asked, Signed(by, reason, yes, dry_run))
