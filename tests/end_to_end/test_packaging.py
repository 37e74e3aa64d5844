"""The wheel holds exactly our three packages and all that they need at run time."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"curate", "transforms", "filters"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in a freshly built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        text = (ROOT / name).read_bytes() if (ROOT / name).exists() else b"# Curate\n"
        (source / name).write_bytes(text)
    for package in PACKAGES:
        (source / package).symlink_to(ROOT / package)  # the build leaves nothing in the checkout
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_wheel_holds_exactly_the_three_packages(wheel: list[str]) -> None:
    top = {name.partition("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert len(top) == len(PACKAGES) + 1


def test_the_wheel_holds_every_file_that_is_not_code(wheel: list[str]) -> None:
    for package in PACKAGES:
        assert f"{package}/py.typed" in wheel
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix not in (".pyc", ".md"):
                assert str(path.relative_to(ROOT)) in wheel
    assert any(name.startswith("curate/recipes/") for name in wheel)
    assert "curate/demo/model/open_clip_model.safetensors" in wheel


def test_no_other_distribution_owns_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        assert {owner.lower() for owner in owners.get(package, ["curate"])} == {"curate"}
