"""What the answers of an audit say of each filter and of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curate.audit.answers import Answered, SampleRow
from curate.audit.draw import Group
from curate.audit.estimate import CONFIDENCE, Estimate, Tally, bad_share, part_of

FEWEST = 5  # answers; fewer leave any share possible, unless they are all there is
KEPT: Group = ("", "keep")
METHOD = (
    "stratified estimates of shares of the pool's readable samples; exact hypergeometric limits within "
    "a stratum, combined by their squared distances; unanswered samples are taken to be like the "
    "answered ones of their stratum, a stratum without answers like the others of its filter"
)


@dataclass(frozen=True)
class GroupResult:
    """What was found of the samples that one filter stopped in one way, or of the kept ones.

    Attributes:
        precision: the share of these that is bad; missed: the share that is bad of what passed the
            filter, kept or stopped by a later one. None where there are too few answers.
    """

    dropped_by: str
    verdict: str
    rows: int
    drawn: int
    answered: int
    bad: int
    precision: Estimate | None
    missed: Estimate | None


@dataclass(frozen=True)
class AuditResult:
    """What the answers say. Every estimate is None where there are too few answers for it.

    Attributes:
        groups: in the recipe's order, those with rows.
        kept_bad: the miss rate, the share of kept samples that is bad.
        stopped_bad: the share that is bad of what any filter stopped.
        pool_bad: of all readable samples.
        bad_stopped: of all bad samples, the share that was stopped.
        good_lost: of all good samples, the share that was stopped.
        left_out: samples of groups without any answer, which no number over several groups covers.
    """

    strata: tuple[Answered, ...]
    groups: tuple[GroupResult, ...]
    kept_bad: Estimate | None
    stopped_bad: Estimate | None
    pool_bad: Estimate | None
    bad_stopped: Estimate | None
    good_lost: Estimate | None
    left_out: int

    @property
    def drawn(self) -> int:
        """Samples that were drawn."""
        return sum(one.drawn for one in self.strata)

    @property
    def answered(self) -> int:
        """Samples of these with an answer."""
        return sum(one.answered for one in self.strata)


def audit_result(strata: Sequence[Answered], filters: Sequence[str]) -> AuditResult:
    """The result from each stratum's answers; filters: the names of the recipe's, in order."""
    tallies = _tallies(strata)
    order = ["", *filters]
    groups = sorted({one.group for one in strata}, key=lambda group: (order.index(group[0]), group[1]))
    kept = tallies.get(KEPT, [])
    stopped = [tally for group in groups if group != KEPT for tally in tallies[group]]
    # A share of kept and stopped ones together needs answers on both sides, where both have rows.
    both = (kept or KEPT not in groups) and (stopped or groups == [KEPT])
    whole = [*kept, *stopped] if both else []
    return AuditResult(
        strata=tuple(strata),
        groups=tuple(
            _group_result(group, [one for one in strata if one.group == group], tallies, order)
            for group in groups
            if group != KEPT
        ),
        kept_bad=_bad(kept),
        stopped_bad=_bad(stopped),
        pool_bad=_bad(whole),
        bad_stopped=part_of(stopped, kept, of="bad") if _enough(whole) else None,
        good_lost=part_of(stopped, kept, of="good") if _enough(whole) else None,
        left_out=sum(one.rows for one in strata if not tallies[one.group]),
    )


def result_json(result: AuditResult, draw: str, ledger: str) -> dict[str, Any]:
    """The result as result.json holds it."""
    found = asdict(result)
    counts = {"drawn": result.drawn, "answered": result.answered, "left_out_rows": found.pop("left_out")}
    about = {"draw": draw, "ledger": ledger, "confidence": CONFIDENCE, "method": METHOD}
    return {**about, **counts, **found}


def audited_csv(rows: Iterable[SampleRow], answers: Mapping[str, bool], strata: Sequence[Answered]) -> str:
    """The answers as text with the columns uid, ok and probability, as `fuse` takes audited samples.

    probability: of a sample to be drawn and answered; the first where copies of one content have several.
    """
    share = {}
    for group, found in _tallies(strata).items():
        answered = [one for one in strata if one.group == group and one.answered]
        share.update({s.name: t.answered / t.stands_for for s, t in zip(answered, found, strict=True)})
    said: dict[str, float] = {}
    for row in rows:
        if row.uid in answers:
            said.setdefault(row.uid, share[row.stratum])
    lines = [f"{uid},{int(answers[uid])},{probability!r}" for uid, probability in said.items()]
    return "\n".join(["uid,ok,probability", *lines]) + "\n"


def _tallies(strata: Sequence[Answered]) -> dict[Group, list[Tally]]:
    """The answered strata of each group, which stand for the unanswered ones of the group too."""
    found: dict[Group, list[Tally]] = {one.group: [] for one in strata}
    for group, tallies in found.items():
        members = [one for one in strata if one.group == group]
        answered = [one for one in members if one.answered]
        known = sum(one.rows for one in answered)
        factor = sum(one.rows for one in members) / known if known else 0.0
        tallies += [Tally(one.rows, one.answered, one.bad, one.rows * factor) for one in answered]
    return found


def _group_result(
    group: Group, members: Sequence[Answered], tallies: Mapping[Group, list[Tally]], order: Sequence[str]
) -> GroupResult:
    later = [other for other in tallies if order.index(other[0]) > order.index(group[0]) or other == KEPT]
    passed_known = bool(tallies.get(KEPT, [True]))  # most of what passes is kept
    return GroupResult(
        dropped_by=group[0],
        verdict=group[1],
        rows=sum(one.rows for one in members),
        drawn=sum(one.drawn for one in members),
        answered=sum(one.answered for one in members),
        bad=sum(one.bad for one in members),
        precision=_bad(tallies[group]),
        missed=_bad([tally for other in later for tally in tallies[other]]) if passed_known else None,
    )


def _bad(tallies: Sequence[Tally]) -> Estimate | None:
    return bad_share(tallies) if _enough(tallies) else None


def _enough(tallies: Sequence[Tally]) -> bool:
    """Whether there are answers enough, or as many as there can be."""
    answered = sum(tally.answered for tally in tallies)
    return answered >= FEWEST or 0 < answered == sum(tally.stands_for for tally in tallies)
