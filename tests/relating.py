"""Runs a comparison without an engine, over parts that a test writes down."""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from filters.core.decide import Step
from filters.core.declaration import Filter
from transforms.deciding import DecideConfig, DecidePart
from transforms.measure import CollectiveMeasure, Measure
from transforms.memory import Memory
from transforms.relating import Relation, Scope, find_relation
from transforms.samples import labels
from transforms.storage import Folder
from transforms.store import Store

# Column -> values; `vectors`, or `image` and `text` -> (n, d) embeddings; `failure` where not None.
Part = Mapping[str, Any]
FOLDERS = {"vectors": "e", "image": "i", "text": "t"}


def scope_of(
    folder: Path | str,
    rule: Filter | CollectiveMeasure,
    parts: Sequence[Part],
    *,
    workers: int = 1,
    before: tuple[Step, ...] = (),
    clip: Measure | None = None,
) -> tuple[Scope, list[DecidePart]]:
    """A store with these parts, and the place of a filter that comes after `before`.

    clip: the measure that made the embeddings, for relations that embed prompts.
    """
    store = Store.at(str(folder))
    found = []
    for number, part in enumerate(parts):
        rows = len(part["uid"])
        arrays = [name for name in ("vectors", "image", "text") if name in part]
        named = {name: values for name, values in part.items() if name not in (*arrays, "failure")}
        columns = {name: values if rows else pa.array([], pa.string()) for name, values in named.items()}
        columns["failure"] = labels(list(part.get("failure", [None] * rows)))
        store.write_part("signals/s", f"p{number}", pa.table(columns), marker={})
        for array in arrays:
            with (
                store.folder.commit(f"embeddings/{FOLDERS[array]}/p{number}.npy") as path,
                path.open("wb") as stream,
            ):
                vectors = np.asarray(part[array], np.float16)
                np.save(stream, vectors if rows else vectors.reshape(0, 0))
        found.append(DecidePart(f"p{number}", number, rows))
    writers = dict.fromkeys({name for part in parts for name in part} | {"failure"}, "signals/s")
    folders = {name: f"embeddings/{_folder(name, parts)}" for name in rule.embeddings()}
    steps = (Step("step", rule),) if isinstance(rule, Filter) else ()
    encoders = {} if clip is None else dict.fromkeys(folders, clip)
    config = DecideConfig(store, writers, steps, "ledger/l", {"step": "relations/r"}, folders, encoders)
    rows = sum(part.rows for part in found)
    return Scope(config, before, "step", rule, "relations/r", rows, workers), found


def _folder(embedding: str, parts: Sequence[Part]) -> str:
    """Where the embeddings of this name lie: by their kind, where a part has both."""
    both = any("image" in part for part in parts)
    return FOLDERS[embedding.rpartition("_")[2]] if both else FOLDERS["vectors"]


def relate(scope: Scope, parts: Sequence[DecidePart], *, seed: int = 0) -> Relation:
    """Runs every stage; the tasks of a stage in any order, each as a worker gets it: pickled."""
    relation = find_relation(scope)
    chance = random.Random(seed)  # noqa: S311  (no secrets here)
    for stage in relation.stages:
        tasks = relation.waiting(stage, parts)
        for task in chance.sample(tasks, len(tasks)):
            worker, sent = pickle.loads(pickle.dumps((relation, task)))  # noqa: S301  (our own bytes)
            worker.perform(stage, sent)
    relation.finish(parts)
    return relation


def compared(
    folder: Path | str,
    rule: Filter | CollectiveMeasure,
    parts: Sequence[Part],
    *,
    workers: int = 1,
    seed: int = 0,
    **more: Any,
) -> list[dict[str, list[Any]]]:
    """The relation columns of each part."""
    scope, decided = scope_of(folder, rule, parts, workers=workers, **more)
    relate(scope, decided, seed=seed)
    return [scope.store.read_part(scope.group, part.part).to_pydict() for part in decided]


def cut(rows: Mapping[str, Any], pieces: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """The rows in pieces, as parts of a pool."""

    def some(values: Any, piece: Sequence[int]) -> Any:
        return (
            values.take(pa.array(piece, pa.int64()))
            if isinstance(values, pa.Array)
            else [values[at] for at in piece]
        )

    return [{name: some(values, piece) for name, values in rows.items()} for piece in pieces]


def after_others(
    folder: Path, rule: Any, rows: Mapping[str, Any], known: Sequence[int], new: Sequence[int]
) -> dict[str, list[Any]]:
    """What a batch of the new rows is found to be, where all known ones were kept in an earlier batch."""
    scope, (first, second) = scope_of(folder, rule, cut(rows, [known, new]))
    width = len(rows["vectors"][0])
    scope.folder.write_array("centroids.npy", np.eye(rule.clusters or 1, width, dtype=np.float32))
    remembering = Folder(f"{folder}/memory")
    clusters = "centroids.npy" if rule.within else None
    relation = find_relation(replace(scope, batch=2, memory=remembering, centroids=clusters))
    readable = np.flatnonzero([rows["failure"][at] is None for at in known])
    records, keys = relation.remembered(first, readable)
    order = np.lexsort((records["uid"][:, 1], records["uid"][:, 0]))
    memory = Memory(remembering)
    memory.begin("these", relation.remembered_keys(), relation.remembered_type)
    memory.add(1, records[order], keys[order])
    relate(relation.scope, [second])
    found: dict[str, list[Any]] = scope.store.read_part(scope.group, second.part).to_pydict()
    return found
