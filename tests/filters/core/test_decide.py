from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filters.caption_matches import CaptionMatches
from filters.caption_words import CaptionWords
from filters.core.catalogue import find_filter
from filters.core.decide import VERDICTS, Step, columns_read, decide, survivors
from filters.core.declaration import Columns
from filters.core.tags import declared_tags
from filters.drop_exact_duplicates import DropExactDuplicates
from filters.language import Language
from filters.min_clip_cosine import MinClipCosine
from filters.min_side_pixels import MinSidePixels
from tests.filters.examples import EXAMPLES, columns_for, fitted_step, uids

SIDE = Step("min_side_pixels", MinSidePixels(at_least=200))
WORDS = Step("caption_words", CaptionWords(at_least=3))
SPEAKS = Step("speaks", Language(any_of=("en",)))
LEDGER = [
    "uid", "verdict", "dropped_by", "value", "value_text", "bound", "votes", "weight", "duplicate_of",
]  # fmt: skip


def columns(**given: list[Any]) -> Columns:
    """These columns, and a uid and no failure for each row."""
    types = {
        "caption": pa.string(),
        "language": pa.string(),
        "failure": pa.string(),
        "clip_cosine": pa.float32(),
    }
    count = len(next(iter(given.values())))
    found: Columns = {"uid": uids(count), "failure": pa.nulls(count, pa.string())}
    return found | {name: pa.array(rows, types.get(name, pa.int32())) for name, rows in given.items()}


def ledger(found: Columns, *steps: Step) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = decide(found, steps).to_pylist()
    return rows


def test_the_first_filter_that_stops_a_row_has_dropped_it() -> None:
    found = columns(width=[300, 100, 300, 100], height=[300] * 4, caption_words=[5, 5, 1, 1])
    assert [row["dropped_by"] for row in ledger(found, SIDE, WORDS)] == [
        None, "min_side_pixels", "caption_words", "min_side_pixels",
    ]  # fmt: skip
    assert [row["dropped_by"] for row in ledger(found, WORDS, SIDE)] == [
        None, "min_side_pixels", "caption_words", "caption_words",
    ]  # fmt: skip


def test_the_ledger_says_what_the_dropping_filter_compared() -> None:
    found = columns(
        width=[300, 100, 300, 300],
        height=[300] * 4,
        caption_words=[5, 1, 2, 5],
        language=["en", "en", "en", "de"],
    )
    rows = ledger(found, SIDE, WORDS, SPEAKS)
    told = [(row["verdict"], row["value"], row["value_text"], row["bound"]) for row in rows]
    assert told == [
        ("keep", None, None, None),
        ("drop", 100.0, None, "at least 200 pixels"),
        ("drop", 2.0, None, "at least 3"),
        ("drop", None, "de", "one of en"),
    ]


def test_two_filters_of_text_each_show_their_own() -> None:
    found = columns(language=["en", "de", "en"], caption=["a dog", "a dog", "a cat"])
    dogs = Step("dogs", CaptionMatches(pattern="dog"))
    assert [row["value_text"] for row in ledger(found, SPEAKS, dogs)] == [None, "de", "a cat"]
    assert [row["value_text"] for row in ledger(found, dogs, SPEAKS)] == [None, "de", "a cat"]


def test_every_filter_votes_on_every_row_also_after_it_was_dropped() -> None:
    found = columns(width=[300, 100, None], height=[300] * 3, caption_words=[1, 5, 5])
    assert [row["votes"] for row in ledger(found, SIDE, WORDS)] == [
        {"min_side_pixels": True, "caption_words": False},
        {"min_side_pixels": False, "caption_words": True},
        {"min_side_pixels": None, "caption_words": True},
    ]


def test_a_row_that_cannot_be_judged_is_quarantined_without_a_value() -> None:
    row = ledger(columns(width=[None], height=[300]), SIDE)[0]
    assert (row["verdict"], row["dropped_by"], row["value"]) == ("quarantine", "min_side_pixels", None)
    assert (row["bound"], row["weight"]) == ("at least 200 pixels", 0)


def test_a_null_that_is_kept_can_still_be_dropped_later() -> None:
    lenient = Step("side", MinSidePixels(at_least=200, on_null="keep"))
    found = columns(width=[None, None], height=[300] * 2, caption_words=[5, 1])
    rows = ledger(found, lenient, WORDS)
    assert [(row["verdict"], row["dropped_by"]) for row in rows] == [
        ("keep", None),
        ("drop", "caption_words"),
    ]
    assert survivors(found, [lenient, WORDS]).tolist() == [True, False]


def test_a_quarantined_row_stays_quarantined() -> None:
    found = columns(width=[None], height=[300], caption_words=[1])
    assert [(row["verdict"], row["dropped_by"]) for row in ledger(found, SIDE, WORDS)] == [
        ("quarantine", "min_side_pixels")
    ]


