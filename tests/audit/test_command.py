"""`curate audit` as a user meets it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from curate import cli
from tests.report.conftest import mixed_members, taken


@pytest.fixture
def store(tmp_path: Path) -> Path:
    taken(tmp_path, [mixed_members()])
    return tmp_path / "store"


def audit(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["curate", "audit", *words])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def answer(store: Path, path: Path, *, ok: str = "1") -> list[str]:
    """Answers every sample of the only draw; returns the uids."""
    (drawn,) = store.glob("audit/*/sample.csv")
    uids = [line.split(",")[0] for line in drawn.read_text().splitlines()[1:]]
    path.write_text("uid,ok\n" + "".join(f"{uid},{ok}\n" for uid in uids))
    return uids


def test_draw_then_answers(
    monkeypatch: pytest.MonkeyPatch, store: Path, answers_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert audit(monkeypatch, str(store), "--budget", "13") == 0
    said = capfd.readouterr().out
    assert "13 of 14 samples drawn" in said
    assert "drop by min_side_pixels" in said
    (page,) = store.glob("audit/*-13-0/index.html")
    assert f"open  {page}" in said
    assert f"then  curate audit {store} --budget 13 --answers answers-{page.parent.name}.csv" in said

    answer(store, answers_file)
    assert audit(monkeypatch, str(store), "--answers", str(answers_file)) == 0
    said = capfd.readouterr().out
    assert "13 of 13 drawn samples answered" in said
    assert "too few answers" not in said.split("min_side_pixels")[1].splitlines()[0], "one of one is all"
    assert "0.0 % (0.0, 0.0)" in said
    assert f"result    {page.parent}/result.json" in said
    assert f"audited: {page.parent}/audited.csv" in said


def test_unanswered_samples_are_counted(
    monkeypatch: pytest.MonkeyPatch, store: Path, answers_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert audit(monkeypatch, str(store), "--budget", "13", "--seed", "3") == 0
    uids = answer(store, answers_file)
    answers_file.write_text(f"uid,ok\n{uids[0]},no\n")
    capfd.readouterr()
    assert audit(monkeypatch, str(store), "--answers", str(answers_file)) == 0
    said = capfd.readouterr().out
    assert "1 of 13 drawn samples answered, 12 not" in said
    assert "too few answers" in said
    assert "of kinds without any answer" in said


def test_the_default_budget_takes_all_of_a_small_pool(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert audit(monkeypatch, str(store)) == 0
    assert "14 of 14 samples drawn" in capfd.readouterr().out
    assert len(list(store.glob("audit/*-200-0/index.html"))) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/nowhere"], (4, "is not a Curate store")),
        (["{store}", "--decision", "tin"], (2, "no single decision 'tin'")),
        (["{store}", "--budget", "2"], (2, "a budget of 2 is too small: it takes")),
        (["{store}", "--budget", "0"], (2, "Invalid value for '--budget'")),
        (["{store}", "--seed", "-1"], (2, "Invalid value for '--seed'")),
        (["{store}", "--answers", "x.csv"], (2, "draw one first, with the same command without --answers")),
    ],
)
def test_what_is_wrong_has_a_message_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    store: Path,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    expected: tuple[int, str],
) -> None:
    assert audit(monkeypatch, *(word.format(store=store) for word in words)) == expected[0]
    said = capfd.readouterr().err
    assert expected[1] in " ".join(said.split())
    assert "Traceback" not in said


def test_wrong_answers_are_told_with_file_and_line(
    monkeypatch: pytest.MonkeyPatch, store: Path, answers_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert audit(monkeypatch, str(store)) == 0
    answer(store, answers_file)
    with answers_file.open("a") as stream:
        stream.write("f" * 32 + ",1\n")
    capfd.readouterr()
    assert audit(monkeypatch, str(store), "--answers", str(answers_file)) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert f"{answers_file}, line 16: uid {'f' * 32} is not in the draw audit/tiny-" in said
    assert "give the answers of its own page, or the --budget, --seed and --decision" in said
