"""Drop pairs that several detectors together call noise."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from filters.core import calibration, fusion, ranks, selection
from filters.core.answers import Answers, answers_json, answers_of, read_answers
from filters.core.declaration import (
    Accumulator,
    Artefact,
    Columns,
    FittedFilter,
    Judgement,
    OnNull,
    missing,
    numbers,
    require_number,
)
from filters.core.errors import RecipeError
from filters.core.panel import (
    FEWEST_SOURCES,
    STEPS,
    Panel,
    fit_panel,
    fold_counts,
    overview,
    panel_json,
    panel_of,
    votes_of,
)
from filters.core.paths import OneFile, beside
from filters.core.separation import uid_folds
from filters.core.uids import format_uids, parse_uids

Floats: TypeAlias = NDArray[np.float64]

# Columns of Curate's own measures that are high where a pair is noise, under their usual names, and
# how such names end; whatever else votes is taken to be high where a pair is clean.
HIGH_IS_NOISE = frozenset({"label_agreement", "label_agreement_rank", "neighbourhood", "separation"})
HIGH_IS_NOISE_ENDING = "_p_mislabelled"
FOLDS = 5


class Vote(BaseModel):
    """A column that votes: its worst share says noise, its best share clean, what lies between nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    by: str = Field(min_length=1, description="The signal column, such as clip_cosine.")
    high: Literal["noise", "clean"] | None = Field(
        default=None,
        description="What high scores mean; none: what they mean in Curate's own columns, else clean.",
    )
    noise_share: float = Field(default=0.2, gt=0, lt=1, description="Share of scores that vote noise.")
    clean_share: float = Field(default=0.8, gt=0, lt=1, description="Share of scores that vote clean.")
    group: str | None = Field(
        default=None, description="Votes of one group agree by design and count as one source."
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return {"by": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        if self.noise_share + self.clean_share > 1 + 1e-9:
            msg = f"noise_share {self.noise_share:g} and clean_share {self.clean_share:g} are more than all"
            raise ValueError(msg)
        return self

    @model_serializer(mode="wrap")
    def _short(self, full: SerializerFunctionWrapHandler) -> Any:
        """The name alone, where nothing else was given: recipes stay as they were written."""
        given: dict[str, Any] = full(self)
        return self.by if self == Vote(by=self.by) else given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "description": "The signal column."}, handler(core_schema)]}

    @property
    def high_is_noise(self) -> bool:
        """Whether a high score says noise."""
        if self.high is None:
            return self.by in HIGH_IS_NOISE or self.by.endswith(HIGH_IS_NOISE_ENDING)
        return self.high == "noise"

    @property
    def source(self) -> str:
        """What it agrees with by design: its group, or itself."""
        return self.by if self.group is None else self.group