def test_a_filter_that_only_tags_takes_nothing_from_those_behind_it() -> None:
    tagging = Step("side", MinSidePixels(at_least=200, only_tag=True))
    found = columns(width=[100, 100, None, 300], height=[300] * 4, caption_words=[1, 5, 5, 5])
    rows = ledger(found, tagging, WORDS)
    assert [(row["verdict"], row["dropped_by"], row["value"]) for row in rows] == [
        ("drop", "caption_words", 1.0), ("keep", None, None), ("keep", None, None), ("keep", None, None),
    ]  # fmt: skip
    assert [row["votes"]["side"] for row in rows] == [False, False, None, True]
    assert survivors(found, [tagging, WORDS]).tolist() == [False, True, True, True]


def test_weight_is_one_for_what_is_kept() -> None:
    found = columns(width=[300, 100, None, 300], height=[300] * 4, failure=[None, None, None, "timeout"])
    rows = ledger(found, SIDE)
    assert [row["weight"] for row in rows] == [1, 0, 0, 0]
    assert [row["verdict"] for row in rows] == list(VERDICTS)


def test_infinity_is_a_value() -> None:
    worst = columns(clip_cosine=[float("-inf")])
    assert ledger(worst, Step("cosine", MinClipCosine(at_least=0.2)))[0]["value"] == float("-inf")


def test_relation_columns_belong_to_their_step() -> None:
    """Two deduplications of one recipe do not read each other's columns."""
    found = columns(width=[300, 300], height=[300, 300]) | {
        "bytes/duplicate_of": pa.array(["a" * 32, None]),
        "bytes/compared": pa.array([True, True]),
        "pixels/duplicate_of": pa.array([None, "b" * 32]),
        "pixels/compared": pa.array([False, True]),
    }
    steps = [Step("bytes", DropExactDuplicates()), SIDE, Step("pixels", DropExactDuplicates(by="pixels"))]
    rows = ledger(found, *steps)
    assert [(row["dropped_by"], row["duplicate_of"]) for row in rows] == [
        ("bytes", "a" * 32),
        ("pixels", "b" * 32),
    ]
    assert [row["votes"]["pixels"] for row in rows] == [None, False]


def test_a_copy_that_another_filter_dropped_names_no_original() -> None:
    found = columns(width=[100], height=[300]) | {
        "copies/duplicate_of": pa.array(["a" * 32]),
        "copies/compared": pa.array([True]),
    }
    row = ledger(found, SIDE, Step("copies", DropExactDuplicates()))[0]
    assert (row["dropped_by"], row["duplicate_of"]) == ("min_side_pixels", None)


def test_columns_read_are_those_of_all_steps_once() -> None:
    assert columns_read([WORDS, SIDE, WORDS]) == ["caption_words", "height", "width"]
    assert columns_read([Step("copies", DropExactDuplicates())]) == ["bytes_hash", "uid"]
    assert columns_read([]) == []


@pytest.mark.parametrize("seed", range(3))
def test_every_row_has_one_verdict_and_all_filters_together_say_the_same_as_each_alone(seed: int) -> None:
    """A slow decision, row by row from the votes, equals the ledger."""
    count = 200
    rules = [find_filter(name).model_validate(EXAMPLES[name][0]) for name in sorted(EXAMPLES)]
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(rules))
    found: Columns = {}
    steps: list[Step] = []
    for place, at in enumerate(order):
        on_null = ("quarantine", "drop", "keep")[place % 3]
        rule = rules[at].model_copy(update={"on_null": on_null})
        own = columns_for(rule, count, seed)
        name = f"step{place}"
        found |= {key.replace("step/", f"{name}/"): column for key, column in own.items() if key not in found}
        steps.append(Step(name, rule, fitted_step(rule, own).artefact))
    found["failure"] = pa.array(
        ["timeout" if draw < 0.1 else None for draw in generator.random(count)], pa.string()
    )
    table = decide(found, steps)
    assert table.column_names == [*LEDGER, *declared_tags(step.rule for step in steps)]
    expected = [
        ("failed", None) if failed else by_hand(votes, steps)
        for failed, votes in zip(
            found["failure"].is_valid().to_pylist(), table["votes"].to_pylist(), strict=True
        )
    ]
    assert list(zip(table["verdict"].to_pylist(), table["dropped_by"].to_pylist(), strict=True)) == expected
    assert survivors(found, steps).tolist() == [verdict == "keep" for verdict, _ in expected]
    assert table["uid"].to_pylist() == found["uid"].to_pylist()


def by_hand(votes: dict[str, bool | None], steps: list[Step]) -> tuple[str, str | None]:
    """Verdict and culprit of one readable row, from its votes in order."""
    for step in steps:
        vote = True if step.rule.only_tag else votes[step.name]
        if vote is False:
            return "drop", step.name
        if vote is None and step.rule.on_null != "keep":
            return step.rule.on_null, step.name
    return "keep", None


def test_the_ledger_survives_parquet() -> None:
    """Also where two filters have the same bound in words."""
    found = columns(width=[300, 100], height=[300] * 2, caption_words=[1, 9])
    table = decide(found, [WORDS, SIDE, Step("again", CaptionWords(at_least=3))])
    stream = io.BytesIO()
    pq.write_table(table, stream)
    assert pq.read_table(stream).to_pylist() == table.to_pylist()
