"""What one benchmark found, and the file that gathers what all of them found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEADER = """# Results

Written by `python -m benchmarks`; running one benchmark again replaces its section only. Each section
names its machine and versions. Ratios are taken inside one run, between sides that ran by turns.
"""


@dataclass(frozen=True)
class Section:
    """What one benchmark measured.

    Attributes:
        against: what it is compared with, and how.
        columns, rows: the table of figures.
        met: one (target, met) for each target; met is None where it could not be measured.
        remarks: what a reader must know to judge the figures.
    """

    name: str
    measured: str
    against: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    met: Sequence[tuple[str, bool | None]]
    remarks: Sequence[str] = field(default_factory=tuple)

    def markdown(self, machine: str) -> str:
        """The section as it stands in the file of results."""
        lines = [f"## {self.name}", "", machine, "", f"Measured: {self.measured}", ""]
        lines += [f"Against: {self.against}", ""]
        if self.rows:
            lines += [_row(self.columns), _row(["---"] * len(self.columns)), *map(_row, self.rows), ""]
        said = {True: "met", False: "**not met**", None: "not measured"}
        lines += [f"* Target: {target}: {said[met]}." for target, met in self.met]
        lines += [f"* {remark}" for remark in self.remarks]
        return "\n".join(lines) + "\n"


def section_of(content: dict[str, Any]) -> Section:
    """The section that was sent between processes as JSON."""
    return Section(**{**content, "met": [(target, met) for target, met in content["met"]]})


def replace_section(path: Path, name: str, markdown: str, order: Sequence[str]) -> None:
    """Puts the section into the file, in the order of names, in place of an older one."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    pieces = re.split(r"(?m)^(?=## )", text)[1:]
    found = {piece.split("\n", 1)[0].removeprefix("## ").strip(): piece for piece in pieces}
    found[name] = markdown
    known = [found[each].strip() + "\n" for each in order if each in found]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *known]), encoding="utf-8")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
