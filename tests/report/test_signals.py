"""Histograms: every value in its bar, every cut in its place."""

from __future__ import annotations

import pyarrow as pa

from curate.query import Decision, connect
from curate.report.charts import draw
from curate.report.counts import signal_schema
from curate.report.cuts import Bound, Cut, bounds, cuts
from curate.report.signals import bars, histograms, signals
from curate.report.wording import cut_text, precise_words, share_words, tick_words
from filters.caption_words import CaptionWords
from filters.core.decide import Step
from filters.language import Language
from filters.max_aspect_ratio import MaxAspectRatio
from filters.min_side_pixels import MinSidePixels
from filters.random_fraction import RandomFraction
from tests.report.conftest import Decide

SIDES = {"width": pa.int32(), "height": pa.int32()}


def test_every_value_is_counted_once(mixed: Decision) -> None:
    connection = connect(mixed)
    chosen = [one for one in signals(mixed, signal_schema(connection)) if one.numeric]
    rows = mixed.manifest["rows"]
    for found in histograms(connection, chosen, [], rows):
        assert sum(found.read) + found.below + found.above == found.rows
        assert found.rows + found.missing == rows
        assert all(kept <= read for kept, read in zip(found.kept, found.read, strict=True))


def test_kept_bars_add_up_to_kept_rows(mixed: Decision) -> None:
    connection = connect(mixed)
    width = next(one for one in signals(mixed, signal_schema(connection)) if one.name == "width")
    (found,) = histograms(connection, [width], [], mixed.manifest["rows"])
    assert sum(found.kept) == mixed.manifest["verdicts"]["keep"]


def test_a_whole_number_has_a_bar_of_its_own_and_the_cut_stands_beside_it(mixed: Decision) -> None:
    connection = connect(mixed)
    words = next(one for one in signals(mixed, signal_schema(connection)) if one.name == "caption_words")
    at_most = Cut("caption_words", "caption_words", Bound(6, "≤"))
    (found,) = histograms(connection, [words], [at_most], mixed.manifest["rows"])
    assert found.axis is not None
    assert found.axis.high - found.axis.low == found.axis.bins
    (line,) = draw(found).cuts
    assert line.percent == round(100 * (7 - found.axis.low) / found.axis.bins, 2)


def test_hashes_offsets_and_captions_are_no_signals(mixed: Decision) -> None:
    names = {one.name for one in signals(mixed, signal_schema(connect(mixed)))}
    assert {"width", "caption_words", "image_format", "grey"} <= names
    assert not names & {
        "uid",
        "key",
        "caption",
        "url",
        "bytes_hash",
        "pixels_hash",
        "row",
        "image_offset",
        "value",
        "bound",
    }


def test_texts_are_counted_with_the_missing_ones_apart(mixed: Decision) -> None:
    connection = connect(mixed)
    form = next(one for one in signals(mixed, signal_schema(connection)) if one.name == "image_format")
    found = bars(connection, form)
    assert found.top == (("JPEG", 14, mixed.manifest["verdicts"]["keep"]),)
    assert (found.missing, found.others, found.values) == (2, 0, 1)


def test_all_null_signals_have_no_axis(decide: Decide) -> None:
    from tests.pools import sample

    decision = decide([sample("1", b"", "broken")], "name: n\nmax_failed_fraction: 1\nfilters: []")
    connection = connect(decision)
    width = next(one for one in signals(decision, signal_schema(connection)) if one.name == "width")
    (found,) = histograms(connection, [width], [], 1)
    assert found.axis is None
    assert draw(found).read == ""


def test_a_bound_on_the_shorter_side_cuts_both_sides() -> None:
    step = Step("small", MinSidePixels(at_least=200))
    assert [(cut.column, cut.bound) for cut in cuts(step, SIDES)] == [
        ("width", Bound(200, "≥")),
        ("height", Bound(200, "≥")),
    ]


def test_a_bound_on_something_computed_cuts_no_column() -> None:
    step = Step("ratio", MaxAspectRatio(at_most=3))
    assert bounds(step) == [Bound(3, "≤")]
    assert cuts(step, SIDES) == []


def test_two_bounds_are_two_cuts() -> None:
    step = Step("words", CaptionWords(at_least=5, at_most=5))
    assert [cut.bound for cut in cuts(step, {"caption_words": pa.int32()})] == [Bound(5, "≥"), Bound(5, "≤")]


def test_a_named_minimum_cuts_its_own_column() -> None:
    step = Step("language", Language(any_of=("en",), min_probability=0.5))
    found = cuts(step, {"language_probability": pa.float32()})
    assert found == [Cut("language", "language_probability", Bound(0.5, "≥"))]


def test_a_rule_without_a_number_on_a_signal_cuts_nothing() -> None:
    assert cuts(Step("draw", RandomFraction(keep=0.5)), SIDES) == []


def test_numbers_in_words() -> None:
    assert share_words(1, 10_000) == "< 0.1 %"
    assert share_words(9_999, 10_000) == "> 99.9 %"
    assert share_words(0, 0) == "-"
    assert precise_words(0.28001, 0.28) == "0.28001"
    assert precise_words(200.0, 200.0) == "200"
    assert [tick_words(value) for value in (0.25, 500, 20_000, 3_000_000)] == ["0.25", "500", "20k", "3M"]
    assert cut_text("a  b\nc", 10) == "a b c"
    assert cut_text("abcdef", 4) == "abc…"
    assert cut_text("a\x1b[2Jb", 10) == "a\ufffd[2Jb"
