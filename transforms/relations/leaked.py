"""The nearest item of an evaluation set, for each survivor: by PDQ hash or by embedding.

The set is small (up to about a million items), so it is prepared once and every worker has all of
it; no rows are brought together. Both searches are exact: nothing depends on shards or batches.
Thresholds are the rule's own: PDQ's 31 bits (Facebook 2019, PDQ & TMK+PDQF), or a cosine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.core.declaration import Columns, numbers
from filters.core.errors import RecipeError
from filters.core.paths import listed
from transforms.clustering import unit_rows
from transforms.comparing import split_lots
from transforms.deciding import DecidePart
from transforms.fingerprints import fingerprint
from transforms.hamming import bits_set, distinct, pairs_within
from transforms.marking import TILE, nearest_in
from transforms.measures.perceptual_hashes import LEAST_BITS_SET, LEAST_QUALITY, codes_of
from transforms.pool import Shard
from transforms.reference_images import find_reference, hash_images, reference_identity
from transforms.references import EmbeddingFile, content_fingerprint, find_embeddings, find_files
from transforms.relating import Relation, Task
from transforms.store import write_parquet

RADIUS = 31  # bits; `leaked_bits` is one more where nothing is within it
LOT_ROWS = 1_000_000  # hashed rows that are searched at once
CODE_BYTES, FLIPS = 32, 8
ITEM_BITS = 40  # of a number that holds distance and item, so that the smallest is the nearest
NAMED = 100  # items that the summary names
SET = "the evaluation set"


@dataclass(frozen=True)
class _Nearest:
    """What was found for a part: of its `alive` rows those that were compared.

    Attributes:
        rows: (m,) places in the part; value: (m,) bits or cosine; item: (m,) int64, -1 for none.
    """

    part: DecidePart
    alive: int
    rows: NDArray[np.intp]
    value: NDArray[np.int64] | NDArray[np.float32]
    item: NDArray[np.int64]


class Leaked(Relation):
    """Columns `leaked_item` and `leaked_bits` or `leaked_cosine`; null where a row was not compared.

    Stages: *reference* prepares the set, *write* searches it for the survivors of some parts.
    `leaked_item` is `<file>:<key>` of an image, `<file>:<row>` of an embedding; it is null where no
    item is within 31 bits, or none has a cosine above 0.
    """

    stages: ClassVar[tuple[str, ...]] = ("reference", "write")

    @classmethod
    def refusal(cls, rule: Any) -> str | None:  # noqa: ARG003
        return None  # rows are compared with the set alone

    @classmethod
    def check(cls, rule: Any) -> None:
        if rule.method == "pdq":
            find_reference(listed(rule.against))
        else:
            _embeddings(rule)

    @classmethod
    def identity(cls, rule: Any) -> dict[str, Any]:
        named = listed(rule.against)
        if rule.method == "pdq":
            return {"against": [reference_identity(shard) for shard in find_reference(named)]}
        # The order of files decides between equal cosines, and their names are in the answer.
        files = find_files(named, SET)
        return {"against": [[uri.rsplit("/", 1)[-1], content_fingerprint(uri)] for uri in files]}

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        if stage == "reference":
            return [Task(number) for number in range(len(self._shards) if self._by_hash else 1)]
        self._check_reference()
        rows = sum(part.rows for part in parts)
        wanted = max(-(-rows // LOT_ROWS), 4 * self.scope.workers)
        return split_lots(parts, min(len(parts), wanted))

    def run(self, stage: str, task: Task) -> None:
        if stage == "write":
            self._write(task)
        elif self._by_hash:
            self._hash_shard(self._shards[task.number])
        else:
            self._gather_embeddings()

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:
        lots = self.tasks("write", parts)
        counted = [self.scope.folder.read_json(self._counts_file(lot.number)) for lot in lots]
        items: Counter[str] = Counter()
        for lot in counted:
            items.update(lot["items"])
        most = sorted(items.items(), key=lambda item: (-item[1], item[0]))
        return {
            "set": self.rule.set_name,
            "method": self.rule.method,
            # Of the threshold when the rows were compared; the ledger follows the recipe's.
            "threshold": RADIUS if self._by_hash else self.rule.cosine_above,
            **self._about,
            **{name: sum(lot[name] for lot in counted) for name in ("compared", "not_compared", "leaked")},
            "leaked_items": len(items),
            "most_leaked_items": dict(most[:NAMED]),
        }

    # --- the set

    @property
    def _by_hash(self) -> bool:
        return bool(self.rule.method == "pdq")

    @cached_property
    def _shards(self) -> list[Shard]:
        return find_reference(listed(self.rule.against))

    def _hashes_file(self, shard: Shard) -> str:
        """Where a shard's hashes lie: the same for all comparisons with it."""
        return f"artefacts/{fingerprint(['pdq', *reference_identity(shard)])}-pdq"

    def _hash_shard(self, shard: Shard) -> None:
        name, folder = self._hashes_file(shard), self.scope.folder
        if folder.exists(f"{name}.json"):
            return
        table = hash_images(shard)
        unreadable = table.filter(pc.is_valid(table["failure"])).slice(0, NAMED).to_pylist()
        compared = int(np.count_nonzero(telling(_flips(table)[:, 0], table["pdq_quality"].to_numpy())))
        failed = table.num_rows - table["failure"].null_count
        about = {
            "items": table.num_rows,
            "unreadable": failed,
            "flat": table.num_rows - failed - compared,
            "unreadable_items": {row["item"]: row["failure"] for row in unreadable},
        }
        with folder.commit(f"{name}.parquet") as path:
            write_parquet(table, path)
        folder.write_json(f"{name}.json", about)

    def _gather_embeddings(self) -> None:
        """Commits the set's embeddings as one array, and where each of them came from."""
        vectors: list[NDArray[np.float16]] = []
        names: list[str] = []
        lost: list[str] = []
        for file in _embeddings(self.rule):
            for start, end in file.pieces():
                stored = file.read(start, end)
                unit, good = unit_rows(stored)
                # As the pool stores them, so that the same embedding is the same bits.
                kept = stored if stored.dtype == np.float16 else unit
                vectors.append(kept[good].astype(np.float16))
                names += [f"{file.name}:{start + row}" for row in np.flatnonzero(good)]
                lost += [f"{file.name}:{start + row}" for row in np.flatnonzero(~good)]
        about = {
            "items": len(names) + len(lost),
            "unreadable": len(lost),
            "flat": 0,
            "unreadable_items": dict.fromkeys(lost[:NAMED], "zero or NaN"),
        }
        self.save("reference", np.concatenate(vectors))
        with self.scope.folder.commit(self.scope.work("reference.parquet")) as path:
            write_parquet(pa.table({"item": pa.array(names, pa.string())}), path)
        self.scope.folder.write_json(self.scope.work("reference.json"), about)

    @cached_property
    def _about(self) -> dict[str, Any]:
        """Items of the set: all, unreadable (with the first 100 names and reasons), flat ones."""
        if not self._by_hash:
            found: dict[str, Any] = self.scope.folder.read_json(self.scope.work("reference.json"))
            return found
        shards = [self.scope.folder.read_json(f"{self._hashes_file(shard)}.json") for shard in self._shards]
        named = {item: why for shard in shards for item, why in shard["unreadable_items"].items()}
        total = {name: sum(shard[name] for shard in shards) for name in ("items", "unreadable", "flat")}
        return {**total, "unreadable_items": dict(list(named.items())[:NAMED])}

    def _check_reference(self) -> None:
        about = self._about
        if about["items"] == 0:
            msg = f"{self.rule.set_name}: {SET} holds nothing to compare with"
            raise RecipeError(msg)
        if about["items"] == about["unreadable"] + about["flat"]:
            why = ", ".join(sorted(set(about["unreadable_items"].values()))) or "too flat to judge"
            msg = f"{self.rule.set_name}: none of the {about['items']} items of {SET} can be compared ({why})"
            raise RecipeError(msg)

    @cached_property
    def _hash_index(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], pa.Array]:
        """Distinct hashes (k, 32) with the first item of each (k,), and the items' names."""
        folder = self.scope.folder
        tables = []
        for shard in self._shards:
            with folder.open(f"{self._hashes_file(shard)}.parquet") as stream:
                tables.append(pq.read_table(stream))
        table = pa.concat_tables(tables)
        good = telling(_flips(table)[:, 0], table["pdq_quality"].to_numpy())
        table = table.filter(pa.array(good))
        codes = _flips(table).reshape(-1, CODE_BYTES)
        groups = distinct(codes)
        first = groups.order[groups.starts]
        return codes[first], first // FLIPS, table["item"].combine_chunks()

    @cached_property
    def _embedding_index(self) -> tuple[NDArray[np.float16], pa.Array]:
        """The set's embeddings (m, d), and the items' names."""
        with self.scope.folder.open(self.scope.work("reference.parquet")) as stream:
            names = pq.read_table(stream)["item"].combine_chunks()
        return self.scope.store.read_array(self.scope.work("reference.npy")), names

    # --- the search

    def _write(self, task: Task) -> None:
        search = self._search_hashes if self._by_hash else self._search_embeddings
        names = (self._hash_index[2] if self._by_hash else self._embedding_index[1]).to_pylist()
        counts = {"compared": 0, "not_compared": 0, "leaked": 0}
        items: Counter[str] = Counter()
        for nearest in search(task.parts):
            leaked = nearest.item[self._within(nearest.value)]
            counts["compared"] += len(nearest.rows)
            counts["not_compared"] += nearest.alive - len(nearest.rows)
            counts["leaked"] += len(leaked)
            items.update(names[item] for item in leaked.tolist())
            self.write_columns(nearest.part, self._columns(nearest, names))
        self.scope.folder.write_json(self._counts_file(task.number), {**counts, "items": items})

    def _within(self, value: NDArray[Any]) -> NDArray[np.bool_]:
        found: NDArray[np.bool_]
        found = value <= RADIUS if self._by_hash else value.astype(np.float64) > self.rule.cosine_above
        return found

    def _columns(self, nearest: _Nearest, names: Sequence[str]) -> Columns:
        rows = nearest.part.rows
        value = np.zeros(rows, np.int32 if self._by_hash else np.float32)
        value[nearest.rows] = nearest.value
        absent = np.ones(rows, np.bool_)
        absent[nearest.rows] = False
        item: list[str | None] = [None] * rows
        for row, found in zip(nearest.rows.tolist(), nearest.item.tolist(), strict=True):
            item[row] = names[found] if found >= 0 else None
        return {"leaked_item": pa.array(item, pa.string()), self.rule.column: pa.array(value, mask=absent)}

    def _search_hashes(self, parts: Sequence[DecidePart]) -> Iterator[_Nearest]:
        """All parts of a lot in one search, as the set is sorted for each search anew."""
        places, codes = [], []
        for part in parts:
            columns, alive = self.scope.alive(part, ("pdq_hash", "pdq_quality"))
            known = columns["pdq_hash"].is_valid().to_numpy(zero_copy_only=False)
            rows = np.flatnonzero(alive & known)
            chosen = pa.array(rows)
            code = codes_of(columns["pdq_hash"].take(chosen), CODE_BYTES)
            good = telling(code, numbers(columns["pdq_quality"].take(chosen)))
            places.append((part, int(np.count_nonzero(alive)), rows[good]))
            codes.append(code[good])
        value, item = self._nearest_hashes(np.concatenate(codes))
        start = 0
        for part, alive_rows, rows in places:
            span = slice(start, start + len(rows))
            yield _Nearest(part, alive_rows, rows, value[span], item[span])
            start += len(rows)

    def _nearest_hashes(self, queries: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bits to the nearest hash of the set, RADIUS + 1 for more, and its item, -1 for none.

        queries: (n, 32) uint8. Among equally near hashes the first item counts.
        """
        codes, first, _ = self._hash_index
        if len(queries) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        # Of equal codes one is searched: a picture that is everywhere would make a square of pairs.
        groups = distinct(queries)
        nowhere = (RADIUS + 1) << ITEM_BITS
        best = np.full(len(groups.sizes), nowhere, np.int64)
        asked = queries[groups.order[groups.starts]]
        for pairs in pairs_within(codes, RADIUS, queries=asked):
            np.minimum.at(best, pairs.query, pairs.distance.astype(np.int64) << ITEM_BITS | first[pairs.code])
        whole = np.empty(len(queries), np.int64)
        whole[groups.order] = np.repeat(best, groups.sizes)
        return whole >> ITEM_BITS, np.where(whole < nowhere, whole & ((1 << ITEM_BITS) - 1), -1)

    def _search_embeddings(self, parts: Sequence[DecidePart]) -> Iterator[_Nearest]:
        known = self._embedding_index[0]
        for part in parts:
            _, alive = self.scope.alive(part, ())
            rows, stored, vectors = self.scope.usable(part, self.rule.embedding, alive)
            if len(rows) and vectors.shape[1] != known.shape[1]:
                msg = (
                    f"the embeddings {self.rule.embedding} of {part.part} are {vectors.shape[1]} wide, those "
                    f"of {self.rule.set_name} {known.shape[1]}: make both with one encoder"
                )
                raise RecipeError(msg)
            if len(rows):
                # One size of tile for all: a product's last bit can depend on the matrix's shape.
                cosine, item = nearest_in(stored, known, tile=TILE)
            else:
                cosine, item = np.zeros(0, np.float32), np.zeros(0, np.int64)
            yield _Nearest(part, int(np.count_nonzero(alive)), rows, cosine, item)

    def _counts_file(self, lot: int) -> str:
        return self.scope.work(f"counts/{lot}.json")


def telling(codes: NDArray[np.uint8], quality: NDArray[Any]) -> NDArray[np.bool_]:
    """True for PDQ hashes of pictures with enough to see; codes: (n, 32) uint8, quality: (n,)."""
    result: NDArray[np.bool_] = (quality >= LEAST_QUALITY) & (
        bits_set(codes).sum(axis=1) >= LEAST_BITS_SET["pdq"]
    )
    return result


def _flips(table: pa.Table) -> NDArray[np.uint8]:
    """The hashes of a table of `hash_images` in all flips: (n, 8, 32) uint8."""
    content = b"".join(table["pdq_flips"].to_pylist())
    return np.frombuffer(content, np.uint8).reshape(-1, FLIPS, CODE_BYTES)


def _embeddings(rule: Any) -> list[EmbeddingFile]:
    return find_embeddings(listed(rule.against), rule.array, SET)
