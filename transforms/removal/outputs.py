"""What decisions handed on: curated tars, subsets and manifests, without the removed samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.core.errors import StoreError
from transforms.deciding import DecidePart, count_stored
from transforms.removal.blanking import copy_tar_without, packed_uids, uid_pairs
from transforms.removal.changes import Change, Scope, deletion
from transforms.removal.marks import true_rows
from transforms.storage import redact
from transforms.subset import remove_from_subset
from transforms.tar import TarEnded

Manifests = Mapping[str, dict[str, Any]]


def decisions(scope: Scope) -> dict[str, dict[str, Any]]:
    """Ledger -> its manifest, for the finished decisions over removed rows."""
    found = {}
    for group in scope.groups("ledger"):
        name = f"{group}/manifest.json"
        if scope.folder.exists(name):
            manifest = scope.folder.read_json(name)
            if any(part["part"] in scope.places for part in manifest["parts"]):
                found[group.removeprefix("ledger/")] = manifest
    return found


def subsets(scope: Scope) -> Iterator[Change]:
    """The subsets, without the uids."""
    pairs = uid_pairs(scope.uids)
    for name in scope.folder.names("subsets"):
        file = f"subsets/{name}"
        if name.endswith(".npy") and _in_subset(scope.store.read_array(file), pairs):
            yield Change((file,), partial(remove_from_subset, scope.folder, file, pairs))


def _in_subset(subset: NDArray[Any], pairs: NDArray[np.uint64]) -> bool:
    """Whether a sorted subset holds one of these uids; looks at few of its entries."""
    if subset.dtype.names is None or len(subset) == 0:
        return False
    wanted = np.zeros(len(pairs), subset.dtype)
    wanted["f0"], wanted["f1"] = pairs[:, 0], pairs[:, 1]
    for one in wanted:
        low, high = 0, len(subset)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if tuple(subset[middle]) < tuple(one) else (low, middle)
        if low < len(subset) and subset[low] == one:
            return True
    return False


def manifests(scope: Scope, found: Manifests) -> Iterator[Change]:
    """The decisions' counts, taken anew from their ledgers."""
    for ledger in found:
        name = f"ledger/{ledger}/manifest.json"
        yield Change((name,), partial(_recount, scope, name))


def _recount(scope: Scope, name: str) -> None:
    """Counts every part: a difference could not be taken twice, as a killed removal might."""
    manifest = scope.folder.read_json(name)
    steps = [item["name"] for item in manifest["recipe"]["filters"]]
    verdicts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    overlap = np.zeros((len(steps), len(steps)), np.int64)
    for part in manifest["parts"]:
        place = DecidePart(part["part"], part["number"], part["rows"])
        counts = count_stored(scope.store, name.removesuffix("/manifest.json"), place, steps)
        part["verdicts"] = counts.verdicts
        verdicts.update(counts.verdicts)
        dropped.update(counts.dropped_by)
        overlap += np.array(counts.overlap, np.int64).reshape(overlap.shape)
    told = {"verdicts": dict(verdicts), "dropped_by": dict(dropped), "overlap": overlap.tolist()}
    scope.folder.write_json(name, {**manifest, **told})


# --- curated shards


def plan_curated(scope: Scope, found: Manifests) -> dict[str, dict[str, Any]]:
    """Folder of curated shards -> the layout it gets, and how many samples each of its tars loses.

    Taken before anything is rewritten, as places in tars follow from the ledger as it was.
    Raises: StoreError where a tar is gone or damaged, or does not hold what its decision says.
    """
    planned = {}
    for ledger, manifest in found.items():
        target = f"curated/{ledger}"
        if not scope.folder.exists(f"{target}/layout.json"):
            continue
        layout = scope.folder.read_json(f"{target}/layout.json")
        lacks: Counter[int] = Counter({int(at): many for at, many in layout.get("removed", {}).items()})
        tars = _tars_of(scope, manifest, layout["samples_per_shard"], lacks)
        for number, many in tars.items():
            _check_tar(scope, f"{target}/{number:08d}", many)
        lacks.update(tars)
        if tars:
            layout["removed"] = {str(at): lacks[at] for at in sorted(lacks)}
            planned[target] = {"layout": layout, "tars": {str(at): tars[at] for at in sorted(tars)}}
    return planned


def _tars_of(scope: Scope, manifest: Mapping[str, Any], size: int, lacks: Mapping[int, int]) -> Counter[int]:
    """Number of a tar -> how many removed samples it holds, by their places among the kept ones."""
    kept_before, ranks = 0, []
    for part in manifest["parts"]:
        if part["part"] in scope.places:
            group = f"ledger/{manifest['ledger']}"
            verdict = scope.store.read_part(group, part["part"], ["verdict"])["verdict"].cast(pa.string())
            kept = true_rows(pc.equal(verdict, "keep"))
            ranks += (kept_before + np.flatnonzero(np.isin(kept, scope.places[part["part"]]))).tolist()
        kept_before += part["verdicts"].get("keep", 0)
    tars = (kept_before + sum(lacks.values())) // size + 1
    ends = np.cumsum([size - lacks.get(at, 0) for at in range(tars)])
    return Counter(np.searchsorted(ends, ranks, side="right").tolist())


def _check_tar(scope: Scope, name: str, many: int) -> None:
    folder = scope.folder
    if not folder.exists(f"{name}.done.json"):
        return  # never finished: the next run writes it, without the samples
    where = f"{redact(folder.url)}/{name}.tar"
    again = f"delete {name}.done.json too, and `curate run` writes it again"
    if not folder.exists(f"{name}.tar"):
        msg = f"{where} holds {many} of the samples to remove, but it is gone: put it back, or {again}"
        raise StoreError(msg)
    try:
        with folder.open(f"{name}.tar") as stream:
            found = sum(uid in scope.uids for uid in packed_uids(stream))
    except TarEnded as cause:
        msg = f"{where} can't be read ({cause}): delete it; {again}"
        raise StoreError(msg) from cause
    if found != many:
        msg = f"{where} holds {found} of the samples to remove, by its decision {many}: delete it; {again}"
        raise StoreError(msg)


def curated(scope: Scope, planned: Mapping[str, Mapping[str, Any]]) -> Iterator[Change]:
    """The tars without the samples, and the layout that says how many each lacks."""
    folder = scope.folder
    for target, plan in planned.items():
        for number in plan["tars"]:
            name = f"{target}/{int(number):08d}"
            if folder.exists(f"{name}.done.json"):
                names = tuple(f"{name}{ending}" for ending in (".tar", "_stats.json", ".done.json"))
                yield Change(names, partial(_rewrite_tar, scope, name))
            elif folder.exists(f"{name}.tar"):
                yield deletion(folder, [f"{name}.tar"])
        layout = f"{target}/layout.json"
        yield Change((layout,), partial(folder.write_json, layout, plan["layout"]))


def _rewrite_tar(scope: Scope, name: str) -> None:
    folder = scope.folder
    with folder.open(f"{name}.tar") as source, folder.commit(f"{name}.tar") as path:
        with path.open("wb") as target:
            left = copy_tar_without(source, target, scope.uids)
        size = path.stat().st_size
    stats = folder.read_json(f"{name}_stats.json")
    folder.write_json(f"{name}_stats.json", {**stats, "count": left, "successes": left})
    folder.write_json(f"{name}.done.json", {"rows": left, "bytes": size})
