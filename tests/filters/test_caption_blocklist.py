from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.caption_blocklist import CaptionBlocklist
from filters.core.declaration import Judgement
from tests.filters.judging import answers, judge


def blocked(*terms: str, captions: Sequence[str | None], whole_caption: bool = False) -> list[bool | None]:
    """True for each caption that the terms drop."""
    judgement = judge(CaptionBlocklist(terms=terms, whole_caption=whole_caption), caption=list(captions))
    return [None if kept is None else not kept for kept in answers(judgement)]


def found(judgement: Judgement) -> list[str | None]:
    assert isinstance(judgement.value, pa.Array)
    return list(judgement.value.to_pylist())


def test_a_term_is_a_whole_word_in_any_case() -> None:
    captions = ["Free Stock Photo - 1234", "stock photography", "livestock photo", "STOCK PHOTO"]
    assert blocked("stock photo", captions=captions) == [True, False, False, True]


def test_the_first_term_in_the_list_is_the_reason() -> None:
    rule = CaptionBlocklist(terms=("cat", "dog", "bird"))
    judgement = judge(rule, caption=["a bird and a dog", "a cat", "a fish", None, "bird"])
    assert found(judgement) == ["dog", "cat", None, None, "bird"]
    assert answers(judgement) == [False, False, True, None, False]
    assert judgement.bound == "none of 3 blocked terms"


@pytest.mark.parametrize(
    "around", ["{}", "({})", "{}.", '"{}"', "-{}-", "x {}, y", "\n{}\n", "…{}…", "\uff01{}\uff01"]
)
def test_punctuation_and_white_space_end_a_word(around: str) -> None:
    assert blocked("image", captions=[around.format("image")]) == [True]


@pytest.mark.parametrize("around", ["{}s", "pre{}", "{}1", "_{}", "{}_v2", "{}é", "ß{}"])
def test_letters_digits_and_underscores_continue_a_word(around: str) -> None:
    assert blocked("image", captions=[around.format("image")]) == [False]


@pytest.mark.parametrize(
    ("term", "yes", "no"),
    [
        ("café", "Un CAFÉ noir", "cafés"),
        ("cafe", "cafe au lait", "cafe\u0301 au lait"),
        ("cafe\u0301", "un cafe\u0301", "un cafe\u0301s"),
        ("हिन्द", "जय हिन्द।", "हिन्दी"),
        ("фото", "стоковое ФОТО", "фотограф"),
        ("写真", "「写真」", "写真集"),
    ],
)
def test_words_of_any_script_are_whole_words(term: str, yes: str, no: str) -> None:
    assert blocked(term, captions=[yes, no]) == [True, False]


@pytest.mark.parametrize(
    "term",
    ["c++", "a.b", "(x)", "[sic]", "$5", "^_^", "a|b", r"back\slash", "50%", "{0}", "*", "?!", "#ad", "©"],
)
def test_a_term_is_text_and_not_a_pattern(term: str) -> None:
    assert blocked(term, captions=[f"see {term} here", term, "see nothing here", "aXb cc"]) == [
        True,
        True,
        False,
        False,
    ]


def test_a_term_that_begins_or_ends_with_punctuation_needs_no_word_edge_there() -> None:
    assert blocked(".jpg", captions=["IMG_1234.JPG", "photo.jpgs"]) == [True, False]
    assert blocked("img_", captions=["IMG_1234", "a img_ b", "myimg_ x"]) == [False, True, False]


@pytest.mark.parametrize("space", ["  ", "\t", "\n", "\u00a0", "\u3000", "\u2009 ", "\x0b", "\x1c", "\x85"])
def test_any_white_space_stands_for_the_space_in_a_term(space: str) -> None:
    assert blocked(" stock   photo ", captions=[f"stock{space}photo"]) == [True]
    whole = [f"{space}stock photo{space}"]
    assert blocked("stock photo", captions=whole, whole_caption=True) == [True]


def test_whole_caption_drops_only_captions_that_equal_a_term() -> None:
    captions = ["Image", "  image ", "an image", "image.", "", None]
    expected = [True, True, False, False, False, None]
    assert blocked("image", captions=captions, whole_caption=True) == expected
    assert blocked("c++", "image", captions=captions, whole_caption=True) == expected


@pytest.mark.parametrize("terms", [(), ("",), ("dog", " \t")])
def test_terms_that_would_block_every_caption_are_refused(terms: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match=r"empty term would block every caption|at least 1 item"):
        CaptionBlocklist(terms=terms)


def test_a_term_too_long_for_a_pattern_is_refused_before_any_work() -> None:
    with pytest.raises(ValidationError, match="too long for one pattern"):
        CaptionBlocklist(terms=("x" * 1_000_000,))


def test_thousands_of_terms_find_the_same_as_each_alone() -> None:
    terms = tuple(f"term{number}" for number in range(2500))
    captions: list[str | None] = [
        "a term0 b",
        "term1000",
        "TERM2499!",
        "term2500",
        "term",
        "term1 term999",
        None,
    ]
    judgement = judge(CaptionBlocklist(terms=terms), caption=list(captions))
    assert found(judgement) == ["term0", "term1000", "term2499", None, None, "term1", None]
    assert answers(judgement) == [False, False, False, True, True, False, None]


def test_large_strings_are_read() -> None:
    caption = pa.array(["an image", None, "imagery"], pa.large_string())
    judgement = CaptionBlocklist(terms=("image",)).judge({"caption": caption})
    assert answers(judgement) == [False, None, True]
    assert found(judgement) == ["image", None, None]
