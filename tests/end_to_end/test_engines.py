"""The same recipe gives the same bytes on Prism as in one process.

With worker threads, and with processes that share no memory and no folder with the launcher.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from curate.demo.pool import write_pool
from curate.plan import Plan, make_plan
from curate.portable_engine import PortableEngine
from curate.recipe import load_recipe
from curate.run import RunOptions, RunResult, run_recipe
from curate.runners.prism import Prism
from tests.compared import EVERY_STAGE, RECIPE, compared_pool
from tests.engines import prism_program, worker_pool
from tests.running import files_of, plan_of
from transforms.store import Store
from transforms.tasks import FOLDER as TASKS

MakePlan = Callable[[Path, Path], Plan]


def demo_plan(pool: Path, store: Path) -> Plan:
    return make_plan(load_recipe("demo"), [str(pool)], Store.at(str(store)))


def relational_plan(pool: Path, store: Path) -> Plan:
    return plan_of(RECIPE, pool, store)


def every_stage_plan(pool: Path, store: Path) -> Plan:
    return plan_of(EVERY_STAGE, pool, store)


@pytest.fixture(scope="module")
def program() -> str:
    return prism_program()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compared_pool(tmp_path_factory.mktemp("compared"))


def run_in(plan: Plan, runner: Prism | None = None) -> RunResult:
    return run_recipe(plan, RunOptions(runner=runner), lambda _: None)


def assert_same(make: MakePlan, pool: Path, folder: Path, runner: Prism) -> RunResult:
    """Runs the plan here and there; returns the run that was made here."""
    here = run_in(make(pool, folder / "here"))
    there = run_in(make(pool, folder / "there"), runner)
    assert there.ledger == here.ledger
    files = files_of(folder / "here")
    assert files_of(folder / "there") == files
    assert f"ledger/{here.ledger}/manifest.json" in files
    assert 0 < here.counts["keep"] < here.manifest["rows"]
    return here


@pytest.mark.parametrize("workers", [1, 2])
def test_prism_with_threads_gives_the_same_bytes(
    workers: int, program: str, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if workers == 2:  # all tasks come from files
        monkeypatch.setattr(PortableEngine, "graph_bytes", 0)
    assert_same(relational_plan, pool, tmp_path, Prism(binary=program, workers=workers))
    assert not (tmp_path / "there" / TASKS).exists()


def test_prism_gives_the_same_bytes_of_the_demo(program: str, tmp_path: Path) -> None:
    write_pool(tmp_path / "pool", samples=120, shards=2)
    assert_same(demo_plan, tmp_path / "pool" / "shards", tmp_path, Prism(binary=program, workers=2))


@pytest.mark.slow
@pytest.mark.parametrize("make", [every_stage_plan, demo_plan])
def test_prism_with_processes_elsewhere_gives_the_same_bytes(
    make: MakePlan, program: str, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if make is demo_plan:
        write_pool(tmp_path / "demo", samples=120, shards=2)
        pool = tmp_path / "demo" / "shards"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)  # a relative store leads nowhere from the workers' folder
    with worker_pool(elsewhere) as address:
        runner = Prism(binary=program, worker_pool=address, workers=2)
        here = assert_same(
            lambda shards, store: make(shards, store.relative_to(tmp_path)),
            pool,
            tmp_path,
            runner,
        )
    assert list((tmp_path / "there" / "curated" / here.ledger).glob("*.tar"))
    started = re.findall(r"INFO curate\.workers worker (\S+)", (elsewhere / "worker_pool.log").read_text())
    second = [name for name in started if "resource_hints" in name]
    assert second, "there was one worker alone"
    assert len(started) > len(second)


def test_a_second_run_on_another_engine_finds_all_done(program: str, pool: Path, tmp_path: Path) -> None:
    run_in(every_stage_plan(pool, tmp_path / "store"))
    before = files_of(tmp_path / "store")
    said: list[str] = []
    run_recipe(
        every_stage_plan(pool, tmp_path / "store"), RunOptions(runner=Prism(binary=program)), said.append
    )
    assert said == ["all 2 shards are measured"]
    assert files_of(tmp_path / "store") == before
