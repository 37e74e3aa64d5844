"""Pool and store on S3 give what local folders give, and credentials stay with the user."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import s3fs

from curate.explore.conditions import Condition
from curate.serve.library import Library
from filters.core.errors import QueryError, StoreLocked
from tests.compared import compared_pool
from tests.curate.test_command_line import curate as command
from tests.end_to_end.conftest import S3Server
from tests.end_to_end.objects import assert_same_results
from tests.running import EVERYDAY, ask, curate, plan_of
from tests.search.conftest import PICTURES
from transforms.storage import Folder
from transforms.store import Store

WITH_OPTIONS = """\
name: everyday
pool:
  retry_seconds: []
  storage_options: &s3
    {{key: {key}, secret: {secret}, client_kwargs: {{endpoint_url: "{endpoint}"}}}}
filters:
  - min_side_pixels: 30
  - caption_words: 3
  - drop_exact_duplicates: pixels
  - top_fraction: {{by: luminance_entropy, keep: 0.5}}
output: {{samples_per_shard: 4, report: false, storage_options: *s3}}
max_failed_fraction: 1
"""


@pytest.fixture
def bucket(s3_server: S3Server, small_pool: Path) -> Iterator[Path]:
    """The folder behind a bucket that holds the small pool under `pool/`."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    folder = s3_server.folder / name
    shutil.copytree(small_pool, folder / "pool")
    yield folder
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def recipe(s3_server: S3Server) -> str:
    """The everyday recipe with endpoint and credentials."""
    return WITH_OPTIONS.format(key=s3_server.key, secret=s3_server.secret, endpoint=s3_server.endpoint)


@pytest.fixture
def in_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def assert_nowhere(server: S3Server, folder: Path, text: str) -> None:
    for secret in (server.secret, server.key):
        assert secret not in text
        for path in folder.rglob("*"):
            if path.is_file():
                assert secret.encode() not in path.read_bytes(), path


