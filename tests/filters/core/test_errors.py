from __future__ import annotations

import inspect
import pickle
import re

import pytest

from filters.core import errors
from filters.core.errors import CurateError, RetryShard, SkipShard, StopRun

LINE = re.compile(r"^(?P<indent>[│ ├└─]*)(?P<name>[A-Z]\w+)(?P<rest>.*)$")


def declared() -> dict[str, type[CurateError]]:
    """Every error class of the module, by name."""
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, CurateError)
    }


def drawn() -> dict[str, tuple[str | None, int | None]]:
    """The tree at the top of the module: name -> (parent, exit code, where one is drawn)."""
    found: dict[str, tuple[str | None, int | None]] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = LINE.match(line)
        if match is None or match["name"] == "Every":
            continue
        depth = len(match["indent"]) // 4
        above[depth] = match["name"]
        code = re.search(r" (\d)$", match["rest"])
        found[match["name"]] = (above.get(depth - 1), int(code[1]) if code else None)
    return found


def test_the_tree_at_the_top_of_the_file_is_the_classes() -> None:
    tree = drawn()
    assert sorted(tree) == sorted(declared())
    for name, error in declared().items():
        parent = None if error is CurateError else error.__bases__[0].__name__
        assert tree[name][0] == parent, name


def test_the_exit_codes_are_those_drawn() -> None:
    codes = {name: code for name, (_, code) in drawn().items() if code is not None}
    assert codes == {
        "RecipeError": 2,
        "MissingSignal": 2,
        "PoolError": 2,
        "NoShards": 2,
        "QueryError": 2,
        "ModelError": 2,
        "RunnerError": 2,
        "TooManyFailures": 3,
        "StoreError": 4,
        "StoreLocked": 4,
        "InvariantBroken": 5,
        "WorkerLost": 6,
        "KillerShards": 6,
    }
    stops = {name: error for name, error in declared().items() if issubclass(error, StopRun)}
    assert {name: error.exit_code for name, error in stops.items()} == {**codes, "StopRun": 1}


def test_what_stops_a_run_is_never_retried_or_skipped() -> None:
    for error in declared().values():
        assert sum(issubclass(error, kind) for kind in (StopRun, RetryShard, SkipShard)) <= 1


@pytest.mark.parametrize("name", sorted(declared()))
def test_an_error_comes_back_from_a_worker_as_it_was(name: str) -> None:
    error = (
        declared()[name]("truncated", "the tar ends early")
        if name == "SkipShard"
        else declared()[name]("why")
    )
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own bytes)
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_a_skipped_shard_keeps_its_code_and_its_message() -> None:
    error = SkipShard("missing_shard", "no such file")
    assert (error.code, str(error)) == ("missing_shard", "no such file")
