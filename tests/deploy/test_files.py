"""Deployment files parse, and say what the code, its pins and one another say."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from curate import __version__
from curate.cli import app
from curate.runner import load_runner
from curate.runners.dataflow import GPUS, Dataflow
from curate.runners.flink import Flink

DEPLOY = Path(__file__).parents[2] / "deploy"


def pinned(package: str) -> str:
    """The version of a package in constraints.txt."""
    found = re.search(rf"(?m)^{package}==(.+)$", (DEPLOY.parent / "constraints.txt").read_text())
    assert found is not None
    return found[1]


def assert_known_options(line: list[str]) -> None:
    """Every option of `curate COMMAND …` is one that the command has."""
    program, command, *rest = line
    assert Path(program).name == "curate"
    known = {name for option in options_of(command) for name in option.opts}
    given = {word for word in rest if word.startswith("--")}
    assert given <= known


def options_of(command: str) -> list[Any]:
    """The options of `curate COMMAND`."""
    commands: Any = typer.main.get_command(app)
    return list(commands.commands[command].params)


def everything(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def dockerfile(name: str) -> list[str]:
    """Its instructions, one each, without comments and continuations."""
    text = re.sub(r"(?m)^#.*\n", "", (DEPLOY / name).read_text()).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def test_dataflows_options_are_accepted_and_its_gpu_is_on_its_machine() -> None:
    runner = load_runner("dataflow", DEPLOY / "dataflow.yaml")
    assert isinstance(runner, Dataflow)
    assert runner.image.endswith(f"curate-worker:{__version__}")
    assert runner.gpu is not None
    assert str(runner.machine_type).partition("-")[0] == GPUS[runner.gpu][1].partition("-")[0]


def test_flinks_options_fit_its_cluster() -> None:
    runner = load_runner("flink", DEPLOY / "flink.yaml")
    assert isinstance(runner, Flink)
    (cluster,) = everything("flink-kubernetes/flink.yaml")
    spec = cluster["spec"]
    slots = int(spec["flinkConfiguration"]["taskmanager.numberOfTaskSlots"])
    assert runner.workers == slots * spec["taskManager"]["replicas"]
    main, sidecar = spec["taskManager"]["podTemplate"]["spec"]["containers"]
    assert main == {"name": "flink-main-container"}, "the operator adds to a container of this name"
    assert_known_options(sidecar["command"])
    assert sidecar["image"].endswith(f"/curate-worker:{__version__}")
    port = sidecar["ports"][0]["containerPort"]
    assert runner.worker_pool == f"localhost:{port}"
    assert sidecar["readinessProbe"]["exec"]["command"][-1] == f"</dev/tcp/127.0.0.1/{port}"
    (offered,) = (one for one in options_of("worker-pool") if one.name == "port")
    assert offered.default == port
    assert sidecar["securityContext"]["runAsNonRoot"]


def test_flinks_job_server_is_that_of_its_cluster_and_of_our_beam() -> None:
    (cluster,) = everything("flink-kubernetes/flink.yaml")
    deployment, service = everything("flink-kubernetes/job-server.yaml")
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    flink = cluster["spec"]["image"].removeprefix("flink:").partition("-")[0]
    assert cluster["spec"]["flinkVersion"] == f"v{flink.replace('.', '_')}"
    assert server["image"] == f"apache/beam_flink{flink}_job_server:{pinned('apache-beam')}"
    assert f"--flink-master={cluster['metadata']['name']}-rest:8081" in server["args"]
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert load_runner("flink", DEPLOY / "flink.yaml").job_endpoint == (
        f"{service['metadata']['name']}:{ports['jobs']}"
    )
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("name", ["worker.Dockerfile", "service.Dockerfile"])
def test_images_are_pinned_without_a_compiler_and_not_root(name: str) -> None:
    lines = dockerfile(name)
    text = "\n".join(lines)
    install = next(line for line in lines if "pip install" in line)
    assert "--constraint /tmp/constraints.txt" in install
    assert "--only-binary=:all:" in install
    assert not re.search(r"\b(gcc|g\+\+|build-essential|clang|cmake|cuda\S*-devel)\b", text)
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users, "it would run as root"
    assert int(users[-1]) > 0
    assert lines.index(f"USER {users[-1]}") < next(
        i for i, x in enumerate(lines) if x.startswith("ENTRYPOINT")
    )
    for base in re.findall(r"(?m)^ARG \w+=(.+)$", text):
        assert ":" in base
        assert not base.endswith(":latest")


def test_the_worker_image_has_our_beams_boot_and_its_python() -> None:
    text = "\n".join(dockerfile("worker.Dockerfile"))
    found = re.search(r"ARG BEAM=apache/beam_python(3\.\d+)_sdk:(.+)", text)
    assert found is not None
    assert found[2] == pinned("apache-beam")
    assert f"python{found[1]}-venv" in text
    assert 'ENTRYPOINT ["/opt/apache/beam/boot"]' in text


@pytest.mark.parametrize("name", ["worker", "service"])
def test_what_an_image_copies_is_let_through(name: str) -> None:
    let = (DEPLOY / f"{name}.Dockerfile.dockerignore").read_text().split()
    copied = [
        source
        for line in dockerfile(f"{name}.Dockerfile")
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert let == ["*", *(f"!{source}" for source in copied)]


def test_the_extras_that_images_install_exist() -> None:
    project = (DEPLOY.parent / "pyproject.toml").read_text()
    for name in ("worker.Dockerfile", "service.Dockerfile"):
        found = re.search(r"\.whl\)\[([\w,]+)\]", (DEPLOY / name).read_text())
        assert found is not None
        for extra in found[1].split(","):
            assert re.search(rf"(?m)^{extra} = \[", project), extra


def test_the_template_hands_its_parameters_to_curate_run(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("launch", DEPLOY / "dataflow-template" / "launch.py")
    assert spec is not None
    assert spec.loader is not None
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    source = tmp_path / "there" / "dataflow.yaml"
    source.parent.mkdir()
    source.write_text("workers: 3\n")
    given = {
        "recipe": "basic_filter",
        "pool": "gs://crawl/*.tar",
        "store": "gs://out",
        "options": source.as_uri(),
        "workers": "7",
        "follow": "true",
    }
    google = ["--runner=DataflowRunner", "--project=p", "--temp_location=gs://x/y"]
    line = launch.command([*google, *(f"--{name}={value}" for name, value in given.items())], tmp_path)
    assert_known_options(line)
    assert shlex.join(line) == (
        "curate run basic_filter --pool 'gs://crawl/*.tar' --store gs://out --runner dataflow "
        f"--options {tmp_path}/dataflow.yaml --workers 7 --follow --streaming"
    )
    assert launch.command([f"--{name}=x" for name in ("recipe", "pool", "store", "options")], tmp_path) == (
        ["curate", "run", "x", "--pool", "x", "--store", "x", "--runner", "dataflow", "--options", "x"]
    )
    assert (tmp_path / "dataflow.yaml").read_text() == source.read_text()
    metadata = json.loads((DEPLOY / "dataflow-template" / "metadata.json").read_text())
    assert [parameter["name"] for parameter in metadata["parameters"]] == list(given)
    required = [item["name"] for item in metadata["parameters"] if not item.get("isOptional")]
    with pytest.raises(SystemExit):
        launch.command([f"--{name}=x" for name in required[1:]], tmp_path)


def test_the_launchers_image_starts_the_launcher() -> None:
    lines = dockerfile("dataflow-template/launcher.Dockerfile")
    (copied,) = (line.split()[-1] for line in lines if "launch.py" in line and line.startswith("COPY"))
    assert f"ENV FLEX_TEMPLATE_PYTHON_PY_FILE={copied}" in lines


UNITS = sorted((DEPLOY / "one-machine").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_units_are_what_systemd_accepts(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # It asks whether the program is there.
    instance = tmp_path / unit.name.replace("@", "@crawl")
    instance.write_text(unit.read_text().replace("/opt/curate/bin/curate", sys.executable))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(instance)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr.strip()) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_units_start_commands_that_there_are_with_variables_that_are_set(unit: Path) -> None:
    (line,) = re.findall(r"(?m)^ExecStart=(.+)$", unit.read_text())
    assert_known_options(shlex.split(line))
    given = re.findall(r"(?m)^(\w+)=", (DEPLOY / "one-machine" / "crawl.env").read_text())
    assert set(re.findall(r"\$\{(\w+)\}", line)) <= set(given)


def test_compose_starts_commands_that_there_are_on_our_image() -> None:
    (compose,) = everything("one-machine/compose.yaml")
    assert list(compose["services"]) == ["follow", "serve"]
    for service in compose["services"].values():
        assert_known_options(["curate", *service["command"]])
        assert service["image"].endswith(f"/curate-service:{__version__}")
        for volume in service["volumes"]:
            assert volume.startswith("./") or volume.partition(":")[0] in compose["volumes"]
    assert compose["services"]["serve"]["ports"] == ["127.0.0.1:8000:8000"]


def test_every_file_that_a_readme_names_is_there() -> None:
    for readme in DEPLOY.rglob("README.md"):
        for path in re.findall(r"\b((?:deploy|docs|tests)/[\w./-]+\.\w+)", readme.read_text()):
            assert (DEPLOY.parent / path).exists(), f"{readme}: {path}"
