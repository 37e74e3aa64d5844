"""Logs as JSON: one object a line, with run and shard."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from curate.logs import JsonLines, set_up_logs


@pytest.fixture
def restored() -> Iterator[None]:
    """The logging of this process, as it was."""
    root = logging.getLogger()
    names = ("", "curate", "apache_beam", "py.warnings")
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = list(root.handlers)
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    root.handlers[:] = handlers


def test_a_record_is_an_object_with_its_run_and_shard() -> None:
    record = logging.LogRecord("curate.measure", logging.WARNING, __file__, 1, "%s: \n%d", ("a", 3), None)
    record.created, record.msecs, record.shard = 0.25, 250.0, "crawl/0.tar"
    (line,) = JsonLines("r1").format(record).splitlines()
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "warning",
        "logger": "curate.measure",
        "message": "a: \n3",
        "run": "r1",
        "shard": "crawl/0.tar",
    }


def test_an_exception_is_part_of_its_record() -> None:
    try:
        raise ValueError("why")  # noqa: TRY301  (an exception to log)
    except ValueError as cause:
        told = (type(cause), cause, cause.__traceback__)
    record = logging.LogRecord("curate", logging.ERROR, __file__, 1, "it broke", (), told)
    assert "ValueError: why" in json.loads(JsonLines("r1").format(record))["exception"]


@pytest.mark.usefixtures("restored")
def test_as_json_each_shard_is_logged_as_text_only_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("curate.measure")
    set_up_logs(verbose=False)
    logger.info("not said")
    set_up_logs(verbose=False, form="json")
    logger.info("said", extra={"shard": "0.tar", "batch": 4})
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert (found["message"], found["shard"], found["batch"]) == ("said", "0.tar", 4)
    assert len(found["run"]) == 8


@pytest.mark.usefixtures("restored")
def test_verbose_is_verbose_also_where_logs_were_quiet_before(capfd: pytest.CaptureFixture[str]) -> None:
    for verbose in (False, True):
        set_up_logs(verbose=verbose)
        for name in ("curate.workers", "apache_beam.runners"):
            logging.getLogger(name).info("%s says this", name)
            logging.getLogger(name).debug("not this")
        said = capfd.readouterr().err
        assert said.count("says this") == 2 * verbose
        assert "not this" not in said
