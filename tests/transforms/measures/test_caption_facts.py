"""Facts about captions whose values are known beforehand."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tests.transforms.reading import named
from transforms.measure import DerivedMeasure
from transforms.measures.caption_facts import COLUMNS, caption_facts


def facts(caption: str) -> dict[str, Any]:
    return dict(zip([column.name for column in COLUMNS], caption_facts(caption), strict=True))


def test_characters_and_words_are_counted_as_python_does() -> None:
    found = facts("two\u00a0words and\tmore 名前 👍🏽")
    assert (found["caption_characters"], found["caption_words"]) == (24, 6)


def test_the_empty_caption_has_shares_of_zero() -> None:
    assert caption_facts("") == (0, 0, 0.0, 0.0, None, 0.0, 0, 0.0, 0.0)
    assert facts("123 !")["caption_script"] is None


def test_shares_of_digits_and_capitals() -> None:
    found = facts("IMG 42")
    assert found["caption_digit_share"] == pytest.approx(2 / 6)
    assert found["caption_upper_share"] == 1.0


@pytest.mark.parametrize(
    ("caption", "script", "share"),
    [
        ("привет hi", "CYRILLIC", 6 / 8),
        ("名前", "CJK", 1.0),
        ("éa", "LATIN", 1.0),
        ("a\u0431", "CYRILLIC", 0.5),
    ],
)
def test_the_script_is_that_of_most_letters(caption: str, script: str, share: float) -> None:
    found = facts(caption)
    assert (found["caption_script"], found["caption_script_share"]) == (script, pytest.approx(share))


@pytest.mark.parametrize(
    ("caption", "url", "email"),
    [
        ("see https://x.org", 13 / 17, 0),
        ("SEE WWW.X.ORG", 9 / 13, 0),
        ("http://a www.b", 13 / 14, 0),
        ("www. dots", 0, 0),
        ("me@x.org!", 0, 8 / 9),
        ("a @ b", 0, 0),
        ("e" * 100_000 + "@", 0, 0),  # in no time
    ],
)
def test_addresses_are_shares_of_the_caption(caption: str, url: float, email: float) -> None:
    found = facts(caption)
    assert (found["caption_url_share"], found["caption_email_share"]) == (url, email)


def test_scripts_are_counted() -> None:
    assert [
        facts(caption)["caption_scripts"] for caption in ("12", "dog 5", "dog собака", "dog собака 犬")
    ] == [0, 1, 2, 3]


def test_a_null_caption_has_null_facts() -> None:
    options = named("caption_facts").options
    assert isinstance(options, DerivedMeasure)
    derived = options.derive("caption_facts", {"caption": pa.array(["ab", None])}, None)
    assert {name: column.to_pylist()[1] for name, column in derived.items()} == dict.fromkeys(derived)
    assert [column.type for column in derived.values()] == [column.type for column in COLUMNS]
    assert derived["caption_characters"].to_pylist() == [2, None]
