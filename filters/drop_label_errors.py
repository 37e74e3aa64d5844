"""Drop samples whose caption names another concept than the picture shows: confident learning."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow.compute as pc
from pydantic import Field

from filters.core.declaration import Columns, Judgement, OnNull, RelationalFilter, missing, numbers
from filters.core.label_options import LabelOptions


class _Relation:
    """The comparison that a rule needs: of the class, of rules with one label, or with several."""

    def __get__(self, rule: DropLabelErrors | None, _: type[DropLabelErrors]) -> str:
        return "label_errors" if rule is None or not rule.multi_label else "label_errors_multi"


class _Judged:
    """The columns that judge: a bound on p_mislabelled needs no more."""

    def __get__(self, rule: DropLabelErrors | None, _: type[DropLabelErrors]) -> tuple[str, ...]:
        by_bound = rule is not None and rule.method == "p_mislabelled"
        return ("p_mislabelled",) if by_bound else ("p_mislabelled", "issue")


class DropLabelErrors(LabelOptions, RelationalFilter):
    """Drop a sample when its label is probably wrong, by what the pool's labels say of one another.

    Confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068). The label is the one
    concept of a vocabulary that the caption names; probabilities are zero-shot ones, with prompt
    ensembles, and concepts with children as in CHiLS (arXiv 2302.02551), or those of a file. Where a
    class's probability reaches the mean of that class's own samples, a sample counts as one of it;
    these counts say how many samples of each label belong to which other class, and
    `prune_by_noise_rate` drops as many, those where the other class leads most. `prune_by_class`
    takes the lowest probabilities of each label, `both` what both take, `confident_learning` those
    that were counted elsewhere. `p_mislabelled` drops above a probability that weighs each class
    with how often it is given this label: it ranked real annotators' errors best.

    With `multi_label` every concept without children is judged on its own, named or not, and
    `p_mislabelled` is 1 less the exponential mean of their scores, the lowest counting most.

    A sample whose caption names no concept, or several, can't be judged and stays (`on_null: keep`);
    the column `reason` says why. The value is p_mislabelled; of a single label p_clean is 1 less it.
    """

    shorthand: ClassVar[str] = "labels"
    tags: ClassVar[tuple[str, ...]] = ("p_clean",)
    relation: ClassVar[_Relation] = _Relation()
    relation_reads: ClassVar[_Judged] = _Judged()
    relation_options: ClassVar[tuple[str, ...]] = (
        "labels",
        "probabilities",
        "method",
        "multi_label",
        "temperature",
    )

    on_null: OnNull = Field(default="keep", description="Verdict of a row whose label can't be judged.")

    def reads(self) -> tuple[str, ...]:
        return ("uid", "caption")

    def judge(self, columns: Columns) -> Judgement:
        value = numbers(columns["p_mislabelled"])
        null = missing(value)
        # Of several labels it is a mean of scores, and no probability.
        tags = {"p_clean": np.full_like(value, np.nan) if self.multi_label else 1 - value}
        if self.method == "p_mislabelled":
            with np.errstate(invalid="ignore"):
                passes = value <= np.float32(self.p_above)
            return Judgement(passes, null, value, f"p_mislabelled at most {self.p_above:.9g}", tags)
        issue = columns["issue"]
        null |= pc.is_null(issue).to_numpy(zero_copy_only=False)
        passes = ~pc.fill_null(issue, fill_value=False).to_numpy(zero_copy_only=False)
        return Judgement(passes, null, value, f"no label error by {self.method}", tags)
