from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import filters
from filters.core.catalogue import filter_kind, filter_names, find_filter, nearest
from filters.core.errors import RecipeError
from filters.drop_exact_duplicates import DropExactDuplicates
from filters.min_side_pixels import MinSidePixels
from filters.top_fraction import TopFraction

ONE = '''
from filters.core.declaration import Judgement, RowFilter, within

class {name}(RowFilter):
    """Keep all."""

    def reads(self):
        return ("width",)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules are filters for the time of a test."""
    import sys

    monkeypatch.setattr(filters, "__path__", [*filters.__path__, str(tmp_path)])
    find_filter.cache_clear()
    yield tmp_path
    find_filter.cache_clear()
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(f"filters.{path.stem}", None)
        if hasattr(filters, path.stem):
            delattr(filters, path.stem)


def test_a_filter_is_found_by_the_name_of_its_file() -> None:
    assert find_filter("min_side_pixels") is MinSidePixels
    names = filter_names()
    assert names == sorted(names)
    assert "core" not in names
    assert "top_fraction" in names


def test_a_new_file_is_a_new_filter(folder: Path) -> None:
    (folder / "every_sample.py").write_text(ONE.format(name="EverySample"))
    assert "every_sample" in filter_names()
    assert find_filter("every_sample").__name__ == "EverySample"


def test_a_file_with_two_filters_is_refused(folder: Path) -> None:
    (folder / "two_rules.py").write_text(ONE.format(name="First") + ONE.format(name="Second"))
    with pytest.raises(
        TypeError, match=r"filters/two_rules.py must declare exactly one filter, but declares 2"
    ):
        find_filter("two_rules")


def test_a_file_without_a_filter_is_refused(folder: Path) -> None:
    """Imported and private classes do not count."""
    (folder / "no_rule.py").write_text(ONE.format(name="_Private"))
    with pytest.raises(
        TypeError, match=r"filters/no_rule.py must declare exactly one filter, but declares 0"
    ):
        find_filter("no_rule")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        RecipeError, match=r"unknown filter 'min_side_pixel'; did you mean min_side_pixels\b.*\?"
    ):
        find_filter("min_side_pixel")
    with pytest.raises(RecipeError, match=r"unknown filter 'core'"):
        find_filter("core")


def test_a_name_like_no_other_is_answered_with_all() -> None:
    with pytest.raises(RecipeError, match=r"known: alignment_levels, .*, top_fraction$"):
        find_filter("zzz")
    assert nearest("x", ["beta", "alpha"]) == "known: alpha, beta"


def test_the_nearest_names_come_best_first_and_at_most_three() -> None:
    assert nearest("language", ["languages", "langue", "word"]) == "did you mean languages or langue?"
    assert nearest("aaaa", ["aaab", "aaac", "aaad", "aaae"]).count(" or ") == 2


def test_kinds() -> None:
    assert filter_kind(MinSidePixels) == "row"
    assert filter_kind(TopFraction) == "fitted"
    assert filter_kind(DropExactDuplicates) == "relational"
