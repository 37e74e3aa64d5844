"""Shards in, measured rows out: the same whatever the threads, and never a hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import transforms.stream
from filters.core.errors import PoolError
from tests.pools import photo, sample, write_tar
from tests.transforms.reading import WatchedFiles, named, shards_of, stream, watched_files
from tests.transforms.test_decode_pool import decode_threads, waits_for
from transforms.failures import SHARD_FAILURES
from transforms.measure import Column, Measured, NamedMeasure, SampleMeasure
from transforms.pool import PoolOptions, Shard, list_pool
from transforms.pools.webdataset import read_tar
from transforms.progress import Advance, listening
from transforms.stream import MeasuredShard, ShardTask, stream_shards

QUICK = PoolOptions(retry_seconds=(0.0, 0.0))


class _Probe:
    """Notes the batches it is given; fails or waits where it is told."""

    def __init__(self, options: Probe) -> None:
        self.options = options

    def prepare(self, picture: Any, caption: str) -> str:
        del picture
        if caption == self.options.fails_at:
            raise ZeroDivisionError(caption)
        return caption

    def measure(self, prepared: Sequence[str]) -> Measured:
        if self.options.model_fails:
            raise ArithmeticError
        # What a matrix product does: the answer depends a little on the size of the batch.
        return Measured({"words": [f"{caption}/{len(prepared)}" for caption in prepared]}, {})


class Probe(SampleMeasure):
    """A measure that fails where it is told to."""

    batch_size: int = 4
    fails_at: str = ""
    model_fails: bool = False

    encodes: ClassVar[tuple[str, ...]] = ()

    def columns(self, name: str) -> tuple[Column, ...]:
        del name
        return ()

    def meter(self, name: str) -> _Probe:
        del name
        return _Probe(self)


def probe(**options: Any) -> NamedMeasure:
    return NamedMeasure("probe", "probe", Probe(**options))


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Nothing of a stream goes on after it; threads of Beam's that lost their server are not its own."""
    before = set(threading.enumerate())
    yield
    ours = ("decode", "read", "model_0")
    assert waits_for(lambda: not [t for t in threading.enumerate() if t.name in ours and t not in before])


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Three shards of 11, 3 and 0 samples, one of them broken."""
    for number, count in enumerate((11, 3, 0)):
        members = []
        for at in range(count):
            image = b"" if (number, at) == (0, 5) else photo(10 * number + at, side=12 + at)
            members += sample(f"k{at}", image, f"{number}.{at}")
        write_tar(tmp_path / f"{number}.tar", members)
    return tmp_path


def said(found: MeasuredShard) -> list[tuple[list[int], Any]]:
    return [(rows, piece.columns["words"]) for rows, piece in found.pieces["probe"]]


def test_rows_and_batches_keep_their_order_and_skip_failed_rows(pool: Path) -> None:
    first, second, third = stream(shards_of(pool), probe())
    assert [row.raw.row for row in first.samples] == list(range(11))
    assert [row.failure for row in first.samples] == [None] * 5 + ["zero_bytes"] + [None] * 5
    assert said(first) == [
        ([0, 1, 2, 3], [f"0.{at}/4" for at in (0, 1, 2, 3)]),
        ([4, 6, 7, 8], [f"0.{at}/4" for at in (4, 6, 7, 8)]),
        ([9, 10], ["0.9/2", "0.10/2"]),
    ]
    assert said(second) == [([0, 1, 2], ["1.0/3", "1.1/3", "1.2/3"])]
    assert (third.samples, said(third), third.end.code) == ([], [], None)


def test_the_result_does_not_depend_on_the_threads(pool: Path) -> None:
    runs = [stream(shards_of(pool), probe(), named("image_facts"), threads=threads) for threads in (1, 4)]
    one, four = (
        [(said(found), [s.uid for s in found.samples], found.pieces["image_facts"]) for found in run]
        for run in runs
    )
    assert one == four


def test_a_shard_alone_gives_what_it_gives_among_others(pool: Path) -> None:
    together = [said(found) for found in stream(shards_of(pool), probe(batch_size=3))]
    alone = [said(stream([shard], probe(batch_size=3))[0]) for shard in shards_of(pool)]
    assert alone == together


def test_a_task_gets_only_the_measures_it_lacks(pool: Path) -> None:
    shards = shards_of(pool)
    tasks = [
        ShardTask(shards[0], frozenset({"probe", "samples"})),
        ShardTask(shards[1], frozenset({"image_facts"})),
    ]
    found = list(stream_shards(tasks, [probe(), named("image_facts")], PoolOptions(), decode_threads=2))
    assert [list(shard.pieces) for shard in found] == [["probe"], ["image_facts"]]
    assert all(not row.prepared and row.picture is None and row.raw.image is None for row in found[0].samples)


def test_reading_runs_ahead_by_a_bounded_number_of_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [member for at in range(300) for member in sample(f"k{at}", photo(1, side=8), f"{at}")]
    read = 0

    def counting(*arguments: Any) -> Iterator[Any]:
        nonlocal read
        for item in read_tar(*arguments):
            read += 1
            yield item

    monkeypatch.setattr(transforms.stream, "read_tar", counting)
    path = write_tar(tmp_path / "0.tar", members)
    go = threading.Event()
    monkeypatch.setattr(
        _Probe, "measure", lambda _, prepared: go.wait(10) and Measured({"words": prepared}, {})
    )
    running = stream_shards(
        [ShardTask(shard, frozenset({"probe"})) for shard in shards_of(path)],
        [probe()],
        PoolOptions(),
        decode_threads=1,
    )
    results: list[MeasuredShard] = []
    thread = threading.Thread(target=lambda: results.extend(running))
    thread.start()
    assert waits_for(lambda: read > 60)
    time.sleep(0.2)
    before = read
    go.set()
    thread.join(20)
    # 65 on their way, 3 batches of 4 at the model, 4 being put into a batch, and one in hand.
    assert 60 < before <= 65 + 4 * 4 + 2
    assert len(results[0].samples) == 300


def test_a_bug_in_a_decode_thread_surfaces_as_itself(pool: Path) -> None:
    with pytest.raises(ZeroDivisionError, match=r"^0\.7$"):
        stream(shards_of(pool), probe(fails_at="0.7"))


def test_a_bug_in_the_model_surfaces_as_itself(pool: Path) -> None:
    with pytest.raises(ArithmeticError):
        stream(shards_of(pool), probe(model_fails=True))


def test_a_bug_in_the_reading_thread_surfaces_as_itself(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Iterator[Any]:
        raise LookupError
        yield

    monkeypatch.setattr(transforms.stream, "read_tar", broken)
    with pytest.raises(LookupError):
        stream(shards_of(pool), probe())


def test_an_interrupt_ends_the_threads(pool: Path) -> None:
    class Interrupting(_Probe):
        def measure(self, prepared: Sequence[str]) -> Measured:
            del prepared
            raise KeyboardInterrupt

    class Interrupted(Probe):
        def meter(self, name: str) -> _Probe:
            del name
            return Interrupting(self)

    with pytest.raises(KeyboardInterrupt):
        stream(shards_of(pool), NamedMeasure("probe", "probe", Interrupted()))
    assert waits_for(lambda: decode_threads() == 0)


def test_a_stream_closed_early_ends_its_threads(pool: Path) -> None:
    tasks = [ShardTask(shard, frozenset({"probe"})) for shard in shards_of(pool)]
    running = stream_shards(tasks, [probe()], PoolOptions(), decode_threads=3)
    assert len(next(running).samples) == 11
    running.close()
    assert waits_for(lambda: decode_threads() == 0)


def test_closing_does_not_wait_for_the_next_attempt(tmp_path: Path) -> None:
    good = write_tar(tmp_path / "0.tar", sample("a", photo(1), "x"))
    shards = shards_of(good, tmp_path / "{1..1}.tar")
    options = PoolOptions(retry_seconds=(60.0,))
    running = stream_shards(
        [ShardTask(shard, frozenset()) for shard in shards], [], options, decode_threads=1
    )
    assert len(next(running).samples) == 1
    started = time.monotonic()
    running.close()
    assert time.monotonic() - started < 2


def test_a_measure_that_looks_at_no_picture_is_refused(pool: Path) -> None:
    with pytest.raises(TypeError, match="caption_facts does not look at pictures"):
        stream(shards_of(pool), named("caption_facts"))


def test_progress_adds_up_to_the_samples(tmp_path: Path) -> None:
    members = [member for at in range(120) for member in sample(f"k{at}", photo(1, side=8), f"{at}")]
    heard: list[Advance] = []
    with listening(heard.append):
        stream(shards_of(write_tar(tmp_path / "0.tar", members)))
    assert sum(step.samples for step in heard) == 120
    assert {(step.stage, step.units) for step in heard} == {("measure", 0)}
    assert len(heard) == 3


# --- shards that can't be read


def remote(fs: WatchedFiles, path: Path) -> list[Shard]:
    fs.pipe_file("/0.tar", path.read_bytes())
    fs.pipe_file("/1.tar", path.read_bytes())
    shards = list_pool(["watched://*.tar"], PoolOptions(), {"skip_instance_cache": True})
    fs.opened.clear()
    return shards


def test_a_missing_shard_is_tried_again_and_then_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "1.tar", sample("a", photo(1), "x"))
    waited: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", _noting(threading.Event.wait, waited, (0.125, 0.25)))
    options = PoolOptions(retry_seconds=(0.125, 0.25))
    missing, good = stream(shards_of(tmp_path / "{0..1}.tar"), probe(), options=options)
    assert (missing.end.code, missing.end.detail) == ("shard_missing", SHARD_FAILURES["shard_missing"])
    assert (missing.samples, said(missing)) == ([], [])
    assert (good.end.code, len(good.samples)) == (None, 1)
    assert waited == [0.125, 0.25]


def _noting(wait: Any, waited: list[float], wanted: tuple[float, ...]) -> Any:
    def noting(event: threading.Event, timeout: float | None = None) -> bool:
        if timeout in wanted:
            waited.append(timeout)
        return bool(wait(event, timeout))

    return noting


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "flaky"),
        TimeoutError("late"),
        type("ClientError", (Exception,), {"__module__": "aiohttp.client"})("gone"),
    ],
)
def test_a_shard_that_fails_once_is_read_on_the_second_attempt(tmp_path: Path, error: Exception) -> None:
    path = write_tar(tmp_path / "0.tar", sample("a", photo(1), "x") + sample("b", photo(2), "y"))
    with watched_files() as fs:
        shards = remote(fs, path)
        fs.errors.append(error)
        found = stream(shards, probe(), options=QUICK)
        assert fs.opened == ["/0.tar", "/0.tar", "/1.tar"]
    assert [shard.end.code for shard in found] == [None, None]
    assert [said(shard) for shard in found] == [[([0, 1], ["x/2", "y/2"])]] * 2


def test_a_shard_that_always_fails_is_recorded_and_the_next_is_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", sample("a", photo(1), "x"))
    with watched_files() as fs:
        shards = remote(fs, path)
        fs.errors.extend(PermissionError(13, "not for you") for _ in range(3))
        first, second = stream(shards, probe(), options=QUICK)
        assert fs.opened == ["/0.tar"] * 3 + ["/1.tar"]
    assert (first.end.code, first.end.detail) == (
        "shard_unreadable",
        "PermissionError: [Errno 13] not for you",
    )
    assert (second.end.code, len(second.samples)) == (None, 1)


def test_a_shard_that_breaks_off_half_way_is_read_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [member for at in range(20) for member in sample(f"k{at}", photo(at, side=12), f"{at}")]
    path = write_tar(tmp_path / "0.tar", members)
    attempts = 0

    def breaking(*arguments: Any) -> Iterator[Any]:
        nonlocal attempts
        attempts += 1
        for number, item in enumerate(read_tar(*arguments)):
            if attempts == 1 and number == 13:
                raise ConnectionResetError
            yield item

    monkeypatch.setattr(transforms.stream, "read_tar", breaking)
    (found,) = stream(shards_of(path), probe(), options=QUICK)
    assert attempts == 2
    assert [row.raw.row for row in found.samples] == list(range(20))
    assert [row for rows, _ in found.pieces["probe"] for row in rows] == list(range(20))


def test_a_file_that_is_no_parquet_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "0.parquet").write_bytes(b"something else, really")
    options = PoolOptions(format="parquet", retry_seconds=())
    (found,) = stream(shards_of(tmp_path, options=options), options=options)
    assert found.end.code == "shard_unreadable"
    assert "Parquet magic bytes not found" in found.end.detail


def test_a_wrong_column_name_stops_the_run(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"photo": [b"x"]}), tmp_path / "0.parquet")
    options = PoolOptions(format="parquet")
    with pytest.raises(PoolError, match="no image column"):
        stream(shards_of(tmp_path, options=options), options=options)


@pytest.mark.parametrize(
    ("damage", "code", "rows"), [("cut", "tar_truncated", 1), ("flip", "tar_corrupt", 1)]
)
def test_a_damaged_tar_gives_its_good_rows_without_another_attempt(
    tmp_path: Path, damage: str, code: str, rows: int
) -> None:
    path = write_tar(tmp_path / "0.tar", sample("a", photo(1), "x") + sample("b", photo(2), "y"))
    content = bytearray(path.read_bytes())
    second = content.index(b"b.jpg")
    if damage == "cut":
        del content[second + 700 :]
    else:
        content[second] ^= 1
    with watched_files() as fs:
        path.write_bytes(content)
        shards = remote(fs, path)[:1]
        (found,) = stream(shards, probe(), options=QUICK)
        assert fs.opened == ["/0.tar"]
    assert (found.end.code, len(found.samples)) == (code, rows)
    assert said(found) == [([0], ["x/1"])]


def test_every_documented_shard_code_is_built_for_real() -> None:
    # `worker_killed` is built in tests/end_to_end/test_poison_shards.py.
    codes = {"shard_missing", "shard_unreadable", "tar_truncated", "tar_corrupt", "worker_killed"}
    assert set(SHARD_FAILURES) == codes


def test_parquet_streams_like_a_tar(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [photo(at, side=16) for at in range(5)]
    table = pa.table({"image": [*images, None], "caption": [*map(str, range(5)), "5"]})
    pq.write_table(table, tmp_path / "0.parquet")
    (found,) = stream(shards_of(tmp_path / "0.parquet"), named("content_hashes"), probe())
    assert [row.failure for row in found.samples] == [None] * 5 + ["missing_image"]
    tar = write_tar(tmp_path / "0.tar", [m for at in range(5) for m in sample(f"k{at}", images[at], str(at))])
    (same,) = stream(shards_of(tar), named("content_hashes"), probe())
    assert found.pieces == same.pieces
    assert [row.uid for row in found.samples[:5]] == [row.uid for row in same.samples]
    assert np.unique([row.raw.key for row in found.samples]).tolist() == [f"0_{at:08d}" for at in range(6)]
