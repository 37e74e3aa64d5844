"""What crosses Beam: tables through one coder, and sums that do not depend on order."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.coders.typecoders import registry
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from filters.core.catalogue import find_filter
from filters.core.decide import Step
from filters.core.declaration import FittedFilter
from tests.pools import photo, sample, write_tar
from tests.transforms.reading import named, shards_of
from transforms.attempts import Attempts
from transforms.beam_steps import (
    AddAccumulators,
    AdvanceFit,
    ArrowTableCoder,
    MeasureShards,
    WriteReports,
    read_reports,
)
from transforms.deciding import PartCounts
from transforms.measuring import MeasureConfig
from transforms.pool import PoolOptions
from transforms.progress import Advance, listening
from transforms.store import Store

CODER = ArrowTableCoder()


def test_tables_come_back_as_they_were() -> None:
    table = pa.table({"n": [1, None], "s": ["a", "ü"], "d": pa.array(["x", "x"]).dictionary_encode()})
    assert CODER.decode(CODER.encode(table)).equals(table)
    empty = table.slice(0, 0)
    assert CODER.decode(CODER.encode(empty)).equals(empty)
    chunked = pa.concat_tables([table, table])
    assert CODER.decode(CODER.encode(chunked)).equals(chunked)


def test_a_slice_does_not_carry_its_parent() -> None:
    parent = pa.table({"n": range(100_000), "s": [f"text {at}" for at in range(100_000)]})
    piece = parent.slice(500, 3)
    assert len(CODER.encode(piece)) < 2000 < len(pickle.dumps(piece))
    assert CODER.decode(CODER.encode(piece)).equals(piece)
    assert CODER.estimate_size(piece) < 2000


def test_beam_uses_the_coder_for_tables() -> None:
    assert isinstance(registry.get_coder(pa.Table), ArrowTableCoder)
    assert CODER.is_deterministic()
    assert CODER.to_type_hint() is pa.Table
    assert CODER.encode(pa.table({"n": [1]})) == CODER.encode(pa.table({"n": [1]}))


def top_fraction() -> FittedFilter:
    rule = find_filter("top_fraction")(by="score", keep=0.5)
    assert isinstance(rule, FittedFilter)
    return rule


def test_accumulators_add_up_the_same_merged_compacted_and_folded() -> None:
    rule = top_fraction()
    add = AddAccumulators(rule)
    uids = pa.array([f"{at:032x}" for at in range(4)])
    ones = [
        rule.accumulate(rule.start(), {"score": pa.array([at / 7, at / 3, 0.5, None]), "uid": uids})
        for at in range(4)
    ]

    def folded(order: tuple[int, ...]) -> str:
        total = add.create_accumulator()
        for at in order:
            total = add.add_input(total, ones[at])
        return repr(rule.advance(rule.start(), add.extract_output(total)))

    merged = add.merge_accumulators([None, add.add_input(None, ones[3]), None, *ones[:3]])
    answers = {folded(order) for order in itertools.permutations(range(4))}
    assert answers == {repr(rule.advance(rule.start(), merged))}
    assert add.merge_accumulators([None, None]) is None


def test_an_artefact_is_advanced_and_committed(tmp_path: Path) -> None:
    rule = top_fraction()
    store = Store.at(str(tmp_path))
    step = AdvanceFit(store, Step("top", rule, rule.start()), "artefacts/a.json")
    assert list(step.process(None)) == ["artefacts/a.json"]
    assert store.folder.read_json("artefacts/a.json") == rule.advance(rule.start(), None)


def test_reports_are_the_same_files_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.beam_steps.REPORTS_IN_A_FILE", 4)
    store = Store.at(str(tmp_path))
    reports = [PartCounts(str(at), at, 10 * at, {"keep": at}, {}, []) for at in range(12)]
    for name, order in (("a", reports), ("b", reports[::-1])):
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            _ = pipeline | beam.Create(order) | WriteReports(store, name, len(reports))
    files = store.folder.names("a")
    assert 1 < len(files) <= 3
    assert files == store.folder.names("b")
    for file in files:
        assert store.folder.read_bytes(f"a/{file}") == store.folder.read_bytes(f"b/{file}")
    found = sorted((PartCounts(**one) for one in read_reports(store, "a")), key=lambda one: one.number)
    assert found == reports


def test_where_nothing_is_said_there_are_no_reports(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create([]) | WriteReports(store, "none", 0)
    assert list(read_reports(store, "none")) == []


def test_shards_are_measured_in_a_pipeline(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(
            tmp_path / "pool" / f"{number}.tar", sample("a", photo(number), "x") + sample("b", b"", "y")
        )
    store = Store.at(str(tmp_path / "store"))
    config = MeasureConfig(store, PoolOptions(), (named("image_facts"),))
    shards = shards_of(tmp_path / "pool")
    heard: list[Advance] = []
    with listening(heard.append), beam.Pipeline(runner=FnApiRunner()) as pipeline:
        reports = (
            pipeline
            | "Lanes" >> beam.Create([shards])
            | "Measure" >> beam.ParDo(MeasureShards(Attempts(config, "run")))
        )
        rows = reports | "Rows" >> beam.Map(lambda report: (report.part, report.rows, report.failed_rows))
        assert_that(rows, equal_to([(shard.part, 2, 1) for shard in shards]))
    counters = {
        found.key.metric.name: found.committed for found in pipeline.result.metrics().query()["counters"]
    }
    assert counters == {"rows_measured": 4, "rows_failed": 2, "shards_measured": 2}
    assert sum(step.units for step in heard if step.stage == "measure") == 2
