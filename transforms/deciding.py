"""From stored columns to the ledger: reads what the filters need, fits, relates, decides.

Everything here works on one part at a time and needs no engine; `transforms.beam_steps` says in
which order an engine calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.core.decide import VERDICTS, Step, columns_read, decide, survivors
from filters.core.declaration import Accumulator, Columns, FittedFilter
from filters.core.errors import InvariantBroken
from transforms.measure import Measure
from transforms.store import Store

ALWAYS = ("uid", "failure")


@dataclass(frozen=True)
class DecidePart:
    """One part to decide: small enough to be an element of a pipeline."""

    part: str
    number: int
    rows: int


@dataclass(frozen=True)
class DecideConfig:
    """How to decide, the same for every part; picklable.

    Attributes:
        writers: column -> the group of the store that holds it.
        ledger: the group that the ledger is written to.
        relations: step -> the group of its relation columns.
        embeddings: name, such as clip_image -> the folder of the store that holds them.
        encoders: name, such as clip_image -> the options of the measure that made them.
    """

    store: Store
    writers: dict[str, str]
    steps: tuple[Step, ...]
    ledger: str
    relations: dict[str, str]
    embeddings: dict[str, str] = field(default_factory=dict)
    encoders: dict[str, Measure] = field(default_factory=dict)


@dataclass(frozen=True)
class PartCounts:
    """What became of a part's rows.

    Attributes:
        verdicts: verdict -> rows; dropped_by: step -> rows that it dropped or quarantined.
        overlap: (steps, steps) int64: rows that both steps alone would have dropped.
    """

    part: str
    number: int
    rows: int
    verdicts: dict[str, int]
    dropped_by: dict[str, int]
    overlap: list[list[int]]

    @property
    def kept(self) -> int:
        """Rows that are kept."""
        return self.verdicts.get("keep", 0)


def read_columns(
    config: DecideConfig, part: DecidePart, names: Sequence[str], steps: Sequence[Step] = ()
) -> Columns:
    """The columns of one part by name, and the relation columns of the steps.

    `shard_number` is the part's place in the pool and stored nowhere.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted({*names, *ALWAYS} - {"shard_number"}):
        groups.setdefault(config.writers[name], []).append(name)
    found: Columns = {}
    for group, wanted in sorted(groups.items()):
        table = config.store.read_part(group, part.part, wanted)
        if table.num_rows != part.rows:
            msg = f"{group}/{part.part} has {table.num_rows} rows, the part has {part.rows}"
            raise InvariantBroken(msg)
        found.update({name: flat(table[name]) for name in wanted})
    if "shard_number" in names:
        found["shard_number"] = pa.array(np.full(part.rows, part.number, np.int32))
    for step in steps:
        if step.rule.relation is not None:
            table = config.store.read_part(config.relations[step.name], part.part)
            found.update({step.column(name): flat(table[name]) for name in table.column_names})
    return found


def flat(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array, dictionary columns as their values."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in whole.chunks])
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    return whole


def accumulate_part(
    config: DecideConfig, part: DecidePart, before: Sequence[Step], step: Step
) -> Accumulator:
    """What one part contributes to a pass of a fitted filter."""
    rule = step.rule
    if not isinstance(rule, FittedFilter) or step.artefact is None:
        msg = f"{step.name} is not being fitted"
        raise TypeError(msg)
    earlier = before if rule.population() == "survivors" else ()
    columns = read_columns(config, part, [*rule.fit_reads(), *columns_read(earlier)], (*earlier, step))
    columns = step.view(columns)
    if rule.population() == "survivors":
        alive = pa.array(survivors(columns, earlier))
        names = (*rule.fit_reads(), *rule.relation_reads)
        columns = {name: columns[name].filter(alive) for name in names}
    return rule.accumulate(step.artefact, columns)


def decide_part(config: DecideConfig, part: DecidePart) -> PartCounts:
    """Writes one part of the ledger and counts it.

    Raises: InvariantBroken where kept, dropped, quarantined and failed rows do not add up.
    """
    table = decide_table(config, part)
    config.store.write_part(config.ledger, part.part, table, marker={})
    return count_part(part, table, [step.name for step in config.steps])


def decide_table(config: DecideConfig, part: DecidePart) -> pa.Table:
    """One part of the ledger, not written."""
    return decide(read_columns(config, part, columns_read(config.steps), config.steps), config.steps)


def count_stored(store: Store, ledger: str, part: DecidePart, steps: Sequence[str]) -> PartCounts:
    """The counts of a part of the ledger that is in the store; steps: the names of all."""
    table = store.read_part(ledger, part.part, ["verdict", "dropped_by", "votes"])
    # In a file the labels may stand in another order.
    for name, known in (("verdict", VERDICTS), ("dropped_by", steps)):
        labels = pa.array(known, pa.string())
        codes = pc.index_in(flat(table[name]), value_set=labels)
        column = pa.chunked_array([pa.DictionaryArray.from_arrays(codes, labels)])
        table = table.set_column(table.column_names.index(name), name, column)
    return count_part(part, table, steps)


def count_part(part: DecidePart, table: pa.Table, names: Sequence[str]) -> PartCounts:
    """The counts of a ledger table; names: of all steps."""
    verdicts = _counts(table["verdict"], VERDICTS)
    dropped = _counts(table["dropped_by"], names)
    stopped = verdicts["drop"] + verdicts["quarantine"]
    if sum(verdicts.values()) != part.rows or sum(dropped.values()) != stopped:
        msg = f"the verdicts of {part.part} do not add up to its {part.rows} rows: {verdicts}, {dropped}"
        raise InvariantBroken(msg)
    return PartCounts(part.part, part.number, part.rows, verdicts, dropped, _overlap(table, names))


def _counts(column: pa.ChunkedArray, labels: Sequence[str]) -> dict[str, int]:
    codes = column.combine_chunks().indices
    present = codes.drop_null().to_numpy()
    counted = np.bincount(present, minlength=len(labels))
    return {label: int(count) for label, count in zip(labels, counted, strict=True)}


def _overlap(table: pa.Table, names: Sequence[str]) -> list[list[int]]:
    """How many readable rows each pair of steps would drop, judged alone."""
    votes = table["votes"].combine_chunks()
    readable = table["verdict"].combine_chunks().indices.to_numpy() != VERDICTS.index("failed")
    against = [
        readable & ~pc.fill_null(votes.field(number), fill_value=True).to_numpy(zero_copy_only=False)
        for number in range(len(names))
    ]
    return [[int(np.count_nonzero(one & other)) for other in against] for one in against]
