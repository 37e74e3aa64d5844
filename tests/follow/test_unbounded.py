"""The unbounded graph on Beam's test stream: every shard once, in order, whatever comes when."""

# Beam's transforms have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing.test_stream import TestStream as Stream
from apache_beam.transforms.window import TimestampedValue

from curate.follow.arrivals import Arrivals, in_order
from curate.follow.in_place import begin_stream, check_stream, commit_shards
from curate.follow.stream_steps import Arrived, Counts, Launcher, StreamConfig, add_counts
from curate.follow.unbounded import CommitAndCount, FollowPool
from filters.core.errors import RunnerError, StoreLocked
from tests.follow.following import (
    COMPARED,
    PLAIN,
    ROWS_ONLY,
    calibrated,
    committed_files,
    make_pool,
    manifest_of,
    replayed,
    shard,
)
from tests.running import plan_of
from transforms.pool import Shard

LATER = time.time() + 1e6  # a tick that no look comes after


def stream_on(text: str, pool: Path, store: Path) -> StreamConfig:
    """A stream that has begun."""
    config = StreamConfig(plan_of(text, pool, store), (f"{pool}/*.tar",), "stream", window_seconds=10)
    config.plan.store.prepare()
    begin_stream(config.ledger, config.stream)
    return config


def arrived_in(config: StreamConfig, batches: Sequence[Sequence[int]]) -> list[list[Arrived]]:
    """The pool's shards, by number in the order of their names, as shards of batches."""
    looked = Arrivals(config.patterns, config.plan.recipe.file.pool).look(set())
    shards: list[Shard] = sorted(in_order(looked), key=lambda one: one.uri)
    return [
        [Arrived(number, len(batch), at, shards[which]) for at, which in enumerate(batch)]
        for number, batch in enumerate(batches)
    ]


def run(events: Stream, steps: beam.PTransform[Any, Any]) -> None:
    """Runs steps on a test stream; Beam's other local runners have none."""
    options = PipelineOptions([])
    options.view_as(StandardOptions).streaming = True
    with beam.Pipeline(runner=BundleBasedDirectRunner(), options=options) as pipeline:
        _ = pipeline | events | steps


def windows_of(config: StreamConfig) -> list[dict[str, Any]]:
    """What the windows' files hold, in order."""
    folder = config.ledger.folder
    names = folder.names(config.ledger.file("windows"))
    return [folder.read_json(config.ledger.file(f"windows/{name}")) for name in names]


@pytest.mark.parametrize("text", [PLAIN, COMPARED])
def test_late_repeated_and_unordered_shards_are_decided_once_and_in_order(tmp_path: Path, text: str) -> None:
    pool = make_pool(tmp_path / "pool", shards=5)
    for name in ("stream", "loop"):
        calibrated(text, pool, tmp_path / name)
    config = stream_on(text, pool, tmp_path / "stream")
    (first, second, third) = arrived_in(config, [[0, 1], [2], [3, 4]])
    name = config.ledger.name
    events = (
        Stream()
        .advance_watermark_to(0)
        # The last batch before the first, one of its shards twice.
        .add_elements([TimestampedValue((name, one), 1) for one in (third[1], third[0], third[1])])
        .add_elements([TimestampedValue((name, first[1]), 2)])
        .advance_watermark_to(20)
        # Behind the watermark: its window is over.
        .add_elements([TimestampedValue((name, first[0]), 3)])
        .add_elements([TimestampedValue((name, first[0]), 21)])  # again, after its batch is committed
        .advance_watermark_to(40)
        .add_elements([TimestampedValue((name, second[0]), 41)])
        .advance_watermark_to_infinity()
    )
    run(events, CommitAndCount(config))
    manifest = config.ledger.manifest()
    assert manifest is not None
    order = [(Path(part["uri"]).stem, part["batch"]) for part in manifest["parts"]]
    assert order == [("00000", 1), ("00001", 1), ("00002", 2), ("00003", 3), ("00004", 3)]
    assert replayed(text, manifest, tmp_path / "loop") == manifest
    assert committed_files(tmp_path / "stream").items() <= committed_files(tmp_path / "loop").items()
    windows = windows_of(config)
    assert [window["batches"] for window in windows] == [[1], [2, 3]]
    assert sum(window["shards"] for window in windows) == 5
    kept = sum(window["verdicts"].get("keep", 0) for window in windows)
    assert kept == manifest["verdicts"]["keep"] > 0


