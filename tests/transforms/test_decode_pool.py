"""Decode threads: bounded memory, time-outs that cost one thread, and no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

import transforms.decode_pool
from transforms.decode import DecodedSample
from transforms.decode_pool import DecodeJob, DecodePool
from transforms.pool import RawSample


def raw(row: int = 0, size: int = 1) -> RawSample:
    return RawSample(row, f"k{row}", 0, image=bytes(size), caption=b"words")


def good(sample: RawSample) -> DecodedSample:
    return DecodedSample(sample, "uid", "words", None, None, "")


def waits_for(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def decode_threads() -> int:
    return sum(thread.name == "decode" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> object:
    assert waits_for(lambda: decode_threads() == 0)
    yield
    assert waits_for(lambda: decode_threads() == 0)


def submitted(job: DecodeJob | None) -> DecodeJob:
    assert job is not None
    return job


def test_jobs_are_done_and_their_bytes_let_go() -> None:
    pool = DecodePool(2, ahead=10, timeout_seconds=60)
    jobs = [submitted(pool.submit(raw(row), good)) for row in range(5)]
    assert [pool.result(job).raw.row for job in jobs] == [0, 1, 2, 3, 4]
    assert [(job.raw.image, job.raw.caption) for job in jobs] == [(None, None)] * 5
    pool.close()


def test_submitting_waits_while_too_many_samples_are_on_their_way() -> None:
    pool = DecodePool(1, ahead=3, timeout_seconds=60)
    jobs: list[DecodeJob] = []

    def submit() -> None:
        for row in range(5):
            jobs.append(submitted(pool.submit(raw(row), good)))  # noqa: PERF401  (one at a time)

    thread = threading.Thread(target=submit)
    thread.start()
    for taken in range(2):
        assert waits_for(lambda: len(jobs) == 3 + taken)  # noqa: B023  (asked at once)
        time.sleep(0.02)
        assert len(jobs) == 3 + taken
        pool.result(jobs[taken])
    thread.join(5)
    assert len(jobs) == 5
    pool.close()


def test_once_full_submitting_goes_on_when_there_is_room_for_several() -> None:
    pool = DecodePool(1, ahead=8, timeout_seconds=60)
    jobs = [submitted(pool.submit(raw(row), good)) for row in range(8)]
    thread = threading.Thread(target=lambda: jobs.append(submitted(pool.submit(raw(8), good))))
    thread.start()
    pool.result(jobs[0])
    time.sleep(0.05)
    assert (len(jobs), pool.on_their_way) == (8, 7)
    pool.result(jobs[1])
    thread.join(5)
    assert (len(jobs), pool.on_their_way) == (9, 7)
    pool.close()


def test_results_of_several_jobs_come_in_order_and_a_stuck_one_costs_itself_alone() -> None:
    go = threading.Event()

    def slow_at_first(sample: RawSample) -> DecodedSample:
        if sample.row == 0:
            go.wait(10)
        return good(sample)

    pool = DecodePool(1, ahead=10, timeout_seconds=0.3)
    jobs = [submitted(pool.submit(raw(row), slow_at_first)) for row in range(4)]
    found = list(pool.results(jobs))
    assert [sample.raw.row for sample in found] == [0, 1, 2, 3]
    assert [sample.failure for sample in found] == ["timeout", None, None, None]
    go.set()
    pool.close()


def test_submitting_waits_while_too_many_bytes_are_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms.decode_pool, "MAX_WAITING_BYTES", 100)
    go = threading.Event()

    def slow(sample: RawSample) -> DecodedSample:
        go.wait(5)
        return good(sample)

    pool = DecodePool(1, ahead=100, timeout_seconds=60)
    jobs = [submitted(pool.submit(raw(0, 90), slow))]
    thread = threading.Thread(target=lambda: jobs.append(submitted(pool.submit(raw(1, 90), slow))))
    thread.start()
    time.sleep(0.05)
    assert len(jobs) == 1
    assert pool._bytes == 90
    go.set()
    thread.join(5)
    assert [pool.result(job).raw.row for job in jobs] == [0, 1]
    pool.close()


def test_a_sample_larger_than_the_bound_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms.decode_pool, "MAX_WAITING_BYTES", 10)
    pool = DecodePool(1, ahead=10, timeout_seconds=60)
    assert pool.result(submitted(pool.submit(raw(0, 1000), good))).failure is None
    pool.close()


def test_a_job_over_its_time_is_given_up_and_its_thread_replaced() -> None:
    go = threading.Event()

    def stuck(sample: RawSample) -> DecodedSample:
        go.wait(10)
        return good(sample)

    pool = DecodePool(1, ahead=10, timeout_seconds=0.05)
    jobs = [submitted(pool.submit(raw(0), stuck)), submitted(pool.submit(raw(1), good))]
    lost = pool.result(jobs[0])
    assert (lost.failure, lost.detail, lost.caption) == (
        "timeout",
        "decoding took longer than 0.05 s",
        "words",
    )
    assert lost.raw.image is None
    assert decode_threads() == 2  # the stuck one and its replacement
    assert pool.result(jobs[1]).failure is None
    go.set()
    assert waits_for(lambda: decode_threads() == 1)
    assert (jobs[0].result, lost.failure) == (None, "timeout")  # what came too late changes nothing
    pool.close()


def test_waiting_behind_a_slow_job_is_no_time_out() -> None:
    def slow(sample: RawSample) -> DecodedSample:
        time.sleep(0.1)
        return good(sample)

    pool = DecodePool(1, ahead=10, timeout_seconds=0.6)
    jobs = [submitted(pool.submit(raw(row), slow)) for row in range(8)]
    assert [pool.result(job).failure for job in reversed(jobs)] == [None] * 8
    pool.close()


def test_an_error_comes_out_where_the_result_is_asked_for() -> None:
    def fault(_: RawSample) -> DecodedSample:
        raise ZeroDivisionError

    pool = DecodePool(1, ahead=10, timeout_seconds=60)
    job = submitted(pool.submit(raw(), fault))
    with pytest.raises(ZeroDivisionError):
        pool.result(job)
    assert pool.result(submitted(pool.submit(raw(), good))).failure is None  # the thread lives on
    pool.close()


def test_closing_wakes_who_waits_for_room_and_drops_what_waits() -> None:
    done: list[int] = []
    go = threading.Event()

    def slow(sample: RawSample) -> DecodedSample:
        go.wait(5)
        done.append(sample.row)
        return good(sample)

    pool = DecodePool(1, ahead=2, timeout_seconds=60)
    pool.submit(raw(0), slow)
    pool.submit(raw(1), slow)
    refused: list[DecodeJob | None] = []
    thread = threading.Thread(target=lambda: refused.append(pool.submit(raw(2), slow)))
    thread.start()
    time.sleep(0.05)
    pool.close()
    thread.join(5)
    assert refused == [None]
    go.set()
    assert waits_for(lambda: decode_threads() == 0)
    assert done == [0]
