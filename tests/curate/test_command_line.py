"""The command line as a user meets it: output, messages and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from curate import cli
from tests.pools import photo, sample, write_tar

RECIPE = """\
name: tiny
filters:
  - min_side_pixels: 45
  - caption_words: {at_least: 3}
output: {report: false}
"""


def curate(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Runs the command line in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["curate", *words])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def store(
    monkeypatch: pytest.MonkeyPatch,
    recipe: Path,
    small_pool: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> Path:
    target = tmp_path / "out"
    assert curate(monkeypatch, "run", str(recipe), "--pool", str(small_pool), "--store", str(target)) == 0
    capfd.readouterr()
    return target


def test_run_reports_counts_and_where_results_lie(
    monkeypatch: pytest.MonkeyPatch,
    recipe: Path,
    small_pool: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "out"
    assert curate(monkeypatch, "run", str(recipe), "--pool", str(small_pool), "--store", str(target)) == 0
    said = capfd.readouterr()
    assert "measuring 2 of 2 shards" in said.err
    assert "min_side_pixels" in said.out
    assert list((target / "curated").rglob("00000000.tar"))


def test_run_again_measures_nothing(
    monkeypatch: pytest.MonkeyPatch,
    recipe: Path,
    small_pool: Path,
    store: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipe.write_text(RECIPE.replace("45", "50"))
    assert curate(monkeypatch, "run", str(recipe), "--pool", str(small_pool), "--store", str(store)) == 0
    assert "all 2 shards are measured" in capfd.readouterr().err


def test_plan_shows_filters_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
    recipe: Path,
    small_pool: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "nowhere"
    assert curate(monkeypatch, "plan", str(recipe), "--pool", str(small_pool), "--store", str(target)) == 0
    said = capfd.readouterr().out
    assert "width (image_facts)" in said
    assert "2 of 2" in said
    assert not target.exists()


def test_explain_shows_value_bound_and_vote(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert curate(monkeypatch, "explain", str(store), "000000000") == 0
    said = capfd.readouterr().out
    assert "drop by min_side_pixels" in said
    assert "at least 45 pixels" in said
    assert "40" in said


def test_explain_shows_tags_and_votes_that_drop_nothing(
    monkeypatch: pytest.MonkeyPatch,
    recipe: Path,
    small_pool: Path,
    store: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    text = RECIPE.replace("min_side_pixels: 45", "min_side_pixels: {at_least: 45, only_tag: true}")
    recipe.write_text(text.replace("output:", "  - alignment_levels: {by: width, outside: 0}\noutput:"))
    assert curate(monkeypatch, "run", str(recipe), "--pool", str(small_pool), "--store", str(store)) == 0
    capfd.readouterr()
    assert curate(monkeypatch, "explain", str(store), "000000000") == 0
    said = capfd.readouterr().out
    assert said.startswith("keep")
    assert "tags     alignment_level 0" in said
    assert "drop, only tagged" in said


def test_filters_says_what_a_filter_tags(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert curate(monkeypatch, "filters", "alignment_levels") == 0
    assert "Tags every sample with: alignment_level" in capfd.readouterr().out
    assert curate(monkeypatch, "filters", "top_fraction") == 0
    said = capfd.readouterr().out
    assert "Tags" not in said
    assert said.index("of_pool") < said.index("target") < said.index("only_tag")


def test_query_prints_a_table_csv_and_json(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sql = "SELECT dropped_by, count(*) AS n FROM samples GROUP BY 1 ORDER BY n"
    assert curate(monkeypatch, "query", str(store), sql) == 0
    assert "min_side_pixels  5" in capfd.readouterr().out
    assert curate(monkeypatch, "query", str(store), sql, "--format", "csv") == 0
    assert capfd.readouterr().out.splitlines() == ['"dropped_by","n"', '"min_side_pixels",5', ",7"]
    assert curate(monkeypatch, "query", str(store), sql, "--format", "json") == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert rows == [{"dropped_by": "min_side_pixels", "n": 5}, {"dropped_by": None, "n": 7}]


def test_a_caption_cannot_command_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
    recipe: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caption = "a picture \x1b[2J that clears [red]the screen[/red]"
    write_tar(tmp_path / "hostile" / "0.tar", sample("one", photo(1), caption))
    target = str(tmp_path / "out")
    assert (
        curate(monkeypatch, "run", str(recipe), "--pool", str(tmp_path / "hostile"), "--store", target) == 0
    )
    assert curate(monkeypatch, "explain", target, "one") == 0
    assert curate(monkeypatch, "query", target, "SELECT caption FROM samples") == 0
    said = capfd.readouterr().out
    assert "\x1b" not in said
    assert said.count("[red]the screen[/red]") == 2


def test_schema_option_lists_every_view(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert curate(monkeypatch, "query", str(store), "--schema") == 0
    said = capfd.readouterr().out
    for word in ("samples", "drops", "failures", "runs", "caption_words", "bits, 0..8"):
        assert word in said


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "no_such_recipe", "--store", "x"], 2, "no recipe file 'no_such_recipe'"),
        (["run", "no_filtre", "--store", "x"], 2, "did you mean no_filter"),
        (["run", "no_filter", "--store", "x"], 2, "no pool given"),
        (["run", "no_filter", "--store", "x", "--pool", "/nowhere/*.tar"], 2, "no shard matches"),
        (["filters", "min_side_pixel"], 2, "did you mean min_side_pixels"),
        (["measures", "clipp"], 2, "did you mean clip"),
        (["recipes", "basic"], 2, "basic_filter"),
        (["query", "/nowhere", "SELECT 1"], 4, "is not a Curate store"),
        (["explain", "/nowhere", "x"], 4, "is not a Curate store"),
        (["query", "/nowhere", "SELECT 1", "--storage-options", "nonsense"], 2, "must be a JSON object"),
        (["run"], 2, "Missing argument"),
        (["runn"], 2, "No such command"),
    ],
)
def test_what_is_wrong_has_a_message_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    assert curate(monkeypatch, *words) == code
    said = capfd.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said


def test_wrong_sql_and_unknown_samples_are_told_plainly(
    monkeypatch: pytest.MonkeyPatch, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert curate(monkeypatch, "query", str(store), "SELECT nonsense FROM samples") == 2
    assert 'column "nonsense" not found' in capfd.readouterr().err
    assert curate(monkeypatch, "explain", str(store), "nobody") == 2
    assert "no sample with key or uid 'nobody'" in capfd.readouterr().err


def test_a_recipe_error_names_line_key_value_and_fix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("name: wrong\nfilters:\n  - min_side_pixel: 200\n  - caption_words: many\n")
    assert curate(monkeypatch, "run", str(path), "--pool", "x", "--store", str(tmp_path / "out")) == 2
    said = capfd.readouterr().err
    assert "line 3" in said
    assert "did you mean min_side_pixels" in said
    assert "line 4" in said
    assert "'many'" in said


def test_version_and_help_start_without_loading_torch_or_beam() -> None:
    code = (
        "import sys; sys.argv = ['curate', '--version']; import curate.cli as cli; cli.main();"
        "assert not {'torch', 'apache_beam'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("curate 0.")
