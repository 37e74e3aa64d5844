"""Processes of this machine, as tests look for them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Listed:
    """A process that exists and is no zombie."""

    process: int
    parent: int
    command: str


def listed() -> list[Listed]:
    """All of them."""
    said = subprocess.run(["ps", "-eo", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=3) for line in said.stdout.splitlines()]
    return [Listed(int(row[0]), int(row[1]), row[-1]) for row in rows if not row[2].startswith("Z")]


def children_of(parent: int, sign: str = "") -> list[int]:
    """The processes that one has started, whose command line holds the sign; ascending."""
    return sorted(one.process for one in listed() if one.parent == parent and sign in one.command)


def parent_of(process: int) -> int:
    """The process that started one."""
    return next(one.parent for one in listed() if one.process == process)


def runs(process: int) -> bool:
    """Whether it exists and is no zombie."""
    return any(one.process == process for one in listed())
