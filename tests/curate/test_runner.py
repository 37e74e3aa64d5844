"""Runners are found by name; their options come from a file and from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.runner import find_runner, load_runner, runner_names
from curate.runners.dataflow import Dataflow
from curate.runners.flink import Flink
from curate.runners.local import Local
from filters.core.errors import RunnerError

DATAFLOW = """\
project: my-project
region: us-central1
temp_location: gs://bucket/tmp
image: registry/worker@sha256:00
"""


def refused(name: str, options: Path | None = None, **given: object) -> str:
    """What `load_runner` says against these options."""
    with pytest.raises(RunnerError) as caught:
        load_runner(name, options, given)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_every_runner_is_found_by_its_name_and_describes_every_option() -> None:
    assert runner_names() == ["dataflow", "flink", "local", "portable", "prism"]
    for name in runner_names():
        declared = find_runner(name)
        assert declared.__doc__
        assert declared.model_fields["workers"].description
        for key, info in declared.model_fields.items():
            assert info.description, f"{name}: {key}"


def test_the_runner_says_its_own_name() -> None:
    assert Local().name == "local"
    assert Flink(job_endpoint="localhost:8099").name == "flink"


def test_an_unknown_runner_is_refused_with_the_nearest() -> None:
    assert "unknown runner 'flinc'; did you mean flink?" in refused("flinc")


def test_options_of_a_file_are_read_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "dataflow.yaml"
    path.write_text(DATAFLOW + "workers: 3\nlabels: {team: data}\n")
    runner = load_runner("dataflow", path)
    assert isinstance(runner, Dataflow)
    assert (runner.workers, runner.labels) == (3, {"team": "data"})
    assert load_runner("dataflow", path, {"workers": 7, "devices": None}).workers == 7


def test_an_empty_file_of_options_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    path.write_text("# nothing\n")
    assert load_runner("local", path) == Local()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "machine: n1\n" + DATAFLOW,
            "line 1: machine: unknown key 'machine'\n  fix: did you mean machine_type",
        ),
        (DATAFLOW.replace("us-central1", "somewhere"), "line 2: region: 'somewhere': String should match"),
        (DATAFLOW.replace("region: us-central1\n", ""), "region: is required"),
        (DATAFLOW + "workers: 0\n", "line 5: workers: 0: Input should be greater than or equal to 1"),
        (DATAFLOW + "gpu: H1000\n", "line 5: gpu: 'H1000': Input should be 'L4', 'A100'"),
        (DATAFLOW + "labels: [a]\n", "line 5: labels: "),
        (DATAFLOW + "region: us-east1\n", "the key 'region' stands here twice"),
        ("- a\n", "options are a mapping"),
        ("a: [\n", "not YAML"),
    ],
)
def test_a_wrong_file_is_refused_naming_line_key_and_fix(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "dataflow.yaml"
    path.write_text(text)
    found = refused("dataflow", path)
    assert str(path) in found
    assert said in found


def test_all_that_is_wrong_in_a_file_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "dataflow.yaml"
    path.write_text(DATAFLOW + "workers: 0\nhurry: yes\n")
    found = refused("dataflow", path)
    assert "workers" in found
    assert "hurry" in found


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "dataflow.yaml"
    path.write_text(DATAFLOW + "gpus_per_machine: 2\n")
    assert "there is no GPU" in refused("dataflow", path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "can't read the options" in refused("local", tmp_path / "absent.yaml")


def test_an_option_of_the_command_line_is_refused_by_its_name() -> None:
    assert "runner dataflow: project is required: give it in --options FILE" in refused("dataflow")
    assert refused("flink", devices="all").splitlines() == [
        "runner flink: job_endpoint is required: give it in --options FILE",
        "runner flink has no devices: leave --devices out",
    ]
    assert "runner local: devices: 'gpu' is no device" in refused("local", devices="gpu")


def test_a_wrong_flag_beside_a_good_file_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "local.yaml"
    path.write_text("workers: 2\n")
    found = refused("local", path, devices="tpu")
    assert "runner local: devices: 'tpu' is no device" in found
    assert str(path) not in found