class Fuse(FittedFilter):
    """Drop a pair when several detectors of wrong captions together call it noise.

    Each column votes by rank: its worst 20 % for noise, the others for clean. From how the votes
    agree follows how far each is to be trusted, without any truth (Dawid and Skene 1979; Ratner et
    al. 2017, arXiv 1711.10160); votes that agree more than that explains count less. The ranks are
    combined with these weights, and p_noise is the probability of noise that the votes of pairs of
    such a combined rank have, by models that are cross-fitted over five folds by uid. A column
    without a value abstains; a pair that no column scores is null.

    Errors that all detectors share can't be seen in how they agree. So the order of p_noise can be
    relied on, its height less: the share of noise that it finds is close to the share that votes
    noise. With `audited`, a CSV file with uid and ok of samples drawn at random, the bounds are
    chosen instead: what is kept holds `precision` with `confidence` (Clopper and Pearson 1934), so
    does what is dropped, where the answers reach that far, and what lies between is null. Where
    samples were drawn with unequal chances, as by `curate audit`, a column probability must say so:
    answers that were likelier to be drawn are then thinned to equal chances.

    There is no answer, every pair is null and the bound says why, where the audited sample is too
    small; where fewer than three columns, or groups of them, say both noise and clean; where they
    agree no more than by chance, or are copies of one another; and where one says noise where the
    others say clean: turn that one round with `high: noise`. Curate's own columns neighbourhood,
    separation, label_agreement, label_agreement_rank and *_p_mislabelled are known to be high for
    noise; all others are taken to be high for clean pairs.
    """

    tags: ClassVar[tuple[str, ...]] = ("p_clean",)

    votes: tuple[Vote, ...] = Field(
        description="3 to 12 columns, by name or as {by: …, high: noise or clean, noise_share: 0.2, "
        "clean_share: 0.8, group: those that agree by design}.",
        # Checked below: pydantic would count those that are wrong in themselves as missing.
        json_schema_extra={"minItems": FEWEST_SOURCES, "maxItems": fusion.MOST_DETECTORS},
    )
    drop_if_p_noise_above: float | None = Field(
        default=None, gt=0, lt=1, description="Drop above this probability of noise."
    )
    keep_if_p_noise_below: float | None = Field(
        default=None, gt=0, lt=1, description="Keep below this one only; between the two is null."
    )
    audited: OneFile | None = Field(
        default=None, description="CSV file with uid and ok, which chooses both bounds instead."
    )
    precision: float = Field(
        default=0.95, gt=0, lt=1, description="Audited: share of what is kept that is right."
    )
    confidence: float = Field(
        default=0.95, gt=0, lt=1, description="Audited: how sure that is, for each of the two bounds."
    )
    at_least_votes: int = Field(default=1, ge=1, description="A pair with fewer scores is null.")
    of: Literal["survivors", "pool"] = Field(
        default="survivors",
        description="Fit to the samples that reached this filter, or to every sample read.",
    )
    abstain_to: OnNull | None = Field(default=None, description="Another name of on_null.")

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, given: Any) -> Any:
        """What abstain_to says stands in on_null, so that equal rules are equal."""
        if not isinstance(given, dict) or given.get("abstain_to") not in get_args(OnNull):
            return given
        rest = {name: value for name, value in given.items() if name != "abstain_to"}
        said = given["abstain_to"]
        if rest.setdefault("on_null", said) != said:
            msg = f"abstain_to {said} and on_null {rest['on_null']} are the same option: give one"
            raise ValueError(msg)
        return rest

    @field_validator("votes")
    @classmethod
    def _sources(cls, votes: tuple[Vote, ...]) -> tuple[Vote, ...]:
        names = [vote.by for vote in votes]
        if not FEWEST_SOURCES <= len(names) <= fusion.MOST_DETECTORS:
            msg = f"{len(names)} votes: it takes {FEWEST_SOURCES} to {fusion.MOST_DETECTORS}"
            raise ValueError(msg)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"{', '.join(twice)} would vote twice"
            raise ValueError(msg)
        if len({vote.source for vote in votes}) < FEWEST_SOURCES:
            msg = f"votes of fewer than {FEWEST_SOURCES} groups: their agreement says nothing"
            raise ValueError(msg)
        return votes

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        drop, keep = self.drop_if_p_noise_above, self.keep_if_p_noise_below
        if (drop is None) == (self.audited is None):
            msg = "give drop_if_p_noise_above, or audited answers that choose the bounds"
            raise ValueError(msg)
        if keep is not None and (drop is None or keep > drop):
            msg = "keep_if_p_noise_below goes with drop_if_p_noise_above and is at most that"
            raise ValueError(msg)
        if self.audited is not None and "://" in self.audited:
            msg = f"audited is a local file, not {self.audited}"
            raise ValueError(msg)
        if self.at_least_votes > len(self.votes):
            msg = f"at_least_votes {self.at_least_votes} of {len(self.votes)}: every pair would be null"
            raise ValueError(msg)
        return self

    def located(self, folder: Path) -> Self:
        if self.audited is None:
            return self
        return self.model_copy(update={"audited": beside(folder, self.audited)})

    def identity(self) -> dict[str, Any]:
        answers = self._answers()
        votes = [
            [vote.by, vote.high_is_noise, vote.noise_share, vote.clean_share, vote.source]
            for vote in self.votes
        ]
        return {**super().identity(), "votes": votes, "audited": answers and answers.fingerprint}

    def population(self) -> Literal["survivors", "pool"]:
        return self.of

    def reads(self) -> tuple[str, ...]:
        return (*(vote.by for vote in self.votes), "uid")

    def check(self, types: dict[str, pa.DataType]) -> None:
        for vote in self.votes:
            require_number(vote.by, types[vote.by])
        self._answers()

    # --- passes: ranks (one to four), votes, calibration, and where there are answers, the audit

    def start(self) -> Artefact:
        answers = self._answers()
        return {
            "stage": "ranks",
            "complete": False,
            "reason": None,
            "ranks": ranks.begin(len(self.votes)),
            "panel": panel_json(Panel()),
            "audit": answers and {"answers": len(answers.ok), **answers_json(answers.evened())},
        }

    def accumulate(self, artefact: Artefact, columns: Columns) -> Accumulator:
        if artefact["stage"] == "ranks":
            return ranks.count(artefact["ranks"], [keys[known] for keys, known in self._keys(columns)])
        placed, folds = self._ranks(columns, artefact), _folds(columns)
        if artefact["stage"] == "votes":
            return {"patterns": fold_counts(self._votes(placed), folds, FOLDS)}
        judges = panel_of(artefact["panel"])
        if artefact["stage"] == "calibration":
            scores = judges.scores(placed, folds, self.at_least_votes)
            chances = judges.posteriors(self._votes(placed), folds)
            return {"summed": calibration.summed(scores, chances)}
        p_noise = judges.p_noise(placed, folds, self.at_least_votes)
        known, steps = ~np.isnan(p_noise), np.nan_to_num(p_noise * STEPS).astype(np.int64)
        found = answers_of(artefact["audit"]).count(parse_uids(columns["uid"])[known], steps[known])
        return {"found": found[0], "sums": found[1]}

    def merge(self, left: Accumulator, right: Accumulator) -> Accumulator:
        if "lows" in left:
            return ranks.merge(left, right)
        return {name: left[name] + right[name] for name in left}

    def advance(self, artefact: Artefact, total: Accumulator | None) -> Artefact:
        stage = artefact["stage"]
        if total is None:
            return _complete(artefact, "no sample reached this filter")
        if stage == "ranks":
            found = ranks.advance(artefact["ranks"], total)
            return {**artefact, "ranks": found, "stage": "votes" if found["complete"] else "ranks"}
        if stage == "votes":
            return self._weigh(artefact, total["patterns"])
        if stage == "audit":
            return self._choose(artefact, total)
        judges = Panel(panel_of(artefact["panel"]).models, calibration.curve(total["summed"]))
        fitted = {**artefact, "panel": panel_json(judges), "stage": "audit"}
        return fitted if artefact["audit"] else _complete(fitted)

    def _weigh(self, artefact: Artefact, counts: NDArray[np.int64]) -> Artefact:
        """The artefact with the models of the folds, or with the reason why there are none."""
        names, sources = [vote.by for vote in self.votes], [vote.source for vote in self.votes]
        whole = counts.sum(axis=0)
        votes = [
            {"by": vote.by, "high": "noise" if vote.high_is_noise else "clean", "group": vote.group}
            for vote in self.votes
        ]
        found = {**artefact, "votes": votes, "samples": int(whole.sum())}
        try:
            judges, model = fit_panel(counts, names, sources)
        except ValueError as cause:
            return _complete({**found, "overview": overview(whole, None)}, str(cause))
        shown = {"overview": overview(whole, model), "noise_share": model.noise_share}
        return {**found, **shown, "panel": panel_json(judges), "stage": "calibration"}

    def _choose(self, artefact: Artefact, total: Accumulator) -> Artefact:
        """The artefact with both bounds, or with the reason why nothing can be kept."""
        answers, often = answers_of(artefact["audit"]), total["found"]
        lost, twice = format_uids(answers.uids[often == 0]), format_uids(answers.uids[often > 1])
        if twice:
            msg = f"fuse: uid {twice[0]}, which was audited, stands twice: drop exact duplicates first"
            raise RecipeError(msg)
        if lost and self.of == "pool":
            msg = f"fuse: uid {lost[0]}, which was audited, is not in this pool, or no column scores it"
            raise RecipeError(msg)
        once = often == 1
        uids, ok, p_noise = answers.uids[once], answers.ok[once], total["sums"][once] / STEPS
        goals = {side: fusion.Goal(self.precision, self.confidence, side) for side in ("kept", "dropped")}
        cuts = {
            side: asdict(fusion.choose_cut(uids, p_noise, uids, ok, goal)) for side, goal in goals.items()
        }
        reason = cuts["kept"]["reason"]
        if reason and lost:
            reason += f"; {len(lost)} of {len(often)} answers are of samples that did not reach this filter"
        counts = {"answers": artefact["audit"]["answers"], "used": len(often), "reached": len(uids)}
        return _complete({**artefact, "audit": {**counts, **cuts}}, reason)

    def _answers(self) -> Answers | None:
        return None if self.audited is None else read_answers(self.audited)

    # --- the judgement

    def judge(self, columns: Columns, artefact: Artefact) -> Judgement:
        placed, judges = self._ranks(columns, artefact), panel_of(artefact["panel"])
        p_noise = judges.p_noise(placed, _folds(columns), self.at_least_votes)
        keeps, drops = self._sides(p_noise, artefact)
        words = self._words(artefact)
        return Judgement(keeps, ~(keeps | drops), p_noise, words, {"p_clean": 1.0 - p_noise})

    def _sides(self, p_noise: Floats, artefact: Artefact) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which samples are kept and which are dropped, (n,) each; the others are null."""
        nothing = np.zeros(len(p_noise), np.bool_)
        if artefact["reason"] is not None:
            return nothing, nothing
        with np.errstate(invalid="ignore"):
            if artefact["audit"] is not None:
                kept, dropped = (artefact["audit"][side]["bound"] for side in ("kept", "dropped"))
                keeps = p_noise <= kept
                return keeps, nothing if dropped is None else (p_noise >= dropped) & ~keeps
            drop = 1.0 if self.drop_if_p_noise_above is None else self.drop_if_p_noise_above
            keep = self.keep_if_p_noise_below
            return (p_noise <= drop if keep is None else p_noise < keep), p_noise > drop

    def _words(self, artefact: Artefact) -> str:
        """The bounds, or why there is none."""
        if artefact["reason"] is not None:
            return f"no answer: {artefact['reason']}"
        many = f"{len(self.votes)} detectors"
        if artefact["audit"] is None:
            drop, keep = self.drop_if_p_noise_above, self.keep_if_p_noise_below
            if keep is None:
                return f"p_noise at most {drop:.9g} ({many})"
            return f"p_noise below {keep:.9g}, dropped above {drop:.9g} ({many})"
        audit = artefact["audit"]
        kept, dropped = audit["kept"], audit["dropped"]
        far = f"dropped from {dropped['bound']:.4g}" if dropped["reason"] is None else "none is dropped"
        return (
            f"p_noise at most {kept['bound']:.4g}, {far} ({many}; {self.precision:.9g} right with confidence "
            f"{self.confidence:.9g} by {audit['reached']} answers)"
        )

    def _keys(self, columns: Columns) -> list[tuple[NDArray[np.uint32], NDArray[np.bool_]]]:
        """The order keys of each vote's scores, and which of them are scores."""
        scores = [numbers(columns[vote.by]) for vote in self.votes]
        return [(selection.order_keys(some), ~missing(some)) for some in scores]

    def _ranks(self, columns: Columns, artefact: Artefact) -> Floats:
        """(n, m) float64 in (0, 1), high where noise; NaN where there is no score."""
        found = []
        tables = ranks.rank_tables(artefact["ranks"])
        for vote, table, (keys, known) in zip(self.votes, tables, self._keys(columns), strict=True):
            placed = np.full(len(keys), np.nan) if table is None else table.ranks(keys)
            found.append(np.where(known, placed if vote.high_is_noise else 1.0 - placed, np.nan))
        return np.stack(found, axis=1)

    def _votes(self, placed: Floats) -> fusion.Votes:
        shares = np.array([(vote.noise_share, vote.clean_share) for vote in self.votes])
        return votes_of(placed, shares[:, 0], shares[:, 1])


def _folds(columns: Columns) -> NDArray[np.int64]:
    return uid_folds(parse_uids(columns["uid"]), FOLDS)


def _complete(artefact: Artefact, reason: str | None = None) -> Artefact:
    """The artefact as it judges."""
    found = {name: value for name, value in artefact.items() if name != "stage"}
    if "uids" in (found["audit"] or {}):
        found["audit"] = {"answers": found["audit"]["answers"]}
    return {**found, "complete": True, "reason": reason}
