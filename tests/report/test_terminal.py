"""The summary on the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from curate.query import Decision
from curate.report import build_report, write_report
from curate.report.terminal import print_summary
from tests.pools import photo, sample
from tests.report.conftest import Decide


def printed(decision: Decision, width: int = 80) -> str:
    stream = io.StringIO()
    print_summary(decision, Console(file=stream, width=width, no_color=True, highlight=False))
    return stream.getvalue()


def test_headline_filters_failures_and_outputs(mixed: Decision) -> None:
    write_report(mixed)
    text = printed(mixed)
    kept = mixed.manifest["verdicts"]["keep"]
    assert "16 samples read" in text
    assert f"kept {kept} " in text
    for name in mixed.manifest["dropped_by"]:
        assert name in text
    assert "zero_bytes" in text
    assert f"report  {mixed.store.folder.url}/report/{mixed.ledger}/index.html" in text


def test_a_filter_that_only_tags_is_shown_as_such(decide: Decide) -> None:
    recipe = (
        "name: n\nfilters:\n  - min_side_pixels: {at_least: 900, only_tag: true}\n"
        "  - alignment_levels: {by: sharpness}"
    )
    decision = decide([[*sample("1", photo(1), "a cat"), *sample("2", photo(2), "a dog")]], recipe)
    text = " ".join(printed(decision, width=160).split())
    assert "min_side_pixels all, only tagged: at least 900 pixels 0 2 100 %" in text
    assert "all, only tagged: 8 levels of sharpness from" in text
    assert "all, only tagged: at least 900 pixels" in build_report(decision)


def test_tables_fit_80_columns(mixed: Decision) -> None:
    tables = printed(mixed).split("\nledger ")[0]
    assert max(map(len, tables.splitlines())) <= 80


def test_markup_in_bounds_is_shown_not_obeyed(decide: Decide) -> None:
    recipe = "name: n\nfilters:\n  - caption_matches: '[red]at[/red]'"
    assert "[red]at[/red]" in printed(decide([sample("1", photo(1), "a cat")], recipe))
