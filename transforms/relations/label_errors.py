"""Confident learning over a pool: which of the labels that captions give are wrong, and how likely.

Northcutt, Jiang and Chuang 2021, arXiv 1911.00068; the formulas are in `filters.core.confident`. The
temperature of zero-shot probabilities is the one under which the given labels are likeliest, errors
among them allowed for (`calibrated_scale` of `filters.core.prototypes`), found on at most 20,000 of
them, drawn by uid hash: one number can't fit single labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.core.confident import (
    Counts,
    Rule,
    calibrated_joint,
    confident_classes,
    joint_counts,
    normalised_margin,
    p_mislabelled,
    self_confidence,
    threshold_sums,
    thresholds,
)
from filters.core.declaration import Columns
from filters.core.prototypes import calibrated_scale
from filters.core.uids import uid_fraction
from transforms.deciding import DecidePart
from transforms.labelled import SCORES, LabelledRelation
from transforms.labelling import LABELLED, NOT_COMPARED, REASONS, Files, Labelled, ZeroShot
from transforms.noise.label_issues import RECORD, Bounds, candidates, issues, lowest, quotas
from transforms.noise.zero_shot import softmax
from transforms.relating import Task

CALIBRATION_ROWS, CALIBRATION_NUMBERS = 20_000, 20_000_000
CUT_TASKS = 16
CELLS_NAMED = 10_000  # of the joint, in the summary
Probabilities = NDArray[np.float32]


class LabelErrors(LabelledRelation):
    """One label for each row.

    Stages: *label* says each row's label, *draw* and *calibrate* find the temperature, *thresholds*
    and *joint* count; *quotas* says how many rows of each cell are issues, *select* lists the lowest
    of each lot, *cut* those of the pool.
    """

    stages: ClassVar[tuple[str, ...]] = (
        *LabelledRelation.preparing,
        *("label", "draw", "calibrate", "thresholds", "joint", "quotas", "select", "cut", "write"),
    )

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        if stage in self.preparing:
            return self.source.tasks(stage)
        lots = self.lots(parts)
        if stage in ("draw", "calibrate") and not self._calibrates:
            return []
        if stage in ("calibrate", "quotas"):
            return [Task(0)]
        if stage in ("select", "cut") and not self._wanted.any():
            return []
        if stage == "cut":
            groups = np.array_split(np.arange(self.classes), min(CUT_TASKS, self.classes))
            ends = [(int(some[0]), int(some[-1]) + 1) for some in groups]
            return [Task(number, (), (len(lots), *some)) for number, some in enumerate(ends)]
        return lots

    def run(self, stage: str, task: Task) -> None:
        if stage in self.preparing:
            self.source.run(stage, task)
            return
        if stage in ("calibrate", "quotas"):
            {"calibrate": self._calibrate, "quotas": self._set_quotas}[stage]()
            return
        {
            "label": self._label,
            "draw": self._draw,
            "thresholds": self._count_thresholds,
            "joint": self._count_joint,
            "select": self._select,
            "cut": self._cut,
            "write": self._write,
        }[stage](task)

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:
        not_judged, lots = self.saved_counts(parts)
        names = self.source.names
        joint, rows, means = self._joint, self._sums[1], thresholds(self._sums)
        cells = [(int(joint[cell]), *map(int, cell)) for cell in zip(*np.nonzero(joint), strict=True)]
        cells.sort(key=lambda cell: (-cell[0], *cell[1:]))
        return {
            "labelled": int(rows.sum()),
            "not_judged": not_judged,
            "issues": sum(lot["issues"] for lot in lots),
            "temperature": self._temperature,
            "classes": [
                {"class": name, "labelled": int(many), "threshold": None if np.isnan(mean) else float(mean)}
                for name, many, mean in zip(names, rows, means, strict=True)
            ],
            # [given label, class that they belong to, how many], most frequent first.
            "joint": [[names[given], names[other], many] for many, given, other in cells[:CELLS_NAMED]],
            **({"unknown_uids": self._unknown_uids(self.source)} if isinstance(self.source, Files) else {}),
        }

    # --- stages

    def _label(self, task: Task) -> None:
        counts = np.zeros(self.classes, np.int64)
        for part in task.parts:
            found = self.source.label(part)
            found["label"][found["reason"] != LABELLED] = -1
            self.save(f"labels/{part.number}", found)
            counts += np.bincount(found["label"][found["label"] >= 0], minlength=self.classes)
        self.save(f"label/{task.number}", counts)
        if isinstance(self.source, Files):
            self.save(f"known/{task.number}", np.packbits(self.source.found(task.parts)))

    def _draw(self, task: Task) -> None:
        many = min(CALIBRATION_ROWS, CALIBRATION_NUMBERS // self.classes)
        share = many / max(1, int(self._label_counts.sum()))
        found = [np.zeros(0, self._drawn_type)]
        for part in task.parts:
            labels, uids = self._labels(part)["label"], self.uids(part)
            drawn = (labels >= 0) & (uid_fraction(uids, 0) < share)
            for rows, logits in self.source.logits(part, drawn):
                records = np.zeros(len(rows), self._drawn_type)
                records["uid"], records["label"], records["logits"] = uids[rows], labels[rows], logits
                found.append(records)
        self.save(f"draw/{task.number}", np.concatenate(found))

    def _calibrate(self) -> None:
        records = np.concatenate([self.load(name) for name in self.saved("draw")])
        # In one order, whatever the lots: sums of floats depend on it.
        records = records[np.lexsort((records["uid"][:, 1], records["uid"][:, 0]))]
        # The products are the cosines already, so that each class is a direction of its own.
        scale = calibrated_scale(records["logits"], records["label"].astype(np.int64), np.eye(self.classes))
        self.scope.folder.write_json(self.scope.work("temperature.json"), 1 / scale)

    def _count_thresholds(self, task: Task) -> None:
        sums = np.zeros((2, self.classes), np.int64)
        for _, _, labels, probabilities in self._labelled(task):
            sums += threshold_sums(labels, probabilities)
        self.save(f"thresholds/{task.number}", sums)

    def _count_joint(self, task: Task) -> None:
        counts = np.zeros((self.classes, self.classes), np.int64)
        bounds = thresholds(self._sums)
        for _, _, labels, probabilities in self._labelled(task):
            counts += joint_counts(labels, confident_classes(probabilities, bounds), self.classes)
        self.save(f"joint/{task.number}", counts)

    def _set_quotas(self) -> None:
        joint = calibrated_joint(self.total("joint", self.classes, self.classes), self._sums[1])
        self.save("joint", joint)
        self.save("wanted", quotas(joint, self._rule or "confident_learning"))

    def _select(self, task: Task) -> None:
        found = np.zeros(0, RECORD)
        for part, rows, labels, probabilities in self._labelled(task):
            some = candidates(labels, probabilities, self.uids(part)[rows], self._wanted)
            found = lowest(np.concatenate([found, some]), self._wanted)
        self.save(f"select/{task.number}", found)

    def _cut(self, task: Task) -> None:
        lots, first, end = task.keys
        found = []
        for number in range(lots):
            records = self.load(f"select/{number}")
            start, stop = np.searchsorted(records["cell"], [first * self.classes, end * self.classes])
            found.append(records[start:stop])
        self.save(f"cut/{task.number}", lowest(np.concatenate(found), self._wanted))

    def _write(self, task: Task) -> None:
        reasons, found_issues = np.zeros(len(REASONS), np.int64), 0
        for part in task.parts:
            stored = self._labels(part)
            reason = self.reasons_of(stored["reason"], self._label_counts)
            columns = self._judge(part, stored, reason == LABELLED)
            self.write_judged(part, reason, columns)
            reasons += np.bincount(reason[reason != NOT_COMPARED], minlength=len(REASONS))
            found_issues += pc.sum(columns["issue"]).as_py() or 0
        self.save_counts(task.number, reasons, {"issues": found_issues})

    def _judge(self, part: DecidePart, stored: Labelled, judged: NDArray[np.bool_]) -> Columns:
        """All columns but the reason."""
        suggested, issue = np.full(part.rows, -1), np.full(part.rows, -1, np.int8)
        scores = np.full((len(SCORES), part.rows), np.nan, np.float32)
        uids = self.uids(part)
        for rows, probabilities in self._probabilities(part, stored["reason"] != NOT_COMPARED):
            labels = np.where(judged[rows], stored["label"][rows], -1)
            suggested[rows] = np.argmax(probabilities, axis=1)
            scores[0, rows] = self_confidence(labels, probabilities)
            scores[1, rows] = normalised_margin(labels, probabilities)
            scores[2, rows] = p_mislabelled(labels, probabilities, self._joint)
            issue[rows] = np.where(
                labels >= 0, self._issues(labels, probabilities, uids[rows], scores[2, rows]), -1
            )
        if self._rule is None and not self.is_measure:
            issue[:] = -1  # the filter's own bound decides, which can change without comparing again
        return {
            "label": self.named(stored["label"]),
            "suggested": self.named(suggested),
            **{name: pa.array(values, from_pandas=True) for name, values in zip(SCORES, scores, strict=True)},
            "issue": pa.array(issue == 1, mask=issue < 0),
        }

    def _issues(
        self, labels: Counts, probabilities: Probabilities, uids: NDArray[np.uint64], wrong: Probabilities
    ) -> NDArray[np.bool_]:
        if self._rule is None:
            with np.errstate(invalid="ignore"):
                return np.asarray(wrong > np.float32(self.rule.p_above))
        confident = confident_classes(probabilities, thresholds(self._sums))
        return issues(labels, probabilities, uids, rule=self._rule, confident=confident, bounds=self._bounds)

    # --- what stages know of one another

    @property
    def _rule(self) -> Rule | None:
        """The rule of confident learning; None for a bound on p_mislabelled."""
        method = self.rule.method
        return None if method == "p_mislabelled" else method

    @cached_property
    def _label_counts(self) -> Counts:
        """(K,) rows with each label."""
        return self.total("label", self.classes)

    @property
    def _calibrates(self) -> bool:
        zero_shot = isinstance(self.source, ZeroShot) and self.rule.temperature == "calibrated"
        return zero_shot and int(np.count_nonzero(self._label_counts)) > 1

    @property
    def _drawn_type(self) -> np.dtype[np.void]:
        return np.dtype([("uid", "<u8", (2,)), ("label", "<i4"), ("logits", "<f4", (self.classes,))])

    @cached_property
    def _temperature(self) -> float | None:
        """What cosines are divided by; None where probabilities are the user's own."""
        if not isinstance(self.source, ZeroShot):
            return None
        if self._calibrates:
            return float(self.scope.folder.read_json(self.scope.work("temperature.json")))
        return self.source.temperature

    @cached_property
    def _sums(self) -> Counts:
        """(2, K): what thresholds are made of, over all rows."""
        return self.total("thresholds", 2, self.classes)

    @cached_property
    def _joint(self) -> Counts:
        """(K, K): the calibrated joint."""
        return np.asarray(self.load("joint"))

    @cached_property
    def _wanted(self) -> Counts:
        """(K, K): how many rows of each cell are issues."""
        return np.asarray(self.load("wanted"))

    @cached_property
    def _bounds(self) -> Bounds:
        names = self.saved("cut") if self._wanted.any() else []
        records = [np.zeros(0, RECORD), *map(self.load, names)]
        return Bounds.of(np.concatenate(records), self.classes)

    def _probabilities(
        self, part: DecidePart, mask: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.intp], Probabilities]]:
        """Of the masked rows that have any: row numbers, and (m, K) probabilities, some at a time."""
        for rows, logits in self.logits(part, mask):
            if self._temperature is None:
                yield rows, logits
            else:
                yield rows, softmax(logits, self._temperature).astype(np.float32)

    def _labelled(self, task: Task) -> Iterator[tuple[DecidePart, NDArray[np.intp], Counts, Probabilities]]:
        """The rows with a label: part, row numbers, labels and probabilities, some at a time."""
        for part in task.parts:
            labels = self._labels(part)["label"]
            for rows, probabilities in self._probabilities(part, labels >= 0):
                yield part, rows, labels[rows].astype(np.int64), probabilities

    def _labels(self, part: DecidePart) -> Labelled:
        return np.asarray(self.load(f"labels/{part.number}"))

    def _unknown_uids(self, files: Files) -> int:
        """Rows of the user's files that the pool does not have."""
        marks = [self.load(name) for name in self.saved("known")]
        found = int(np.unpackbits(np.bitwise_or.reduce(marks)).sum()) if marks else 0
        return sum(sum(file.groups) for file in files.files) - found
