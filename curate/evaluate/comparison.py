"""What a decision is worth to a model: one trained on what it keeps, beside others of the same budget.

    kept      what the decision keeps
    random    as many samples, drawn from the pool by uid and seed
    pool      every sample that could be read

Each set is trained on once for each seed; every model sees the same number of samples, those of
small sets more often. A training that was done is not done again: its scores lie in
`evaluate/trainings/` of the store under a fingerprint of everything that they depend on.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import open_clip
import torch
import xxhash
from numpy.typing import NDArray

from curate.evaluate.data import Pair, Pairs, Places, PoolRows, read_rows, readable_rows
from curate.evaluate.held_out import HeldOut
from curate.evaluate.learner import SIDE_PIXELS, learner_config, schedule_of, trained_scores
from curate.evaluate.settings import BATCH, Settings
from curate.query import Decision
from filters.core.errors import QueryError
from filters.core.uids import format_uids
from transforms.fingerprints import fingerprint
from transforms.progress import advance, begin

VERSION = 1  # of what a training does
TELL_EVERY = 10  # steps


def evaluate(
    decision: Decision, held_out: HeldOut, settings: Settings, storage: Mapping[str, Any]
) -> dict[str, Any]:
    """Trains, and writes what came of it to `evaluate/<ledger>.json` of the store; returns its content.

    storage: fsspec options of the pool.
    Raises: QueryError where a set is smaller than a batch, or held-out samples are in the pool;
    PoolError where the pool can't be read any more.
    """
    rows = readable_rows(decision)
    _check_sizes(decision, rows)
    _check_apart(rows, held_out)
    drawn = _draw(rows, settings)
    about = _shared(decision, held_out, settings)
    files = {name: _training(about, name[1], rows.uids[places]) for name, places in drawn.items()}
    folder = decision.store.folder
    missing = {file: name for name, file in files.items() if not folder.exists(file)}
    samples: dict[int, Pair] = {}
    if missing:
        wanted = np.unique(np.concatenate([drawn[name] for name in missing.values()]))
        samples = read_rows(decision, rows, wanted, SIDE_PIXELS, storage)
    steps = schedule_of(settings.budget).steps
    begin("train", len(missing) * steps)
    for file, name in missing.items():
        pairs = Pairs.of(samples[place] for place in drawn[name].tolist())
        found = trained_scores(pairs, held_out, settings.budget, name[1], _tell)
        advance("train", steps % TELL_EVERY)
        folder.write_json(file, found)
    trained = {name: folder.read_json(file) for name, file in files.items()}
    content = _content(decision, rows, held_out, settings, trained)
    folder.write_json(f"evaluate/{decision.ledger}.json", content)
    return content


def _content(
    decision: Decision,
    rows: PoolRows,
    held_out: HeldOut,
    settings: Settings,
    trained: Mapping[tuple[str, int], Mapping[str, float]],
) -> dict[str, Any]:
    kept = int(rows.kept.sum())
    sets = {}
    for name in ("kept", *settings.against):
        found = [trained[name, seed] for seed in range(settings.seeds)]
        scores = {metric: [one[metric] for one in found] for metric in found[0]}
        sets[name] = {"samples": len(rows.kept) if name == "pool" else kept, "scores": scores}
    return {
        "ledger": decision.ledger,
        "budget": schedule_of(settings.budget).steps * BATCH,
        "held_out": {
            "pairs": len(held_out.pairs),
            "with_class": held_out.labelled,
            "classes": len(held_out.prompts),
        },
        "sets": sets,
    }


def _tell(step: int, _: float) -> None:
    if (step + 1) % TELL_EVERY == 0:
        advance("train", TELL_EVERY, samples=TELL_EVERY * BATCH)


def _check_sizes(decision: Decision, rows: PoolRows) -> None:
    kept = int(rows.kept.sum())
    if kept < BATCH:
        msg = f"{decision.ledger} keeps {kept:,} samples: a training takes at least a batch of {BATCH}"
        raise QueryError(msg)


def _check_apart(rows: PoolRows, held_out: HeldOut) -> None:
    shared = set(held_out.pairs.uids) & set(format_uids(rows.uids))
    if shared:
        msg = (
            f"{len(shared):,} held-out samples are in the pool, such as {min(shared)}: "
            "give --eval-pool shards that the pool does not hold"
        )
        raise QueryError(msg)


def _draw(rows: PoolRows, settings: Settings) -> dict[tuple[str, int], Places]:
    """Set and seed -> places in the pool; of a set larger than the budget, as many as are seen."""
    everything = np.ones(len(rows.kept), np.bool_)
    kept = int(rows.kept.sum())
    found: dict[tuple[str, int], Places] = {}
    for name, seed in product(("kept", *settings.against), range(settings.seeds)):
        among, most = {
            "kept": (rows.kept, settings.budget),
            "random": (everything, min(kept, settings.budget)),
            "pool": (everything, settings.budget),
        }[name]
        found[name, seed] = rows.draw(among, most, seed)
    return found


def _shared(decision: Decision, held_out: HeldOut, settings: Settings) -> list[object]:
    """What every training depends on."""
    parts = [part["part"] for part in decision.manifest["parts"]]
    libraries = [torch.__version__, open_clip.__version__]
    schedule = repr(schedule_of(settings.budget))
    return [VERSION, libraries, learner_config(), schedule, held_out.fingerprint, parts]


def _training(about: list[object], seed: int, uids: NDArray[np.uint64]) -> str:
    """The file of a training's scores."""
    order = np.lexsort((uids[:, 1], uids[:, 0]))
    samples = xxhash.xxh3_64_hexdigest(uids[order].tobytes())
    return f"evaluate/trainings/{fingerprint([*about, seed, samples])}.json"
