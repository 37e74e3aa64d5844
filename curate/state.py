"""Keeps the survivors of a deduplication for shards that come later."""

from __future__ import annotations

from typing import Any

from curate.query import Decision
from filters.core.catalogue import find_filter, nearest
from filters.core.errors import QueryError
from transforms.states import Finished, save_state


def save_survivors(decision: Decision, step: str | None, target: str) -> dict[str, Any]:
    """Saves what a step of this decision kept; returns the content of state.json.

    step: its name; None where the recipe has only one that can go on from a state.
    Raises: QueryError where there is no such step, or several and none is named.
    """
    filters = decision.manifest["recipe"]["filters"]
    able = [item for item in filters if "state" in find_filter(item["filter"]).model_fields]
    names = [item["name"] for item in able]
    if step is None and len(names) == 1:
        step = names[0]
    if step is None or step not in names:
        known = nearest(step or "", names) if names else "it has no drop_near_duplicates"
        msg = f"--step names which filter of {decision.ledger} to save; {known}"
        raise QueryError(msg)
    place = next(number for number, item in enumerate(filters) if item["name"] == step)
    options = find_filter(filters[place]["filter"]).model_validate(
        {name: value for name, value in filters[place].items() if name not in ("name", "filter")}
    )
    (embedding,) = options.embeddings()
    finished = Finished(
        decision.store,
        decision.ledger,
        step,
        [item["name"] for item in filters[place + 1 :]],
        decision.manifest["relations"][step],
        _folder(decision, embedding),
        decision.manifest["parts"],
    )
    return save_state(finished, target)


def _folder(decision: Decision, embedding: str) -> str:
    """The folder of these embeddings, as the manifest records it."""
    measure, _, word = embedding.rpartition("_")
    folder = next(item["embeddings"] for item in decision.manifest["measures"] if item["name"] == measure)
    kind = {"image": "img", "text": "txt"}[word]
    return f"{folder}/{kind}"
