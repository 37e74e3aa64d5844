"""What `curate index` and `curate search` do, once their options are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from curate.answers import Form, show_answer
from curate.commands import err, out
from curate.encoder_of import find_embedding, stored_embeddings
from curate.query import open_decision
from curate.search.engine import SearchEngine
from curate.search.index import build_index, index_folder
from curate.search.pictures import read_image
from filters.core.errors import QueryError
from transforms.store import Store


@dataclass(frozen=True)
class Question:
    """What to search for: one of a text, the file of an image, the uid of a sample; and how.

    Attributes:
        k: how many; where: SQL condition over `samples`; embedding: None for the first.
    """

    text: str | None = None
    image: Path | None = None
    like: str | None = None
    k: int = 50
    where: str | None = None
    embedding: str | None = None


def index_command(store: Store, embedding: str | None, ledger: str | None) -> None:
    """Makes the indexes of a decision, of one kind of embeddings or of all, and prints what they are."""
    decision = open_decision(store, ledger)
    chosen = [find_embedding(decision, embedding)]
    if embedding is None:
        chosen = list(stored_embeddings(decision).values())
    with store.lock():
        for one in chosen:
            made = build_index(decision, one, lambda text: err.print(text, markup=False))
            rows = f"{made['embedded']:,} of {made['rows']:,} rows, {made['width']} numbers each"
            said = "exact: reads the embeddings where they lie"
            if made["kind"] == "ivf":
                recalls = " and ".join(f"{value:.3f} for {name}" for name, value in made["recall"].items())
                said = f"{made['lists']:,} lists, {made['probed']} looked at; recall at 10 {recalls}"
            out.print(f"{one.name}  {rows}; {said}\n  {index_folder(one)}", soft_wrap=True)


def search_command(
    store: Store, question: Question, ledger: str | None, form: Form, output: Path | None
) -> None:
    """Prints the samples nearest to a text, an image or a sample."""
    engine = SearchEngine(open_decision(store, ledger), question.embedding)
    found = _search(engine, question)
    for note in engine.notes:
        err.print(f"note: {note}", style="yellow", markup=False)
    show_answer(found, form, output, out)


def _search(engine: SearchEngine, question: Question) -> pa.Table:
    given = [one for one in (question.text, question.image, question.like) if one is not None]
    if len(given) != 1:
        msg = 'search for one thing: a text such as "a red car in the snow", --image FILE, or --like UID'
        raise QueryError(msg)
    if question.text is not None:
        return engine.by_text(question.text, question.k, question.where)
    if question.like is not None:
        return engine.like(question.like, question.k, question.where)
    return engine.by_image(read_image(question.image or Path()), question.k, question.where)
