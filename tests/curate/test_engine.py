"""The error of a step is the error of the run, as the step said it, whatever the number of workers."""

# Beam's transforms have no annotations:
# mypy: allow-untyped-calls, allow-subclassing-any

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import pytest

from curate.engine import Engine
from curate.pipeline import split_evenly
from filters.core.errors import PoolError, StopRun, StoreError, StoreLocked


class FailAt(beam.DoFn):
    """Raises an error at one element."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def process(self, element: int) -> Iterator[int]:
        if element == 2:
            raise self._error
        yield element


def run_failing(error: Exception, workers: int) -> None:
    with Engine(workers).pipeline("test") as pipeline:
        _ = pipeline | "Numbers" >> beam.Create([1, 2, 3]) | "FailHere" >> beam.ParDo(FailAt(error))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "error",
    [
        StoreError("no space left for /x: free some"),
        StoreLocked("two lines:\n  and a colon: here"),
        PoolError("no image column"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_type_and_message_of_an_error_survive_the_engine(error: StopRun, workers: int) -> None:
    with pytest.raises(StopRun) as caught:
        run_failing(error, workers)
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    assert caught.value.exit_code == error.exit_code
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_that_is_not_ours_stays_what_it_is(workers: int) -> None:
    with pytest.raises((ValueError, RuntimeError), match="plain") as caught:
        run_failing(ValueError("plain"), workers)
    assert not isinstance(caught.value, StopRun)


def test_an_error_before_the_pipeline_runs_is_raised_as_it_is() -> None:
    with pytest.raises(StoreError, match=r"^before$"), Engine().pipeline("test"):
        raise StoreError("before")


@pytest.mark.parametrize(
    ("items", "pieces", "sizes"),
    [(0, 3, []), (1, 3, [1]), (5, 2, [2, 3]), (4, 4, [1, 1, 1, 1]), (7, 3, [2, 2, 3])],
)
def test_lanes_are_neighbours_of_nearly_equal_number(items: int, pieces: int, sizes: list[int]) -> None:
    lanes = split_evenly(list(range(items)), pieces)
    assert sorted(len(lane) for lane in lanes) == sizes
    assert [item for lane in lanes for item in lane] == list(range(items))
