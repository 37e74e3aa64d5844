"""The answers of an audit: read, checked against the draw, counted for each stratum."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from curate.audit.draw import Drawn, Group, Stratum
from curate.query import Decision
from filters.core.answers import read_answers
from filters.core.errors import QueryError, StoreError
from filters.core.uids import format_uids
from transforms.storage import redact

SAMPLE_COLUMNS = ("uid", "key", "stratum", "probability", "verdict", "dropped_by")


@dataclass(frozen=True)
class SampleRow:
    """A row of sample.csv; probability: of being drawn; dropped_by: empty for kept ones."""

    uid: str
    key: str
    stratum: str
    probability: float
    verdict: str
    dropped_by: str


@dataclass(frozen=True)
class Answered:
    """What was answered of one stratum.

    Attributes:
        rows: that it has in the pool; answered: of the drawn ones; bad: answers "does not match".
    """

    name: str
    dropped_by: str
    verdict: str
    rows: int
    drawn: int
    answered: int
    bad: int

    @property
    def group(self) -> Group:
        """What was decided of its samples."""
        return self.dropped_by, self.verdict


def sample_row(drawn: Drawn, uid: str, key: str) -> SampleRow:
    """The row of sample.csv of a drawn sample."""
    stratum: Stratum = drawn.stratum
    return SampleRow(uid, key, stratum.name, stratum.probability, stratum.verdict, stratum.dropped_by)


def sample_csv(rows: Iterable[SampleRow]) -> str:
    """The rows as the text of sample.csv; probabilities with all digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SAMPLE_COLUMNS)
    writer.writerows([getattr(row, name) for name in SAMPLE_COLUMNS] for row in rows)
    return text.getvalue()


def draw_name(decision: Decision, budget: int, seed: int) -> str:
    """The folder of a draw below the store."""
    return f"audit/{decision.ledger}-{budget}-{seed}"


def find_draw(decision: Decision, budget: int | None, seed: int | None) -> str:
    """The draw of this budget and seed, or the only one that fits what is given.

    Raises: QueryError where there is none, or more than one.
    """
    pattern = re.compile(re.escape(decision.ledger) + r"-(\d+)-(\d+)")
    found = [pattern.fullmatch(name) for name in decision.store.folder.names("audit")]
    draws = [(int(match[1]), int(match[2])) for match in found if match]
    fitting = [one for one in draws if budget in (None, one[0]) and seed in (None, one[1])]
    if len(fitting) == 1:
        return draw_name(decision, *fitting[0])
    known = ", ".join(f"--budget {budget} --seed {seed}" for budget, seed in sorted(fitting or draws))
    msg = f"{decision.ledger} has no single such draw; it has {known or 'none'}"
    if not draws:
        msg += ": draw one first, with the same command without --answers"
    raise QueryError(msg)


def read_sample(decision: Decision, name: str) -> list[SampleRow]:
    """The rows that were drawn, from sample.csv of this draw.

    Raises: StoreError where it is not there or not as it was written.
    """
    folder = decision.store.folder
    try:
        text = folder.read_bytes(f"{name}/sample.csv").decode()
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
        found = [
            SampleRow(row["uid"], row["key"], row["stratum"], _share(row), row["verdict"], row["dropped_by"])
            for row in rows
        ]
        if not found:
            _refuse("no rows")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as cause:
        msg = (
            f"{redact(folder.url)}/{name}/sample.csv can't be read ({cause}): draw again with the same "
            "budget and seed, which gives the same sample"
        )
        raise StoreError(msg) from cause
    return found


def answers_of(path: Path, rows: Sequence[SampleRow], name: str) -> dict[str, bool]:
    """Uid -> whether its image and caption match, for those that were answered.

    Raises: QueryError naming file, line and what to do: no such file, no text, columns missing, a
    value that is no answer, contradictory answers, a uid that was not drawn, no answers at all.
    """
    try:
        said = read_answers(str(path))
    except ValueError as cause:
        raise QueryError(str(cause)) from cause
    found = dict(zip(format_uids(said.uids), said.ok.tolist(), strict=True))
    if not found:
        msg = f"{path} holds no answers: open {name}/index.html, answer, and save them"
        raise QueryError(msg)
    drawn = {row.uid for row in rows}
    strange = [uid for uid in found if uid not in drawn]
    if strange:
        line, uid = min((_line_of(path, uid), uid) for uid in strange)
        more = f" ({len(strange):,} such answers)" if len(strange) > 1 else ""
        msg = (
            f"{path}, line {line}: uid {uid} is not in the draw {name}{more}: give the answers of its own "
            "page, or the --budget, --seed and --decision that these were drawn with"
        )
        raise QueryError(msg)
    return found


def count_answers(rows: Iterable[SampleRow], answers: Mapping[str, bool]) -> list[Answered]:
    """The answers of each stratum; an answer counts for every drawn copy of its content."""
    strata: dict[str, list[SampleRow]] = {}
    for row in rows:
        strata.setdefault(row.stratum, []).append(row)
    found = []
    for name, members in strata.items():
        said = [answers[row.uid] for row in members if row.uid in answers]
        size = round(len(members) / members[0].probability)
        first = members[0]
        found.append(
            Answered(
                name, first.dropped_by, first.verdict, size, len(members), len(said), len(said) - sum(said)
            )
        )
    return found


def _share(row: Mapping[str, str]) -> float:
    share = float(row["probability"])
    if not 0 < share <= 1:
        _refuse(f"{share} is no probability")
    return share


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)


def _line_of(path: Path, uid: str) -> int:
    lines = path.read_text(encoding="utf-8-sig").lower().splitlines()
    return next(number for number, line in enumerate(lines, 1) if uid in line)
