"""Confident learning where a caption may name several concepts: each concept is judged on its own.

Every concept without children is a question of its own: whether the caption names it against
whether the picture shows it (Northcutt et al. 2021, arXiv 1911.00068, for two classes). The score of
a row is the exponential mean of those of its concepts, named or not, from the highest to the lowest
(Thyagarajan et al. 2022, "Identifying incorrect annotations in multi-label classification data",
arXiv 2211.13895). Probabilities are Platt's, of the log-odds of
the zero-shot softmax: with a temperature that is given, or the model's, slope and intercept are 1
and 0; otherwise they are fitted to what captions name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.core.confident import PROBABILITY_UNIT, Counts, Floats, ema, multi_label_scores, thresholds
from filters.core.declaration import Columns
from transforms.deciding import DecidePart
from transforms.labelled import SCORES, LabelledRelation
from transforms.labelling import LABELLED, NO_EMBEDDING, NOT_COMPARED, REASONS, SEVERAL, ZeroShot
from transforms.noise.platt import BINS, count_scores, fit_platt, log_odds, platt
from transforms.noise.zero_shot import softmax
from transforms.relating import Task

_SLACK = 1e-6  # as in `filters.core.confident`
Mask = NDArray[np.bool_]


class LabelErrorsMulti(LabelledRelation):
    """Any number of labels for each row, which come from its caption; none: nothing is said.

    Stages: *label* says which concepts each row names, *calibrate* counts log-odds, *thresholds*
    adds up the mean probability of each concept where it is named and where it is not.
    """

    stages: ClassVar[tuple[str, ...]] = ("prepare", "label", "calibrate", "thresholds", "write")

    @property
    def zero_shot(self) -> ZeroShot:
        """The only source that can say several labels of a row."""
        if not isinstance(self.source, ZeroShot):
            raise TypeError(self.rule)
        return self.source

    def tasks(self, stage: str, parts: Sequence[DecidePart]) -> list[Task]:
        if stage == "prepare":
            return self.source.tasks(stage)
        if stage == "calibrate" and self.rule.temperature != "calibrated":
            return []
        return self.lots(parts)

    def run(self, stage: str, task: Task) -> None:
        if stage == "prepare":
            self.source.run(stage, task)
            return
        {
            "label": self._label,
            "calibrate": self._calibrate,
            "thresholds": self._count_thresholds,
            "write": self._write,
        }[stage](task)

    def summary(self, parts: Sequence[DecidePart]) -> dict[str, Any]:
        not_judged, lots = self.saved_counts(parts)
        wrong = [
            sum(lot["wrong"][side][at] for lot in lots) for side in range(2) for at in range(self.classes)
        ]
        named, unnamed = self._sums[1].reshape(2, -1).tolist()
        means = [None if np.isnan(mean) else float(mean) for mean in self._means.ravel()]
        slope, intercept = self._platt
        return {
            "labelled": sum(lot["labelled"] for lot in lots),
            "not_judged": not_judged,
            "issues": sum(lot["issues"] for lot in lots),
            "temperature": self.zero_shot.temperature,
            "slope": slope,
            "intercept": intercept,
            "classes": [
                {
                    "class": name,
                    "labelled": named[at],
                    "threshold": means[at],
                    "counted_absent": wrong[at],
                    "not_labelled": unnamed[at],
                    "threshold_absent": means[self.classes + at],
                    "counted_present": wrong[self.classes + at],
                }
                for at, name in enumerate(self.source.names)
            ],
        }

    # --- stages

    def _label(self, task: Task) -> None:
        for part in task.parts:
            reason = self.source.label(part)["reason"]
            self.save(f"reasons/{part.number}", np.where(reason == SEVERAL, LABELLED, reason))
            self.save(f"named/{part.number}", np.packbits(self.zero_shot.named(part), axis=1))

    def _calibrate(self, task: Task) -> None:
        counts = np.zeros((2, BINS), np.int64)
        for named, scores in self._scored(task):
            counts += count_scores(scores, named)
        self.save(f"calibrate/{task.number}", counts)

    def _count_thresholds(self, task: Task) -> None:
        sums = np.zeros((2, 2, self.classes), np.int64)
        for named, scores in self._scored(task):
            fits = np.round(multi_label_scores(named, self._probabilities(scores)) / PROBABILITY_UNIT)
            for side, mask in enumerate((named, ~named)):
                sums[0, side] += np.where(mask, fits, 0).astype(np.int64).sum(axis=0)
                sums[1, side] += mask.sum(axis=0)
        self.save(f"thresholds/{task.number}", sums.reshape(2, -1))

    def _write(self, task: Task) -> None:
        reasons, wrong = np.zeros(len(REASONS), np.int64), np.zeros((2, self.classes), np.int64)
        about = {"labelled": 0, "issues": 0}
        for part in task.parts:
            stored, named = self._named(part)
            reason = self.reasons_of(stored, self._sums[1, : self.classes])
            columns, counted = self._judge(part, reason, named)
            self.write_judged(part, reason, columns)
            reasons += np.bincount(reason[reason != NOT_COMPARED], minlength=len(REASONS))
            wrong += counted
            about["labelled"] += int(np.count_nonzero(reason == LABELLED))
            about["issues"] += pc.sum(columns["issue"]).as_py() or 0
        self.save_counts(task.number, reasons, {**about, "wrong": wrong.tolist()})

    def _judge(self, part: DecidePart, reason: NDArray[np.int8], named: Mask) -> tuple[Columns, Counts]:
        """All columns but the reason; (2, K) how often a named concept is absent, another one present."""
        scores = np.full((len(SCORES), part.rows), np.nan, np.float32)
        issue, wrong = np.full(part.rows, -1, np.int8), np.zeros((2, self.classes), np.int64)
        shown = np.zeros_like(named)
        for rows, logits in self.logits(part, reason != NOT_COMPARED):
            probabilities = self._probabilities(self._log_odds(logits))
            shown[rows] = probabilities > 0.5
            judged = reason[rows] == LABELLED
            some, own = rows[judged], named[rows[judged]]
            fits = multi_label_scores(own, probabilities[judged])
            scores[:, some] = (mean := ema(fits)), fits.min(axis=1), 1 - mean
            off = self._counted_elsewhere(own, probabilities[judged])
            wrong += [(off & own).sum(axis=0), (off & ~own).sum(axis=0)]
            issue[some] = self._issues(off, scores[2, some])
        if self.rule.method == "p_mislabelled" and not self.is_measure:
            issue[:] = -1  # the filter's own bound decides, which can change without comparing again
        known = ~np.isin(reason, (NOT_COMPARED, NO_EMBEDDING))
        columns: Columns = {
            "label": self._joined(named, reason != NOT_COMPARED),
            "suggested": self._joined(shown, known),
            **{name: pa.array(values, from_pandas=True) for name, values in zip(SCORES, scores, strict=True)},
            "issue": pa.array(issue == 1, mask=issue < 0),
        }
        return columns, wrong

    def _issues(self, off: Mask, wrong: NDArray[np.float32]) -> Mask:
        if self.rule.method == "p_mislabelled":
            return np.asarray(wrong > np.float32(self.rule.p_above))
        return np.asarray(off.any(axis=1))

    def _counted_elsewhere(self, named: Mask, probabilities: Floats) -> Mask:
        """(n, K): concepts that the joint of their two classes counts outside its diagonal.

        So is a named one that is absent with at least the mean probability of those that are not
        named, and an unnamed one that is present with at least the mean of the named ones.
        """
        present, absent = self._means
        gone = (1 - probabilities >= absent - _SLACK) & (probabilities <= 0.5)
        come = (probabilities >= present - _SLACK) & (probabilities > 0.5)
        return np.asarray(np.where(named, gone, come))

    # --- what stages know of one another

    @cached_property
    def _platt(self) -> tuple[float, float]:
        """Slope and intercept."""
        if self.rule.temperature != "calibrated":
            return 1.0, 0.0
        return fit_platt(self.total("calibrate", 2, BINS))

    @cached_property
    def _sums(self) -> Counts:
        """(2, 2K): sums of probabilities, and of how many; of named concepts, then of the others."""
        return self.total("thresholds", 2, 2 * self.classes)

    @cached_property
    def _means(self) -> Floats:
        """(2, K): mean probability of presence where named, and of absence where not."""
        return thresholds(self._sums).reshape(2, -1)

    def _probabilities(self, scores: Floats) -> Floats:
        return platt(scores, *self._platt)

    def _log_odds(self, logits: NDArray[np.float32]) -> Floats:
        return log_odds(softmax(logits, self.zero_shot.temperature))

    def _scored(self, task: Task) -> Iterator[tuple[Mask, Floats]]:
        """The rows with labels, some at a time: which concepts they name, and log-odds of all."""
        for part in task.parts:
            reason, named = self._named(part)
            for rows, logits in self.logits(part, reason == LABELLED):
                yield named[rows], self._log_odds(logits)

    def _named(self, part: DecidePart) -> tuple[NDArray[np.int8], Mask]:
        """Why rows have no label, and which concepts they name."""
        packed = np.asarray(self.load(f"named/{part.number}"))
        named = np.unpackbits(packed, axis=1, count=self.classes).astype(np.bool_)
        return np.asarray(self.load(f"reasons/{part.number}")), named

    def _joined(self, chosen: Mask, known: Mask) -> pa.Array:
        """The names of the concepts chosen in each row; null for none."""
        names = np.array(self.source.names, object)
        texts = [", ".join(names[row]) if any_ else None for row, any_ in zip(chosen, known, strict=True)]
        return pa.array([text or None for text in texts], pa.string())
