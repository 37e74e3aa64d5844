from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from filters.core.paths import Files, OneFile, beside, listed


def test_one_or_several_names() -> None:
    assert listed("a.npy") == ("a.npy",)
    assert listed(("a.npy", "b.npy")) == ("a.npy", "b.npy")


@pytest.mark.parametrize(
    "given", ["a.npy", "../x/*.npy", "s3://bucket/a.npy", ("a.npy", "b@c.npy"), "a?.npy"]
)
def test_paths_globs_and_urls_are_taken_as_they_are(given: str | tuple[str, ...]) -> None:
    assert TypeAdapter(Files).validate_python(given) == given


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/a", "https://host/a?token=secret"])
def test_a_url_with_a_secret_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="no password and no query"):
        TypeAdapter(Files).validate_python(("a.npy", url))
    with pytest.raises(ValidationError, match="no password and no query"):
        TypeAdapter(OneFile).validate_python(url)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("a.npy", True),
        ("in/*.npy", True),
        ("in/{0..3}.npy", True),
        ("in", True),
        ("../beside.npy", True),
        ("b.npy", False),
        ("other/*.npy", False),
    ],
)
def test_a_relative_name_lies_in_the_folder_where_it_is_there(
    tmp_path: Path, given: str, *, found: bool
) -> None:
    folder = tmp_path / "recipes"
    (folder / "in").mkdir(parents=True)
    for name in ("a.npy", "in/0.npy", "../beside.npy"):
        (folder / name).touch()
    assert beside(folder, given) == (str(folder / given) if found else given)


def test_absolute_names_and_urls_stay(tmp_path: Path) -> None:
    given = ("/a/*.npy", "s3://bucket/a.npy")
    assert beside(tmp_path, given) == given
