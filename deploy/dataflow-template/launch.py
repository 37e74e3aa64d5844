"""What a Flex Template starts: fetches recipe and options from Cloud Storage and runs `curate run`.

Google hands parameters over as `--name=value`, with others of its own that are not for us: where
jobs run and on what machines stands in the options' file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import fsspec


def command(arguments: Sequence[str], folder: Path) -> list[str]:
    """The command line that the parameters ask for; what lies in Cloud Storage is put into the folder."""
    parser = argparse.ArgumentParser(prog="launch", allow_abbrev=False)
    for name in ("recipe", "pool", "store", "options"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--follow", choices=["true", "false"], default="false")
    given, _ = parser.parse_known_args(arguments)
    recipe, options = (_here(text, folder) for text in (given.recipe, given.options))
    line = ["curate", "run", recipe, "--pool", given.pool, "--store", given.store]
    line += ["--runner", "dataflow", "--options", options]
    line += [] if given.workers is None else ["--workers", str(given.workers)]
    return [*line, "--follow", "--streaming"] if given.follow == "true" else line


def _here(text: str, folder: Path) -> str:
    """A local path to what a URL names; other text is a packaged recipe's name or a path already."""
    if "://" not in text:
        return text
    target = folder / text.rsplit("/", 1)[-1]
    with fsspec.open(text, "rb") as stream:
        target.write_bytes(stream.read())
    return str(target)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="curate-") as name:
        sys.exit(subprocess.call(command(sys.argv[1:], Path(name))))  # noqa: S603  (the line above)
