"""What a finished deduplication leaves for shards that come later: its survivors by cluster.

    <state>/state.json            version, embeddings, clusters, and the batches in order
    <state>/centroids.npy         (k, d) float32
    <state>/<batch>.npy           survivors sorted by cluster: uid and embedding
    <state>/<batch>.offsets.npy   where each cluster begins

A later run compares new rows with these, in their stored order, and then with one another; what
was decided before never changes. `state.json` is written last and names every file that counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.core.errors import RecipeError, StoreError
from filters.core.uids import parse_uids
from transforms.exchange import Records, gathered, write_sorted
from transforms.fingerprints import fingerprint
from transforms.storage import Folder, redact
from transforms.store import Store

STATE_VERSION = 1
LOT_ROWS = 1_000_000


@dataclass(frozen=True)
class State:
    """The survivors of earlier runs, at a local path or URL."""

    folder: Folder

    @classmethod
    def at(cls, url: str) -> State:
        """The state at this path or URL; credentials come from the environment."""
        return cls(Folder(url.rstrip("/"), {}))

    @cached_property
    def about(self) -> dict[str, Any]:
        """The content of state.json.

        Raises: RecipeError where there is none, or of another version.
        """
        where = redact(self.folder.url)
        try:
            found = self.folder.read_json("state.json")
        except FileNotFoundError:
            msg = f"{where} holds no state (no state.json): make one with `curate state`"
            raise RecipeError(msg) from None
        version = found.get("curate_state") if isinstance(found, dict) else None
        if version != STATE_VERSION:
            msg = (
                f"{where} is a state of version {version!r}, this Curate reads {STATE_VERSION}: make it anew"
            )
            raise RecipeError(msg)
        return dict(found)

    @property
    def batches(self) -> list[str]:
        """The names of its sorted files, oldest first."""
        return [batch["name"] for batch in self.about["batches"]]

    @cached_property
    def centroids(self) -> NDArray[np.float32]:
        """(k, d) float32."""
        found: NDArray[np.float32] = Store(self.folder).read_array("centroids.npy")
        return found

    @property
    def identity(self) -> str:
        """Names its content."""
        return fingerprint(self.about)

    @contextmanager
    def survivors(self, cluster: int) -> Iterator[Records]:
        """The survivors in one cluster, in their stored order: records of `uid` and `vector`."""
        kind = record_type(int(self.about["width"]))
        with gathered(self.folder, self.batches, kind, cluster, cluster + 1) as (records, _):
            yield records


def record_type(width: int) -> np.dtype[Any]:
    """A survivor: its uid and its float16 embedding as stored."""
    return np.dtype([("uid", "<u8", (2,)), ("vector", "<f2", (width,))])


@dataclass(frozen=True)
class Finished:
    """A decided step whose survivors are to be kept.

    Attributes:
        later: the names of the steps after it: what they dropped had survived this one.
        relation: the group of its relation columns; embeddings: the folder of its embeddings.
    """

    store: Store
    ledger: str
    step: str
    later: Sequence[str]
    relation: str
    embeddings: str
    parts: Sequence[Mapping[str, Any]]

    @property
    def centroids(self) -> str:
        """Where its centroids lie."""
        return f"artefacts/{self.relation.rpartition('/')[2]}-centroids.npy"

    def survivors(self, part: str) -> tuple[Records, NDArray[np.int64]]:
        """The rows of a part that the step kept, and their clusters."""
        decided = self.store.read_part(f"ledger/{self.ledger}", part, ["uid", "verdict", "dropped_by"])
        related = self.store.read_part(self.relation, part, ["cluster_id"])
        clustered = related["cluster_id"].is_valid().to_numpy()
        rows = np.flatnonzero(passed_step(decided, self.later) & clustered)
        stored = self.store.read_array(f"{self.embeddings}/{part}.npy")
        records = np.zeros(len(rows), record_type(stored.shape[1]))
        if len(rows):
            records["uid"] = parse_uids(decided["uid"].combine_chunks().take(pa.array(rows)))
            records["vector"] = stored[rows]
        return records, related["cluster_id"].to_numpy()[rows].astype(np.int64)


def passed_step(decided: pa.Table, later: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows of a ledger a step let through; later: the names of the steps after it.

    decided: `verdict` and `dropped_by`. Returns: (n,) bool.
    """
    blamed = decided["dropped_by"].cast(pa.string())
    after = pc.is_in(blamed, value_set=pa.array(list(later), pa.string()))
    kept = pc.equal(decided["verdict"].cast(pa.string()), "keep")
    passed: NDArray[np.bool_] = pc.or_(kept, pc.fill_null(after, fill_value=False)).to_numpy()
    return passed


def save_state(finished: Finished, target: str) -> dict[str, Any]:
    """Writes the survivors of a decided step as a state, or adds them to the state that is there.

    Returns: the new state.json. Saving one decision twice changes nothing.
    Raises: StoreError where the state there has other centroids or embeddings.
    """
    state = State.at(target)
    centroids = np.array(finished.store.read_array(finished.centroids))
    about = _begun(state, finished, centroids)
    batches = list(about["batches"])
    if any(batch["ledger"] == finished.ledger for batch in batches):
        return about
    for lot in _lots(finished.parts):
        found = [finished.survivors(part) for part in lot]
        found = [(records, clusters) for records, clusters in found if len(records)]
        if not found:
            continue
        name = f"batch-{len(batches):05d}"
        records = np.concatenate([records for records, _ in found])
        clusters = np.concatenate([clusters for _, clusters in found])
        # By uid within a cluster, so that the order of the parts does not show.
        order = np.lexsort((records["uid"][:, 1], records["uid"][:, 0]))
        write_sorted(state.folder, name, records[order], clusters[order], len(centroids))
        batches.append({"name": name, "rows": len(records), "ledger": finished.ledger, "step": finished.step})
    about["batches"] = batches
    state.folder.write_json("state.json", about)
    return about


def _begun(state: State, finished: Finished, centroids: NDArray[np.float32]) -> dict[str, Any]:
    """The content of state.json before this decision is added."""
    about = {
        "curate_state": STATE_VERSION,
        "embeddings": finished.embeddings,
        "clusters": len(centroids),
        "width": centroids.shape[1],
        "batches": [],
    }
    if not state.folder.exists("state.json"):
        state.folder.write_array("centroids.npy", centroids)
        return about
    there = state.about
    same = all(there[name] == about[name] for name in ("embeddings", "clusters", "width"))
    if not same or not np.array_equal(state.centroids, centroids):
        msg = (
            f"the state {redact(state.folder.url)} has other clusters or embeddings than the step "
            f"{finished.step}: name it as the step's `state`, or save to another place"
        )
        raise StoreError(msg)
    return there


def _lots(parts: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Runs of parts of about LOT_ROWS rows together."""
    lot: list[str] = []
    rows = 0
    for part in parts:
        lot.append(part["part"])
        rows += int(part["rows"])
        if rows >= LOT_ROWS:
            yield lot
            lot, rows = [], 0
    if lot:
        yield lot
