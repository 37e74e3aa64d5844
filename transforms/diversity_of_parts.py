"""How diverse a decision's kept samples are, beside the pool and a random draw of as many.

The measures are those of `transforms.noise.diversity`, which compare at equal n only. So all come
from the rows with the smallest uid hashes: of the pool, of the kept ones, and, as a control, as many
rows of the pool as of the kept ones. Where the kept ones are few, several controls are drawn, whose
range says which differences are chance.

Rows are summed in the order of their hash, so the results depend neither on shards nor on workers;
another BLAS may differ in the last bits, and so four decimals are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.core.errors import StoreError
from filters.core.uids import parse_uids, uid_fraction
from transforms.comparing import split_lots
from transforms.deciding import DecideConfig, DecidePart, flat
from transforms.exchange import Records
from transforms.fingerprints import fingerprint
from transforms.noise.diversity import Gram, gram, rank_me, vendi
from transforms.relating import Relation, Scope, Task
from transforms.sampling import SPARE, SPARE_ROWS

LOTS = 64
CONTROLS = 5
# From about so many rows on RankMe hardly moves (Garrido et al. 2023): one control does.
STABLE_ROWS = 25_600
# No filter's default seed, or a filter that keeps a random share would keep the control.
_SEED = 0x5EED_D1CE


@dataclass(frozen=True)
class DiversityOptions:
    """What is drawn.

    Attributes:
        at_most: rows of the pool, and of the kept ones, that are drawn.
        readable: rows of the pool that can be read; kept: those of them that are kept.
    """

    at_most: int
    readable: int
    kept: int


class Diversity(Relation):
    """Draws rows part by part, and measures the draw; a comparison that writes no columns."""

    stages: ClassVar[tuple[str, ...]] = ("draw",)

    @classmethod
    def group(cls, ledger: str, at_most: int) -> str:
        """The folder of the store where the results of a decision lie, in `summary.json`."""
        return f"report/{ledger}/diversity-{fingerprint([cls.version, at_most])[:8]}"

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:  # noqa: ARG002
        return split_lots(parts, min(len(parts), max(LOTS, self.scope.workers)))

    def run(self, stage: str, task: Task) -> None:  # noqa: ARG002
        for name in self.scope.config.embeddings:
            drawn = [self._draw(part, name) for part in task.parts]
            found = [records for records in drawn if len(records)] or drawn[:1]
            self.save(f"{name}/{task.number}", _joined(name, found))

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:
        """For each embedding its width and, of pool, control and kept: rows, RankMe and Vendi."""
        lots = [task.number for task in self.tasks("draw", parts)]
        return {
            "at_most": self.rule.at_most,
            "embeddings": {name: self._measured(name, lots) for name in self.scope.config.embeddings},
        }

    def _share(self, rows: int) -> float:
        """Below which hash to draw: a little more than needed, so that cutting gives the exact number."""
        wanted: int = self.rule.at_most
        return max(wanted * SPARE, wanted + SPARE_ROWS) / max(1, rows)

    def _draw(self, part: DecidePart, name: str) -> Records:
        """The part's rows with small hashes that have this embedding."""
        table = self.scope.store.read_part(self.scope.config.ledger, part.part, ["uid", "verdict"])
        verdict = flat(table["verdict"])
        rows = np.flatnonzero(pc.not_equal(verdict, "failed").to_numpy(zero_copy_only=False))
        uids = parse_uids(flat(table["uid"]).take(rows))
        kept = pc.equal(verdict, "keep").to_numpy(zero_copy_only=False)[rows]
        hashed = uid_fraction(uids, _SEED)
        wanted = (hashed < self._share(self.rule.readable)) | (kept & (hashed < self._share(self.rule.kept)))
        alive = np.zeros(part.rows, np.bool_)
        alive[rows[wanted]] = True
        usable, vectors, _ = self.scope.usable(part, name, alive)
        drawn = np.searchsorted(rows, usable)
        records = np.zeros(len(usable), _dtype(vectors.shape[1]))
        records["hash"], records["uid"], records["kept"] = hashed[drawn], uids[drawn], kept[drawn]
        records["vector"] = vectors
        return records

    def _measured(self, name: str, lots: Sequence[int]) -> dict[str, Any]:
        loaded = [np.asarray(self.load(f"{name}/{lot}")) for lot in lots]
        records = _joined(name, [found for found in loaded if len(found)] or loaded[:1])
        at_most: int = self.rule.at_most
        records = records[np.lexsort((records["uid"][:, 1], records["uid"][:, 0], records["hash"]))]
        pool = records[records["hash"] < self._share(self.rule.readable)][:at_most]
        kept = records[records["kept"]][: min(at_most, len(pool))]
        controls = _controls(pool, len(kept))
        return {
            "width": records["vector"].shape[1],
            "pool": _values([gram(pool["vector"])]),
            "control": _values([gram(control["vector"]) for control in controls]),
            "kept": _values([gram(kept["vector"])]),
        }


def diversity_scope(
    config: DecideConfig, options: DiversityOptions, parts: Sequence[DecidePart], workers: int
) -> Scope:
    """Where the diversity of a decision is computed; config: with its ledger and embeddings."""
    rows = sum(part.rows for part in parts)
    group = Diversity.group(config.ledger.removeprefix("ledger/"), options.at_most)
    return Scope(config, (), "diversity", options, group, rows, workers)


def _joined(name: str, found: Sequence[Records]) -> Records:
    if len({records.dtype for records in found}) > 1:
        msg = f"the embeddings {name} have different widths in this pool: measure it with one encoder"
        raise StoreError(msg)
    return np.concatenate(found) if found else np.zeros(0, _dtype(0))


def _dtype(width: int) -> list[tuple[Any, ...]]:
    return [("hash", "<f8"), ("uid", "<u8", (2,)), ("kept", "?"), ("vector", "<f2", (width,))]


def _controls(pool: Records, rows: int) -> list[Records]:
    """Draws of so many rows; the first are those with the smallest hashes, as of the kept ones."""
    found = [pool[:rows]]
    if rows < min(len(pool), STABLE_ROWS):
        uids: NDArray[np.uint64] = pool["uid"]
        for seed in range(1, CONTROLS):
            order = np.argsort(uid_fraction(uids, _SEED + seed), kind="stable")
            found.append(pool[order[:rows]])
    return found


def _values(drawn: Sequence[Gram]) -> dict[str, Any]:
    """Both measures, None where there is no row; over several draws the mean, and the range."""
    found: dict[str, Any] = {"rows": drawn[0].rows}
    for name, measure in (("rank_me", rank_me), ("vendi", vendi)):
        values = [measure(one) for one in drawn if one.rows]
        found[name] = round(math.fsum(values) / len(values), 4) if values else None
        if len(values) > 1:
            found[f"{name}_range"] = [round(min(values), 4), round(max(values), 4)]
    return found