def test_s3_with_credentials_in_the_recipe_equals_a_local_run(
    s3_server: S3Server,
    bucket: Path,
    recipe: str,
    small_pool: Path,
    tmp_path: Path,
    *,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    said: list[str] = []
    with caplog.at_level(logging.INFO):  # what --verbose shows
        run = curate(
            recipe, f"s3://{bucket.name}/pool/0000{{0..1}}.tar", f"s3://{bucket.name}/store", said=said
        )
    local = curate(EVERYDAY, small_pool, tmp_path / "local")
    assert_same_results(tmp_path / "local", local, bucket / "store", run)
    captured = capfd.readouterr()
    text = captured.out + captured.err + caplog.text + "\n".join(said) + repr(run)
    assert_nowhere(s3_server, bucket, text)
    assert run.manifest["parts"][0]["uri"] == f"s3://{bucket.name}/pool/00000.tar"


@pytest.mark.usefixtures("in_environment")
def test_s3_with_credentials_in_the_environment_equals_a_local_run(
    s3_server: S3Server, bucket: Path, small_pool: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = curate(EVERYDAY, f"s3://{bucket.name}/pool/*.tar", f"s3://{bucket.name}/store", workers=2)
    local = curate(EVERYDAY, small_pool, tmp_path / "local")
    assert_same_results(tmp_path / "local", local, bucket / "store", run)
    captured = capfd.readouterr()
    assert_nowhere(s3_server, bucket, captured.out + captured.err)


@pytest.mark.usefixtures("in_environment")
def test_a_store_on_s3_is_measured_once_and_answers_questions(bucket: Path) -> None:
    store = f"s3://{bucket.name}/store"
    first = curate(EVERYDAY, f"s3://{bucket.name}/pool", store)
    said: list[str] = []
    harsher = EVERYDAY.replace("min_side_pixels: 30", "min_side_pixels: 44")
    second = curate(harsher, f"s3://{bucket.name}/pool", store, said=said)
    assert said[0] == "all 2 shards are measured"
    question = "SELECT count(*) AS n FROM samples WHERE verdict = 'keep'"
    assert ask(store, question, second.ledger) == [{"n": second.counts["keep"]}]
    assert ask(store, question, first.ledger) == [{"n": first.counts["keep"]}]
    with pytest.raises(QueryError):
        ask(store, f"FROM read_text('s3://{bucket.name}/pool/00000.tar')")


def test_the_plan_of_s3_shows_no_secret_and_writes_nothing(
    s3_server: S3Server, bucket: Path, recipe: str
) -> None:
    plan = plan_of(recipe, f"s3://{bucket.name}/pool", f"s3://{bucket.name}/store")
    assert s3_server.secret not in repr(plan)
    assert len(plan.to_measure()) == 2
    assert not (bucket / "store").exists()


@pytest.mark.usefixtures("in_environment")
def test_a_second_run_on_one_s3_store_stops_and_a_stale_lock_does_not_hold(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.store.LOCK_WATCH_SECONDS", 0.1)
    url = f"s3://{bucket.name}/store"
    store = Store.at(url)
    store.prepare()
    with store.lock(), pytest.raises(StoreLocked, match="if it was killed, its hold ends"):
        curate(EVERYDAY, f"s3://{bucket.name}/pool", url)
    (bucket / "store" / "run.lock").write_text(json.dumps({"host": "x", "pid": 1, "time": 0}))
    assert curate(EVERYDAY, f"s3://{bucket.name}/pool", url).counts["keep"] == 6
    assert not (bucket / "store" / "run.lock").exists()


@pytest.mark.usefixtures("in_environment")
def test_what_another_process_writes_to_a_listed_folder_is_seen(bucket: Path) -> None:
    folder = Folder(f"s3://{bucket.name}/store")
    folder.write_json("below/a.json", [1])
    assert folder.names("below") == ["a.json"]
    other = s3fs.S3FileSystem(skip_instance_cache=True)
    other.pipe_file(f"{bucket.name}/store/below/b.json", b"[2]")
    other.pipe_file(f"{bucket.name}/store/below/a.json", b"[1, 2, 3, 4, 5]")
    assert folder.read("below/a.json", lambda stream: stream.read()) == b"[1, 2, 3, 4, 5]"
    assert folder.exists("below/b.json")


@pytest.mark.usefixtures("in_environment")
def test_a_pool_on_s3_can_have_its_store_on_disk(bucket: Path, tmp_path: Path) -> None:
    run = curate(EVERYDAY, f"s3://{bucket.name}/pool", tmp_path / "store")
    assert run.counts["keep"] == 6


@pytest.mark.usefixtures("in_environment")
def test_a_shard_missing_on_s3_is_recorded(bucket: Path, tmp_path: Path) -> None:
    run = curate(EVERYDAY, f"s3://{bucket.name}/pool/0000{{0..2}}.tar", tmp_path / "store")
    assert [item["code"] for item in run.manifest["failed_shards"]] == ["shard_missing"]


@pytest.mark.usefixtures("in_environment")
def test_a_store_on_s3_is_searched_explored_and_exported(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    compared_pool(bucket / "pictures")
    curate(PICTURES, bucket / "pictures", tmp_path / "local")
    curate(PICTURES, f"s3://{bucket.name}/pictures", f"s3://{bucket.name}/seen")
    said = []
    for store in (str(tmp_path / "local"), f"s3://{bucket.name}/seen"):
        assert command(monkeypatch, "index", store) == 0
        capfd.readouterr()
        question = ["search", store, "a ship", "-k", "5", "--where", "width > 40", "--format", "json"]
        assert command(monkeypatch, *question) == 0
        found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        said.append([(row["uid"], row["caption"], row["verdict"]) for row in found])
    assert said[0] == said[1]
    assert len(said[0]) == 5
    library = Library(Store.at(f"s3://{bucket.name}/seen"))
    seen = library.explorer(str(library.latest()))
    (shown,) = seen.read(seen.find(said[0][0][0])[:1])
    assert shown["caption"] == said[0][0][1]
    where = f"s3://{bucket.name}/given"
    for target in ("datacomp", "clip-retrieval", "huggingface", "croissant"):
        folder = f"{where}/{target}"
        assert command(monkeypatch, "export", f"s3://{bucket.name}/seen", folder, "--to", target) == 0
        assert list((bucket / "given" / target).rglob("*.*"))
    exported = pq.read_table(bucket / "given/clip-retrieval/metadata/metadata_0.parquet")
    assert exported.num_rows == len(seen.page([Condition(column="verdict", one_of=("keep",))])[1])
