"""A bar on a terminal, plain lines elsewhere; every advance counts, whoever makes it."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from curate import progress
from curate.progress import show_progress
from transforms.progress import advance, begin


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=100, color_system=None), stream


def test_plain_lines_tell_the_end_of_a_stage() -> None:
    plain, stream = console(terminal=False)
    with show_progress(plain):
        begin("measure", 2)
        advance("measure", 0, samples=50)
        advance("measure", 1)
        advance("measure", 1, samples=4)
    assert stream.getvalue() == "measure: 2/2, 54 samples\n"


def test_plain_lines_come_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    plain, stream = console(terminal=False)
    with show_progress(plain):
        advance("write", 1, samples=1000)
        advance("write", 1, samples=1000)
    assert stream.getvalue().splitlines()[-1] == "write: 2/?, 2,000 samples"


def test_plain_lines_hold_no_control_character() -> None:
    plain, stream = console(terminal=False)
    with show_progress(plain):
        begin("decide", 1)
        advance("decide", 1, samples=3)
    assert stream.getvalue().isprintable() or stream.getvalue() == "decide: 1/1, 3 samples\n"


def test_a_second_pass_counts_from_the_beginning() -> None:
    plain, stream = console(terminal=False)
    with show_progress(plain):
        for _ in range(3):
            begin("fit top_fraction", 2)
            advance("fit top_fraction", 1)
            advance("fit top_fraction", 1)
    assert stream.getvalue().splitlines() == ["fit top_fraction: 2/2"] * 3


def test_a_terminal_gets_a_bar_with_rate_and_count() -> None:
    terminal, stream = console(terminal=True)
    with show_progress(terminal):
        begin("measure", 4)
        for _ in range(4):
            advance("measure", 1, samples=100)
    shown = stream.getvalue()
    assert "measure" in shown
    assert "4/4" in shown
    assert "samples/s" in shown
    assert "\x1b[" in shown


def test_nobody_listens_after_the_block() -> None:
    plain, stream = console(terminal=False)
    with show_progress(plain):
        begin("measure", 1)
    advance("measure", 1)
    assert stream.getvalue() == ""


def test_no_advance_of_many_threads_is_lost() -> None:
    plain, stream = console(terminal=False)

    def work() -> None:
        for _ in range(500):
            advance("decide", 1, samples=2)

    with show_progress(plain):
        begin("decide", 2000)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert stream.getvalue() == "decide: 2000/2000, 4,000 samples\n"
