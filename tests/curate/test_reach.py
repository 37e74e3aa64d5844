"""What workers elsewhere could not see is refused before a run, and credentials do not travel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from curate.plan import Plan, make_plan
from curate.reach import check_reach, check_secrets, with_absolute_store
from curate.recipe import load_recipe
from filters.core.errors import RunnerError
from tests.compared import MODEL, RECIPE, compared_pool
from tests.running import EVERYDAY, plan_of
from transforms.store import Store


@pytest.fixture
def everyday(small_pool: Path, tmp_path: Path) -> Plan:
    return plan_of(EVERYDAY, small_pool, tmp_path / "store")


def remote(plan: Plan, options: Mapping[str, Any] | None = None) -> Plan:
    """The plan as if pool and store were on S3; nothing is asked there."""
    shards = tuple(
        dataclasses.replace(shard, uri=f"s3://bucket/{Path(shard.uri).name}", options=dict(options or {}))
        for shard in plan.shards
    )
    return dataclasses.replace(plan, shards=shards, store=Store.at("s3://bucket/store", options))


def test_local_paths_are_refused_unless_shared(everyday: Plan) -> None:
    with pytest.raises(RunnerError, match=r"runner flink: .*the store '.*', the shard '.*00000.tar'"):
        check_reach("flink", everyday, shared=False)
    check_reach("flink", everyday, shared=True)
    check_reach("flink", remote(everyday), shared=False)


def test_many_local_shards_are_named_in_part(everyday: Plan) -> None:
    many = dataclasses.replace(everyday, shards=everyday.shards * 4)
    with pytest.raises(RunnerError, match=r"and 4 more: use URLs"):
        check_reach("flink", many, shared=False)


def test_a_local_model_is_refused_unless_it_is_there(tmp_path: Path) -> None:
    plan = remote(plan_of(RECIPE, compared_pool(tmp_path / "pool"), tmp_path / "store"))
    with pytest.raises(RunnerError, match=f"clip's model '{MODEL}'.*shared_files"):
        check_reach("flink", plan, shared=False)
    with pytest.raises(RunnerError, match=f"clip's model '{MODEL}'.*files_in_image"):
        check_reach("dataflow", plan, shared=False, files=False)
    check_reach("dataflow", plan, shared=False, files=True)


def test_a_relative_path_is_refused_where_workers_run_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(MODEL)
    Path("recipe.yaml").write_text(RECIPE.replace(str(MODEL), "model"))
    pool = [str(compared_pool(tmp_path / "pool"))]
    check_reach(
        "prism", make_plan(load_recipe(tmp_path / "recipe.yaml"), pool, Store.at("store")), shared=True
    )
    plan = make_plan(load_recipe("recipe.yaml"), pool, Store.at("store"))
    with pytest.raises(RunnerError, match=r"clip's model 'model' leads nowhere: write absolute paths"):
        check_reach("prism", plan, shared=True)


def test_a_relative_file_of_a_filter_is_found_out(
    small_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.txt").write_text("spam\n")
    text = EVERYDAY.replace(
        "  - caption_words: 3\n", "  - caption_words: 3\n  - caption_blocklist: {terms: [bad.txt]}\n"
    )
    with pytest.raises(RunnerError, match=r"caption_blocklist's terms 'bad.txt'"):
        check_reach("prism", plan_of(text, small_pool, tmp_path / "store"), shared=True)


@pytest.mark.parametrize(
    "options",
    [{"key": "A", "secret": "B"}, {"client_kwargs": {"aws_secret_access_key": "B"}}, {"token": "/x.json"}],
)
def test_credentials_that_would_be_stored_with_a_job_are_refused(
    options: dict[str, Any], everyday: Plan
) -> None:
    with pytest.raises(RunnerError, match=r"storage option '\w+' would be stored with the job") as caught:
        check_secrets("dataflow", remote(everyday, options))
    assert "'B'" not in str(caught.value)
    pool_alone = dataclasses.replace(remote(everyday, options), store=everyday.store)
    with pytest.raises(RunnerError, match="the pool's storage option"):
        check_secrets("dataflow", pool_alone)


@pytest.mark.parametrize(
    "options", [{}, {"token": "anon"}, {"client_kwargs": {"endpoint_url": "http://x"}}, {"key": None}]
)
def test_options_that_are_no_secrets_may_travel(options: dict[str, Any], everyday: Plan) -> None:
    check_secrets("dataflow", remote(everyday, options))


def test_a_relative_store_is_found_from_any_folder(
    small_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = with_absolute_store(plan_of(EVERYDAY, small_pool, "out/"))
    assert plan.store.folder.url == str(tmp_path / "out")
    far = remote(plan)
    assert with_absolute_store(far) is far
