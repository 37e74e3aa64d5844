"""The arithmetic of ranks, votes and curves is tested in core; here what the filter makes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from curate.describe import filter_reads
from curate.recipe import parse_recipe
from filters.core.decide import Step, decide
from filters.core.declaration import Columns, Judgement
from filters.core.errors import RecipeError
from filters.core.fusion import ranked
from filters.fuse import HIGH_IS_NOISE, HIGH_IS_NOISE_ENDING, Fuse, Vote
from tests.filters.examples import fit, take, uids
from tests.filters.judging import answers
from transforms.measure import find_measure, measure_names

ROWS = 4000
# How far the scores of noise lie from those of clean pairs, in standard deviations.
STRENGTHS = {"strong": 2.6, "middling": 2.0, "weak": 1.2, "second": 1.8}
NOISE = np.random.default_rng(5).random(ROWS) < 0.25


def votes(*names: str, **options: Any) -> list[dict[str, Any]]:
    return [
        {"by": name, "high": "noise", "noise_share": 0.25, "clean_share": 0.75, **options} for name in names
    ]


def rule(*names: str, **options: Any) -> Fuse:
    bounds = {} if "audited" in options else {"drop_if_p_noise_above": 0.5}
    return Fuse.model_validate({"votes": votes(*(names or STRENGTHS)), **bounds, **options})


def pool(rows: int = ROWS, seed: int = 0) -> Columns:
    """Detectors of known strength that err independently, high where noise."""
    generator = np.random.default_rng(seed)
    columns = {
        name: pa.array(generator.normal(strength * NOISE[:rows]).astype(np.float32))
        for name, strength in STRENGTHS.items()
    }
    return {**columns, "uid": uids(rows, seed)}


def step(which: Fuse, *batches: Columns) -> Step:
    return Step("step", which, fit(which, batches))


def area(scores: NDArray[np.floating[Any]], noise: NDArray[np.bool_] = NOISE) -> float:
    """The area under the ROC curve: how likely noise scores above clean."""
    ranks = ranked(scores) * len(scores)
    bad = int(noise.sum())
    return float((ranks[noise].sum() - bad * bad / 2) / (bad * (len(noise) - bad)))


def assert_alike(one: Judgement, other: Judgement) -> None:
    """Ranks are taken from tables, so equal orders of scores give nearly equal probabilities."""
    apart = np.abs(np.asarray(one.value) - np.asarray(other.value))
    assert apart.mean() < 0.004
    assert np.mean(one.passes == other.passes) > 0.995


def reason_of(which: Fuse, columns: Columns) -> str:
    """Why there is no answer; every sample must be null, with the reason as its bound."""
    fitted = step(which, columns)
    judgement = fitted.judge(columns)
    assert judgement.null.all()
    assert not judgement.passes.any()
    assert fitted.artefact is not None
    json.dumps(fitted.artefact, allow_nan=False)
    said = str(fitted.artefact["reason"])
    assert judgement.bound == f"no answer: {said}"
    return said


def put(columns: Columns, **changed: Any) -> Columns:
    return {
        **columns,
        **{name: pa.array(values, pa.float32(), from_pandas=True) for name, values in changed.items()},
    }


# --- what it finds


@pytest.mark.parametrize("seed", range(3))
def test_detectors_together_are_better_than_the_best_of_them(seed: int) -> None:
    columns = pool(seed=seed)
    judgement = step(rule(), columns).judge(columns)
    best = max(area(columns[name].to_numpy()) for name in STRENGTHS)
    assert area(np.asarray(judgement.value)) > best + 0.01
    assert np.mean(judgement.passes == ~NOISE) > 0.93
    assert not judgement.null.any()


def test_the_value_is_p_noise_the_tag_p_clean_and_the_bound_says_both_in_words() -> None:
    columns = pool()
    judgement = step(rule(drop_if_p_noise_above=0.7), columns).judge(columns)
    p_noise = np.asarray(judgement.value)
    assert np.array_equal(judgement.passes, p_noise <= 0.7)
    assert np.array_equal(judgement.tags["p_clean"], 1 - p_noise)
    assert judgement.bound == "p_noise at most 0.7 (4 detectors)"
    ledger = decide({**columns, "failure": pa.nulls(ROWS, pa.string())}, [step(rule(), columns)])
    assert ledger["p_clean"].to_numpy() == pytest.approx(1 - p_noise, abs=1e-6)


def test_the_direction_of_a_score_does_not_matter_once_it_is_told() -> None:
    columns = pool()
    whole = step(rule(), columns).judge(columns)
    turned = put(columns, weak=-columns["weak"].to_numpy())
    told = Fuse.model_validate(
        {
            "votes": [*votes("strong", "middling"), *votes("weak", high="clean"), *votes("second")],
            "drop_if_p_noise_above": 0.5,
        }
    )
    assert_alike(step(told, turned).judge(turned), whole)


def test_only_ranks_count_not_the_scale_of_a_score() -> None:
    columns = pool()
    stretched = put(columns, strong=np.exp(columns["strong"].to_numpy()))
    assert_alike(step(rule(), stretched).judge(stretched), step(rule(), columns).judge(columns))


def test_votes_that_copy_one_another_count_as_one() -> None:
    columns = pool()
    generator = np.random.default_rng(3)
    weak = columns["weak"].to_numpy()
    copies = {f"copy{at}": weak + generator.normal(0, 0.05, ROWS) for at in range(3)}
    columns = put(columns, **copies)
    names = ("strong", "middling", "weak", *copies)
    grouped = [*votes("strong", "middling", "second"), *votes("weak", *copies, group="weak ones")]
    told = Fuse.model_validate({"votes": grouped, "drop_if_p_noise_above": 0.5})
    judged = {which.votes: step(which, columns) for which in (told, rule(*names))}
    artefact = judged[told.votes].artefact
    assert artefact is not None
    assert artefact["overview"]["independence"][3:] == pytest.approx([0.25] * 4, abs=0.05)
    assert area(np.asarray(judged[told.votes].judge(columns).value)) > area(columns["strong"].to_numpy())


# --- abstaining


def test_between_two_bounds_it_abstains() -> None:
    columns = pool()
    judgement = step(rule(drop_if_p_noise_above=0.8, keep_if_p_noise_below=0.2), columns).judge(columns)
    p_noise = np.asarray(judgement.value)
    expected = [True if p < 0.2 else False if p > 0.8 else None for p in p_noise.tolist()]
    assert answers(judgement) == expected
    assert None in expected
    assert judgement.bound == "p_noise below 0.2, dropped above 0.8 (4 detectors)"
    assert not np.isnan(judgement.tags["p_clean"]).any()


def test_a_column_without_a_score_abstains_and_a_row_without_any_is_null() -> None:
    columns = pool()
    gaps = {name: columns[name].to_numpy().copy() for name in STRENGTHS}
    gaps["strong"][::3] = np.nan
    for values in gaps.values():
        values[::10] = np.nan
    partly = put(columns, **gaps)
    judgement = step(rule(), partly).judge(partly)
    assert np.array_equal(judgement.null, np.arange(ROWS) % 10 == 0)
    assert np.array_equal(np.isnan(judgement.tags["p_clean"]), judgement.null)
    lonely = (np.arange(ROWS) % 3 == 0) & ~judgement.null
    assert np.mean(judgement.passes[lonely] == ~NOISE[lonely]) > 0.85


def test_fewer_scores_than_asked_for_are_null() -> None:
    columns = pool()
    weak = columns["weak"].to_numpy().copy()
    weak[::4] = np.nan
    partly = put(columns, weak=weak)
    judgement = step(rule(at_least_votes=4), partly).judge(partly)
    assert np.array_equal(judgement.null, np.isnan(weak))


@pytest.mark.parametrize("word", ["abstain_to", "on_null"])
def test_what_abstains_goes_where_either_name_says(word: str) -> None:
    columns = put(pool(), **{name: np.full(ROWS, np.nan) for name in STRENGTHS})
    columns["failure"] = pa.nulls(ROWS, pa.string())
    for verdict in ("quarantine", "keep", "drop"):
        ledger = decide(columns, [step(rule(**{word: verdict}), columns)])
        assert set(ledger["verdict"].to_pylist()) == {verdict}


def test_both_names_of_one_option_agree_or_are_refused() -> None:
    assert rule(abstain_to="drop") == rule(on_null="drop") == rule(abstain_to="drop", on_null="drop")
    with pytest.raises(ValidationError, match="abstain_to drop and on_null keep are the same option"):
        rule(abstain_to="drop", on_null="keep")
    with pytest.raises(ValidationError, match="abstain_to"):
        rule(abstain_to="bin")


# --- no answer


def test_a_vote_the_wrong_way_round_is_refused_by_name() -> None:
    columns = pool()
    said = reason_of(rule(), put(columns, middling=-columns["middling"].to_numpy()))
    assert said.startswith("middling says noise where the others say clean")
    assert "`high: noise` or `high: clean`" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weak": np.full(ROWS, np.nan)}, "2 of the votes say both noise and clean.*: weak has no score"),
        ({"weak": np.full(ROWS, 0.3)}, "2 of the votes say .*, and it takes 3: weak says the same of all"),
        (dict.fromkeys(STRENGTHS, np.full(ROWS, 0.3)), "0 of the votes say both .*: strong says the same"),
        (dict.fromkeys(STRENGTHS, np.full(ROWS, np.nan)), "0 of the votes say both .*: strong has no score"),
        (dict.fromkeys(STRENGTHS, np.arange(ROWS)), "the votes are nearly copies of one another"),
        (
            {name: np.random.default_rng(at).random(ROWS) for at, name in enumerate(STRENGTHS)},
            "agree with the others beyond chance, and it takes 3|says noise where the others say clean",
        ),
    ],
)
def test_what_agreement_cannot_tell_is_null_with_its_reason(changed: dict[str, Any], said: str) -> None:
    assert re.search(said, reason_of(rule("strong", "middling", "weak"), put(pool(), **changed)))


def test_one_constant_vote_of_four_is_left_out_and_shown() -> None:
    columns = pool()
    constant = put(columns, second=np.full(ROWS, 7.0))
    fitted = step(rule(), constant)
    assert fitted.artefact is not None
    assert fitted.artefact["overview"]["weight"][3] == pytest.approx(0, abs=0.01)
    without = step(rule("strong", "middling", "weak"), columns)
    assert_alike(fitted.judge(constant), without.judge(columns))


@pytest.mark.parametrize("rows", [0, 1, 2, 12])
def test_a_few_samples_are_too_few(rows: int) -> None:
    columns = {name: column.slice(0, rows) for name, column in pool().items()}
    assert "and it takes 3" in reason_of(rule(), columns)


def test_no_sample_at_all_is_said() -> None:
    assert fit(rule(), [])["reason"] == "no sample reached this filter"


# --- the artefact


def test_the_artefact_is_small_and_shows_how_detectors_agree() -> None:
    artefact = fit(rule(), [pool()])
    assert len(json.dumps(artefact, allow_nan=False)) < 100_000
    shown = artefact["overview"]
    assert shown["coverage"] == [1, 1, 1, 1]
    assert artefact["noise_share"] == pytest.approx(0.25, abs=0.03)
    assert sorted(shown["reliability"], reverse=True) == [
        shown["reliability"][list(STRENGTHS).index(name)] for name in ("strong", "middling", "second", "weak")
    ]
    assert np.array(shown["correlation"]).shape == (4, 4)
    assert [vote["high"] for vote in artefact["votes"]] == ["noise"] * 4
    assert artefact["samples"] == ROWS


def test_it_is_fitted_alike_in_any_number_of_parts() -> None:
    columns = pool()
    order = np.random.default_rng(0).permutation(ROWS)
    batches = [take(columns, part) for part in np.array_split(order, 9)]
    assert fit(rule(), batches) == fit(rule(), [columns])


# --- an audited sample chooses the bounds


def audited(folder: Path, columns: Columns, rows: NDArray[np.int64]) -> str:
    """The file of true answers for these rows."""
    said = columns["uid"].to_pylist()
    lines = [f"{said[row]},{int(not NOISE[row])}" for row in rows]
    path = folder / "answers.csv"
    path.write_text("\n".join(["uid,ok", *lines]) + "\n")
    return str(path)


def test_audited_bounds_hold_the_precision_on_both_sides(tmp_path: Path) -> None:
    columns = pool()
    path = audited(tmp_path, columns, np.arange(0, ROWS, 8))
    fitted = step(rule(audited=path, precision=0.9), columns)
    judgement = fitted.judge(columns)
    kept, dropped = judgement.passes, ~judgement.passes & ~judgement.null
    assert np.mean(~NOISE[kept]) >= 0.9
    assert np.mean(NOISE[dropped]) >= 0.9
    assert kept.sum() > 2500
    assert dropped.sum() > 300
    assert fitted.artefact is not None
    audit = fitted.artefact["audit"]
    assert (audit["answers"], audit["used"], audit["reached"]) == (500, 500, 500)
    assert audit["kept"]["precision_at_least"] >= 0.9
    assert "uids" not in json.dumps(fitted.artefact)
    p_noise = np.asarray(judgement.value)
    assert np.array_equal(kept, p_noise <= audit["kept"]["bound"])
    assert "0.9 right with confidence 0.95 by 500 answers" in judgement.bound


def test_the_bound_is_the_p_noise_of_an_audited_sample_which_is_kept(tmp_path: Path) -> None:
    columns = pool()
    rows = np.arange(0, ROWS, 8)
    judged = step(rule(audited=audited(tmp_path, columns, rows), precision=0.9), columns).judge(columns)
    last = np.asarray(judged.value)[rows][judged.passes[rows]].max()
    assert f"p_noise at most {last:.4g}," in judged.bound


def test_a_sample_that_is_too_small_says_so_and_p_clean_stays(tmp_path: Path) -> None:
    columns = pool()
    which = rule(audited=audited(tmp_path, columns, np.arange(40)))
    said = reason_of(which, columns)
    assert said == "40 audited samples are too few: it takes 104, all of them right"
    assert not np.isnan(step(which, columns).judge(columns).tags["p_clean"]).any()


def test_where_only_keeping_can_be_trusted_nothing_is_dropped(tmp_path: Path) -> None:
    columns = pool()
    clean = np.flatnonzero(~NOISE)[:200]
    judgement = step(rule(audited=audited(tmp_path, columns, clean)), columns).judge(columns)
    assert (judgement.passes | judgement.null).all()
    assert "none is dropped" in judgement.bound


def test_no_answers_are_too_few(tmp_path: Path) -> None:
    columns = pool()
    which = rule(audited=audited(tmp_path, columns, np.arange(0)))
    assert reason_of(which, columns).startswith("0 audited samples are too few")


def test_answers_for_samples_that_do_not_reach_it_are_counted(tmp_path: Path) -> None:
    columns = pool()
    path = audited(tmp_path, columns, np.arange(60))
    rest = take(columns, np.arange(50, ROWS))
    said = reason_of(rule(audited=path), rest)
    assert "10 audited samples are too few" in said
    assert said.endswith("50 of 60 answers are of samples that did not reach this filter")


def test_answers_for_unknown_uids_are_refused_where_the_whole_pool_is_fitted(tmp_path: Path) -> None:
    columns = pool()
    path = audited(tmp_path, columns, np.arange(60))
    with pytest.raises(RecipeError, match=r"uid [0-9a-f]{32}, which was audited, is not in this pool"):
        fit(rule(audited=path, of="pool"), [take(columns, np.arange(50, ROWS))])


def test_a_uid_that_stands_twice_is_refused(tmp_path: Path) -> None:
    columns = pool()
    path = audited(tmp_path, columns, np.arange(60))
    twice = take(columns, np.append(np.arange(ROWS), 3))
    with pytest.raises(RecipeError, match="stands twice: drop exact duplicates first"):
        fit(rule(audited=path), [twice])


def test_answers_drawn_with_unequal_chances_are_thinned(tmp_path: Path) -> None:
    columns = pool()
    path = Path(audited(tmp_path, columns, np.arange(0, ROWS, 8)))
    lines = path.read_text().splitlines()
    weighted = [f"{line},{0.1 if at % 2 else 0.4}" for at, line in enumerate(lines[1:])]
    path.write_text("\n".join(["uid,ok,probability", *weighted]))
    artefact = fit(rule(audited=str(path), precision=0.9), [columns])
    assert artefact["audit"]["answers"] == 500
    assert artefact["audit"]["used"] == pytest.approx(250 + 250 / 4, abs=30)


def test_the_content_of_the_answers_counts_not_their_name(tmp_path: Path) -> None:
    columns = pool()
    path = Path(audited(tmp_path, columns, np.arange(60)))
    which = rule(audited=str(path))
    before = which.identity()
    assert str(path) not in json.dumps(before)
    moved = path.rename(tmp_path / "moved.csv")
    assert rule(audited=str(moved)).identity() == before
    moved.write_text(moved.read_text().replace(",0\n", ",1\n", 1))
    assert rule(audited=str(moved)).identity() != before
    assert rule().identity()["audited"] is None


def test_how_a_vote_is_spelt_does_not_count_but_what_it_means() -> None:
    def identity(*votes: Any) -> dict[str, Any]:
        return Fuse.model_validate({"votes": votes, "drop_if_p_noise_above": 0.7}).identity()

    short = identity("neighbourhood", "s_clip_loss", "clip_cosine")
    assert identity({"by": "neighbourhood", "high": "noise"}, "s_clip_loss", {"by": "clip_cosine"}) == short
    assert identity({"by": "neighbourhood", "high": "clean"}, "s_clip_loss", "clip_cosine") != short


def test_a_relative_file_lies_beside_the_recipe(tmp_path: Path) -> None:
    audited(tmp_path, pool(), np.arange(60))
    assert rule(audited="answers.csv").located(tmp_path).audited == str(tmp_path / "answers.csv")
    assert rule().located(tmp_path) == rule()


def test_answers_that_cannot_be_read_are_refused_by_the_plan(tmp_path: Path) -> None:
    types = dict.fromkeys(STRENGTHS, pa.float32())
    with pytest.raises(ValueError, match=r"can't read the answers .*absent.csv"):
        rule(audited=str(tmp_path / "absent.csv")).check(types)
    rule(audited=audited(tmp_path, pool(), np.arange(60))).check(types)
    with pytest.raises(ValueError, match="needs numbers"):
        rule().check({**types, "weak": pa.string()})


# --- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"votes": ["a", "b"]}, "2 votes: it takes 3 to 12"),
        ({"votes": [f"v{at}" for at in range(13)]}, "13 votes: it takes 3 to 12"),
        ({"votes": ["a", "b", "a"]}, "a would vote twice"),
        ({"votes": ["a", {"by": "b", "group": "g"}, {"by": "c", "group": "g"}]}, "fewer than 3 groups"),
        ({"votes": ["a", "b", {"by": "c", "noise_share": 0.3}]}, "are more than all"),
        ({"votes": ["a", "b", {"by": "c", "noise_share": 0}]}, "greater than 0"),
        ({"drop_if_p_noise_above": 1}, "less than 1"),
        ({"drop_if_p_noise_above": None}, "give drop_if_p_noise_above, or audited answers"),
        ({"audited": "a.csv"}, "give drop_if_p_noise_above, or audited answers"),
        ({"keep_if_p_noise_below": 0.8}, "is at most that"),
        ({"audited": "a.csv", "drop_if_p_noise_above": None, "keep_if_p_noise_below": 0.1}, "goes with drop"),
        ({"audited": "s3://a/b.csv", "drop_if_p_noise_above": None}, "audited is a local file"),
        ({"at_least_votes": 4}, "at_least_votes 4 of 3: every pair would be null"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Fuse.model_validate({"votes": ["a", "b", "c"], "drop_if_p_noise_above": 0.7, **options})


def test_a_vote_is_a_name_or_a_mapping_and_is_stored_as_it_was_written() -> None:
    given = ["neighbourhood", {"by": "mine", "high": "noise"}, "clip_cosine"]
    which = Fuse.model_validate({"votes": given, "drop_if_p_noise_above": 0.7})
    assert which.reads() == ("neighbourhood", "mine", "clip_cosine", "uid")
    assert [vote.high_is_noise for vote in which.votes] == [True, True, False]
    assert which.model_dump(mode="json")["votes"][::2] == ["neighbourhood", "clip_cosine"]
    assert which.votes[1] == Vote(by="mine", high="noise")
    assert filter_reads(Fuse) == ["<votes>", "uid"]


def test_the_columns_known_to_be_high_for_noise_are_columns_of_measures() -> None:
    written = {
        column.name
        for name in measure_names()
        for column in find_measure(name).model_construct().columns(name)
    }
    assert written >= HIGH_IS_NOISE
    assert any(name.endswith(HIGH_IS_NOISE_ENDING) for name in written)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{by: c, hgh: noise}", "filters[0].fuse.votes[2].hgh: unknown key 'hgh'\n  fix: did you mean high?"),
        ("{high: noise}", "filters[0].fuse.votes[2].by: is required"),
        ("{by: c, high: bad}", "filters[0].fuse.votes[2].high: 'bad': Input should be 'noise' or 'clean'"),
        ("5", "filters[0].fuse.votes[2]: 5: "),
    ],
)
def test_a_recipe_names_what_is_wrong_with_a_vote_and_nothing_else(given: str, said: str) -> None:
    text = f"name: a\nfilters:\n  - fuse: {{votes: [a, b, {given}], drop_if_p_noise_above: 0.7}}\n"
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text)
    assert said in str(caught.value)
    assert str(caught.value).count("recipe, line 3") == 1