def test_a_pool_is_looked_at_by_ticks_like_the_loop_does(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", shards=2)
    shard(pool / "unsaid.tar", [70, 71])
    (pool / "unsaid_stats.json").unlink()  # so it must be seen twice
    (pool / "torn.tar").write_bytes(b"no tar")
    for name in ("stream", "loop"):
        calibrated(PLAIN, pool, tmp_path / name)
    config = stream_on(PLAIN, pool, tmp_path / "stream")
    name = config.ledger.name
    events = Stream().advance_watermark_to(0)
    for at in range(3):
        events = events.add_elements([TimestampedValue((name, LATER + at), at)])
    events = events.add_elements([TimestampedValue((name, 0.0), 4)])  # overtaken by the looks before
    run(events.advance_watermark_to_infinity(), FollowPool(config, branches=2))
    manifest = config.ledger.manifest()
    assert manifest is not None
    assert [part["batch"] for part in manifest["parts"]] == [1, 1, 2, 2]
    assert len({part["uri"] for part in manifest["parts"]}) == 4
    (tmp_path / "stream" / "latest.json").write_text(json.dumps({"ledger": name}))
    assert replayed(PLAIN, manifest, tmp_path / "loop") == manifest_of(tmp_path / "stream")


def test_a_shard_that_can_t_be_read_is_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", shards=2)
    config = stream_on(ROWS_ONLY, pool, tmp_path / "store")
    batches = arrived_in(config, [[0], [1]])
    (pool / "00000.tar").unlink()
    name = config.ledger.name
    events = Stream().add_elements([TimestampedValue((name, one), 1) for batch in batches for one in batch])
    run(events.advance_watermark_to_infinity(), CommitAndCount(config))
    manifest = config.ledger.manifest()
    assert manifest is not None
    assert [Path(part["uri"]).name for part in manifest["parts"]] == ["00001.tar"]
    (lost,) = manifest["failed_shards"]
    assert (lost["code"], lost["batch"]) == ("shard_missing", 1)


def test_a_batch_that_was_begun_goes_first_and_done_again_it_changes_nothing(tmp_path: Path) -> None:
    from curate.engine import Engine
    from curate.follow.in_place import InPlaceFlow

    pool, store = make_pool(tmp_path / "pool", shards=3), tmp_path / "store"
    calibrated(PLAIN, pool, store)
    config = stream_on(PLAIN, pool, store)
    ((one, two, three),) = arrived_in(config, [[0, 1, 2]])
    flow = InPlaceFlow(config.plan, Engine(), lambda _: None, run=config.stream)
    described = [
        {"uri": s.uri, "part": s.part, "format": s.format, "size": s.size} for s in (two.shard, one.shard)
    ]
    begun = {"batch": 1, "calibration": 1, "shards": described}
    config.ledger.folder.write_json(config.ledger.file("batch.json"), begun)
    shards = [one.shard, two.shard, three.shard]
    manifest = commit_shards(flow, "curate calibrate", shards)
    assert manifest is not None
    assert [(Path(part["uri"]).stem, part["batch"]) for part in manifest["parts"]] == [
        ("00001", 1),
        ("00000", 1),
        ("00002", 2),
    ]
    before = committed_files(store)
    assert commit_shards(flow, "curate calibrate", shards) == manifest
    assert committed_files(store) == before


def test_a_stream_that_was_followed_by_another_commits_nothing_more(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", shards=1)
    calibrated(PLAIN, pool, tmp_path / "store")
    config = stream_on(PLAIN, pool, tmp_path / "store")
    check_stream(config.ledger, "stream")
    begin_stream(config.ledger, "another")
    name = config.ledger.name
    ((one,),) = arrived_in(config, [[0]])
    events = Stream().add_elements([TimestampedValue((name, one), 1)]).advance_watermark_to_infinity()
    with pytest.raises(StoreLocked, match="another stream has begun on stream-"):
        run(events, CommitAndCount(config))
    assert config.ledger.manifest() is None


def test_a_stream_ends_when_nothing_is_heard_of_its_launcher(tmp_path: Path) -> None:
    config = stream_on(ROWS_ONLY, make_pool(tmp_path / "pool", shards=1), tmp_path / "store")
    launcher = Launcher(config.ledger)
    launcher.check(60)
    time.sleep(0.02)
    config.ledger.folder.write_json(config.ledger.file("session.json"), {"looked": 1})
    launcher.check(0.01)
    launcher.check(60)
    time.sleep(0.02)
    with pytest.raises(RunnerError, match="nothing was heard of the process that launched this stream"):
        launcher.check(0.01)


def test_counts_add_up_in_any_order() -> None:
    one, two = Counts((2,), 1, {"keep": 3}), Counts((1,), 2, {"keep": 1, "drop": 4})
    assert add_counts([]) == Counts()
    assert add_counts([one, two]) == add_counts([two, add_counts([one])])
    assert add_counts([one, two]) == Counts((1, 2), 3, {"keep": 4, "drop": 4})
