"""Signals that ask long work to end, whatever they break into."""

from __future__ import annotations

import subprocess
import sys

SECONDS = 60
WITHIN_WAIT = """
import signal, threading
from curate.stopping import ending_on_signals

stop = threading.Event()
with ending_on_signals(stop):
    with stop._cond:  # what wait() holds for a moment
        signal.raise_signal(signal.{number})
    print(stop.wait({seconds}))
"""
TWICE = """
import signal, threading
from curate.stopping import ending_on_signals

with ending_on_signals(threading.Event()):
    signal.raise_signal(signal.SIGTERM)
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("interrupted")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "as before"
"""


def test_a_signal_that_breaks_into_the_wait_for_it_ends_it() -> None:
    for number in ("SIGTERM", "SIGINT"):
        assert said_by(WITHIN_WAIT.format(number=number, seconds=SECONDS // 2)) == "True"


def test_a_second_signal_interrupts_at_once() -> None:
    assert said_by(TWICE) == "interrupted"


def said_by(program: str) -> str:
    """What a process of its own prints: one that hangs must not take the tests along."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=SECONDS
    ).stdout.strip()
