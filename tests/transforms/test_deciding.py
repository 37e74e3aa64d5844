"""From stored columns to the ledger: what the filters read, and counts that add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from filters.core.catalogue import find_filter
from filters.core.decide import Step, decide
from filters.core.errors import InvariantBroken
from tests.relating import relate
from transforms.deciding import (
    DecideConfig,
    DecidePart,
    accumulate_part,
    count_part,
    decide_part,
    flat,
    read_columns,
)
from transforms.relating import Scope, find_relation
from transforms.samples import labels
from transforms.store import Store

UIDS = [f"{at:032x}" for at in range(6)]


def step(name: str, **options: Any) -> Step:
    return Step(name, find_filter(name)(**options))


SIDE = step("min_side_pixels", at_least=200)
RATIO = step("max_aspect_ratio", at_most=2)


@pytest.fixture
def config(tmp_path: Path) -> DecideConfig:
    """One part of six rows: the second failed, the third has no size."""
    store = Store.at(str(tmp_path))
    samples = {"uid": UIDS, "row": range(6), "failure": labels([None, "timeout", *[None] * 4])}
    store.write_part("signals/samples", "p", pa.table(samples), marker={})
    facts = {
        "width": pa.array([100, None, None, 300, 900, 100]),
        "height": pa.array([900, None, None, 200, 300, 150]),
    }
    hashes = [f"{at:02d}" + "0" * 30 for at in (1, 1, 2, 1, 2, 1)]
    store.write_part("signals/facts", "p", pa.table({**facts, "bytes_hash": hashes}), marker={})
    writers = dict.fromkeys(("uid", "row", "failure"), "signals/samples")
    writers |= dict.fromkeys(("width", "height", "bytes_hash"), "signals/facts")
    return DecideConfig(store, writers, (SIDE, RATIO), "ledger/l", {})


PART = DecidePart("p", 7, 6)


def test_columns_are_read_by_name_with_identity_always_there(config: DecideConfig) -> None:
    columns = read_columns(config, PART, ["height"])
    assert sorted(columns) == ["failure", "height", "uid"]
    assert columns["failure"].to_pylist() == [None, "timeout", None, None, None, None]
    assert columns["failure"].type == pa.string()


def test_the_shard_number_is_the_part_s_place(config: DecideConfig) -> None:
    assert read_columns(config, PART, ["shard_number"])["shard_number"].to_pylist() == [7] * 6


def test_a_table_with_other_rows_breaks_the_invariant(config: DecideConfig) -> None:
    with pytest.raises(InvariantBroken, match="signals/samples/p has 6 rows, the part has 5"):
        read_columns(config, replace(PART, rows=5), [])


def test_a_part_is_decided_and_counted(config: DecideConfig) -> None:
    counts = decide_part(config, PART)
    assert counts.verdicts == {"keep": 1, "drop": 3, "quarantine": 1, "failed": 1}
    assert counts.dropped_by == {"min_side_pixels": 3, "max_aspect_ratio": 1}
    assert (counts.kept, counts.rows, counts.part, counts.number) == (1, 6, "p", 7)
    ledger = config.store.read_part("ledger/l", "p").to_pylist()
    assert [row["verdict"] for row in ledger] == ["drop", "failed", "quarantine", "keep", "drop", "drop"]
    assert [row["dropped_by"] for row in ledger] == [
        *("min_side_pixels", None, "min_side_pixels", None, "max_aspect_ratio", "min_side_pixels"),
    ]
    marker = config.store.done("ledger/l", "p")
    assert marker is not None
    assert marker["rows"] == 6


def test_the_overlap_counts_what_both_filters_alone_would_drop(config: DecideConfig) -> None:
    assert decide_part(config, PART).overlap == [[2, 1], [1, 2]]  # 100 x 900 by both


def test_the_same_part_is_the_same_ledger(config: DecideConfig) -> None:
    decide_part(config, PART)
    before = config.store.folder.read_bytes("ledger/l/p.parquet")
    decide_part(config, PART)
    assert config.store.folder.read_bytes("ledger/l/p.parquet") == before


def test_no_filters_keep_all_that_can_be_read(config: DecideConfig) -> None:
    counts = decide_part(replace(config, steps=()), PART)
    assert (counts.verdicts["keep"], counts.verdicts["failed"], counts.overlap) == (5, 1, [])


def test_no_rows_add_up_to_nothing(config: DecideConfig) -> None:
    columns = {"uid": pa.array([], pa.string()), "failure": pa.array([], pa.string())}
    numbers = {"width": pa.array([], pa.int32()), "height": pa.array([], pa.int32())}
    table = decide({**columns, **numbers}, config.steps)
    counts = count_part(replace(PART, rows=0), table, [SIDE.name, RATIO.name])
    assert (counts.kept, sum(counts.verdicts.values()), counts.overlap) == (0, 0, [[0, 0], [0, 0]])


def test_verdicts_that_do_not_add_up_break_the_invariant(config: DecideConfig) -> None:
    table = decide(read_columns(config, PART, ["width", "height"]), config.steps)
    with pytest.raises(InvariantBroken, match="the verdicts of p do not add up to its 7 rows"):
        count_part(replace(PART, rows=7), table, [SIDE.name, RATIO.name])
    nobody = pa.DictionaryArray.from_arrays(pa.nulls(6, pa.int32()), pa.array([SIDE.name, RATIO.name]))
    unblamed = table.set_column(table.column_names.index("dropped_by"), "dropped_by", nobody)
    with pytest.raises(InvariantBroken, match="do not add up"):
        count_part(PART, unblamed, [SIDE.name, RATIO.name])


def test_chunks_and_dictionaries_become_plain_arrays() -> None:
    chunked = pa.chunked_array([["a"], [], ["b", None]])
    assert flat(chunked).to_pylist() == ["a", "b", None]
    words = flat(chunked.dictionary_encode())
    assert (words.type, words.to_pylist()) == (pa.string(), ["a", "b", None])
    assert flat(pa.chunked_array([], pa.int32())).to_pylist() == []


def test_a_fit_sees_the_survivors_of_the_steps_before_it(config: DecideConfig) -> None:
    fitted = Step("top", find_filter("top_fraction")(by="width", keep=0.5), {})
    rule = fitted.rule
    seen: list[list[int | None]] = []

    class Spying(type(rule)):  # type: ignore[misc]
        def accumulate(self, artefact: Any, columns: Any) -> Any:
            del artefact
            seen.append(columns["width"].to_pylist())
            return {}

    spy = replace(fitted, rule=Spying.model_construct(**dict(rule)))
    accumulate_part(config, PART, [SIDE], spy)
    accumulate_part(config, PART, [], spy)
    assert seen == [[300, 900], [100, None, 300, 900, 100]]


def test_what_is_not_fitted_or_compares_nothing_is_a_fault(config: DecideConfig) -> None:
    with pytest.raises(TypeError, match="min_side_pixels is not being fitted"):
        accumulate_part(config, PART, [], SIDE)
    with pytest.raises(TypeError, match="min_side_pixels compares nothing"):
        find_relation(Scope(config, (), SIDE.name, SIDE.rule, "relations/r", 6, 1))


def test_a_relation_compares_survivors_and_stands_row_by_row(config: DecideConfig) -> None:
    copies = step("drop_exact_duplicates", by="bytes")
    config = replace(config, relations={copies.name: "relations/r"})
    part = replace(PART, number=0)
    large = relate(Scope(config, (SIDE,), copies.name, copies.rule, "relations/large", 6, 1), [part]).scope
    table = config.store.read_part(large.group, "p")
    # Those that are large enough, though they are copies of dropped ones.
    assert table["compared"].to_pylist() == [False, False, False, True, True, False]
    relate(Scope(config, (), copies.name, copies.rule, "relations/r", 6, 1), [part])
    columns = read_columns(config, PART, [], [copies])
    assert columns["drop_exact_duplicates/duplicate_of"].to_pylist() == [
        None,
        None,
        None,
        UIDS[0],
        UIDS[2],
        UIDS[0],
    ]
    assert columns["drop_exact_duplicates/compared"].to_pylist() == [True, False, True, True, True, True]
    counts = decide_part(replace(config, steps=(copies,)), PART)
    assert counts.verdicts == {"keep": 2, "drop": 3, "quarantine": 0, "failed": 1}
    assert np.array_equal(counts.overlap, [[3]])
