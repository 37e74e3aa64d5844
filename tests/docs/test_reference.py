"""The documentation says what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import typer

from curate.cli import EXIT_CODES, app
from filters.core.catalogue import filter_names
from filters.core.errors import CurateError, StopRun
from transforms.failures import ROW_FAILURES, SHARD_FAILURES
from transforms.measure import find_measure, measure_names

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_pages_are_what_the_code_declares(generator: ModuleType) -> None:
    for name, content in generator.pages().items():
        stored = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
        assert stored == content, f"docs/reference/{name} is stale: run `make docs`"


def test_every_filter_measure_column_and_code_is_in_the_reference() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").glob("*.md"))
    columns = [c.name for m in measure_names() for c in find_measure(m).model_construct().columns(m)]
    for name in (*filter_names(), *measure_names(), *columns, *ROW_FAILURES, *SHARD_FAILURES):
        assert name in text, name


def test_every_command_and_option_is_described() -> None:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert command.help, f"curate {name} has no help"
        for parameter in command.params:
            assert parameter.help, f"curate {name} {parameter.name} has no help"


def test_every_exit_code_that_an_error_carries_is_documented() -> None:
    def below(error: type[CurateError]) -> set[type[CurateError]]:
        return {error}.union(*map(below, error.__subclasses__()))

    codes = {error.exit_code for error in below(StopRun)} - {StopRun.exit_code}
    assert codes <= EXIT_CODES.keys()


def test_readme_names_only_commands_that_exist() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        used = re.findall(r"(?:^|`)\$? ?curate ([a-z-]+)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(used) <= commands, path.name


def test_links_between_documents_lead_somewhere() -> None:
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
