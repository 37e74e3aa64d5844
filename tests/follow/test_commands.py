"""`run --follow`, `calibrate` and `status` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.follow.arrivals import Arrivals
from tests.curate.test_command_line import curate
from tests.follow.following import PLAIN, calibrated, follower, make_pool, shard


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(PLAIN)
    return path


def test_a_user_calibrates_follows_and_looks(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2), str(tmp_path / "store")
    where = (str(recipe), "--pool", f"{pool}/*.tar", "--store", store)
    follow = ("run", *where, "--follow", "--until-idle", "--every", "0.05")
    assert curate(monkeypatch, *follow) == 2
    said = " ".join(capsys.readouterr().err.split())
    command = said.partition("run `curate ")[2].partition("`")[0]
    assert command.startswith("calibrate ")
    # What the message says is what helps.
    assert curate(monkeypatch, *command.replace("'", "").split()) == 0
    assert "calibration 1 of stream-" in capsys.readouterr().out
    assert curate(monkeypatch, *follow) == 0
    assert "nothing is waiting" in capsys.readouterr().err
    assert curate(monkeypatch, "status", store) == 0
    shown = capsys.readouterr().out
    assert "not running, 1 batches, calibration 1" in shown
    assert "2 done, 0 waiting, 0 failed" in shown
    assert curate(monkeypatch, "status", store, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["shards"] == {"done": 2, "waiting": 0, "failed": 0}
    assert status["rows"] == 16
    assert status["lag_seconds"] == 0
    assert curate(monkeypatch, "query", store, "SELECT count(*) AS n FROM samples", "--format", "csv") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "16"


@pytest.mark.parametrize("option", [["--until-idle"], ["--streaming"], ["--metrics-port", "0"]])
def test_options_of_following_alone_are_refused_without_it(
    tmp_path: Path,
    recipe: Path,
    option: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert curate(monkeypatch, "run", str(recipe), "--store", str(tmp_path / "store"), *option) == 2
    assert "go with --follow" in " ".join(capsys.readouterr().err.split())


def test_a_run_that_is_behind_shows_its_lag_and_alarms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2, rows=40), tmp_path / "store"
    calibrated(PLAIN, pool, store)
    for number in (2, 3):
        shard(pool / f"0000{number}.tar", range(100 * number, 100 * number + 60), side=20)
    one = follower(PLAIN, pool, store)
    one.follow()
    shard(pool / "00009.tar", [5])
    # As a run that takes long over a batch leaves it.
    one._sign(Arrivals([f"{pool}/00009.tar"], one.recipe.file.pool).look(set()), busy=True)
    assert curate(monkeypatch, "status", str(store)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "running, 1 batches" in shown
    assert "4 done, 1 waiting, 0 failed" in shown
    assert "00009.tar" in shown.partition("lag ")[2]
    assert "alarm width: its distribution is" in shown
