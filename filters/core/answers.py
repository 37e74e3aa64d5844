"""What people said of single pairs: a CSV file with the columns uid and ok, and maybe probability."""

from __future__ import annotations

import contextlib
import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.uids import format_uids, is_uid, parse_uids, uid_fraction

MOST_ANSWERS = 100_000
_SEED = 20  # of the hash that thins; not that of folds
_WORDS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Answers:
    """The audited samples, in the order of their uids, each once.

    Attributes:
        uids: (a, 2) uint64; ok: (a,) bool, True for a good pair.
        probability: (a,) float64 in (0, 1], of each to be drawn; 1 where nothing is known of that.
    """

    uids: NDArray[np.uint64]
    ok: NDArray[np.bool_]
    probability: NDArray[np.float64]

    @property
    def fingerprint(self) -> str:
        """32 hex digits that name the answers, whatever the file's name, order and other columns."""
        said = (
            self.uids.astype(">u8").tobytes() + self.ok.tobytes() + self.probability.astype("<f8").tobytes()
        )
        return hashlib.blake2b(said, digest_size=16).hexdigest()

    def evened(self) -> Answers:
        """Those of a sample in which all had the same probability to be drawn.

        Answers that were likelier to be drawn stay with the least probability / their own, by a hash
        of the uid, whatever they say.
        """
        if not len(self.ok):
            return self
        stay = uid_fraction(self.uids, _SEED) * self.probability < self.probability.min()
        return Answers(self.uids[stay], self.ok[stay], self.probability[stay])

    def count(self, uids: NDArray[np.uint64], values: NDArray[np.int64]) -> NDArray[np.int64]:
        """How often each answered sample is among these, and the sum of its values: (2, a) int64.

        uids: (n, 2) uint64; values: (n,) int64. Counts of parts add up.
        """
        known, asked = _as_bytes(self.uids), _as_bytes(uids)
        at = np.searchsorted(known, asked)
        rows = np.flatnonzero(at < len(known))
        rows = rows[known[at[rows]] == asked[rows]]
        found = np.zeros((2, len(known)), np.int64)
        np.add.at(found[0], at[rows], 1)
        np.add.at(found[1], at[rows], values[rows])
        return found


def answers_json(answers: Answers) -> dict[str, Any]:
    """The answers as JSON values."""
    return {
        "uids": format_uids(answers.uids),
        "ok": answers.ok.tolist(),
        "probability": answers.probability.tolist(),
    }


def answers_of(stored: dict[str, Any]) -> Answers:
    """The answers that `answers_json` wrote."""
    uids = parse_uids(pa.array(stored["uids"], pa.string()))
    return Answers(uids, np.array(stored["ok"], np.bool_), np.array(stored["probability"], np.float64))


def read_answers(path: str) -> Answers:
    """The answers of a local file: a uid is 32 hex digits, ok is 1, true, 0 or false.

    A column probability says how likely the sample was drawn; other columns are ignored. An answer
    that repeats counts once, as it stands first.
    Raises: ValueError naming file and line: no such file, no CSV, no column uid or ok, a value that
    is neither, contradictory answers for one uid, or more than 100,000 of them.
    """
    found: dict[str, tuple[bool, float, int]] = {}
    for line, uid, ok, probability in _rows(path):
        first, _, before = found.setdefault(uid, (ok, probability, line))
        if first != ok:
            msg = f"{path}, lines {before} and {line}: uid {uid} is both ok and not ok: keep one answer"
            raise ValueError(msg)
        if len(found) > MOST_ANSWERS:
            msg = f"{path} has more than {MOST_ANSWERS:,} answers: that is no audit of single samples"
            raise ValueError(msg)
    names = sorted(found)
    oks, probabilities = ([found[name][at] for name in names] for at in (0, 1))
    return answers_of({"uids": names, "ok": oks, "probability": probabilities})


def _rows(path: str) -> Iterator[tuple[int, str, bool, float]]:
    """Line, uid, answer and probability of each row."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = reader.fieldnames or []
            if not {"uid", "ok"} <= set(columns):
                shown = ", ".join(columns)[:80] or "none"
                msg = f"{path}, line 1: answers have the columns uid and ok, not {shown}"
                raise ValueError(msg)
            for row in reader:
                yield reader.line_num, *_answer(row, f"{path}, line {reader.line_num}")
    except OSError as cause:
        msg = f"can't read the answers {path}: {cause.strerror or cause}"
        raise ValueError(msg) from cause
    except (csv.Error, UnicodeDecodeError) as cause:
        msg = f"{path} is no CSV file in UTF-8: {cause}"
        raise ValueError(msg) from cause


def _answer(row: dict[str, str | None], where: str) -> tuple[str, bool, float]:
    uid, said = ((row[name] or "").strip().lower() for name in ("uid", "ok"))
    if not is_uid(uid):
        msg = f"{where}: a uid is 32 hex digits, not {uid!r}"
        raise ValueError(msg)
    if said not in _WORDS:
        msg = f"{where}: ok is 1 or true for a good pair, 0 or false for a bad one, not {said!r}"
        raise ValueError(msg)
    return uid, _WORDS[said], _probability(row.get("probability", "1"), where)


def _probability(given: str | None, where: str) -> float:
    with contextlib.suppress(ValueError):
        found = float(given or "")
        if 0 < found <= 1:
            return found
    msg = f"{where}: a probability is above 0 and at most 1, not {given!r}"
    raise ValueError(msg)


def _as_bytes(uids: NDArray[np.uint64]) -> NDArray[np.bytes_]:
    """Each uid as 16 bytes that sort as it does."""
    return np.ascontiguousarray(uids.astype(">u8")).view("S16").ravel()
