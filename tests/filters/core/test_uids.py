from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from filters.core.uids import UID_DTYPE, format_uids, is_uid, parse_uids, uid_places
from tests.filters.examples import uids

KNOWN = ["00112233445566778899aabbccddeeff", "f" * 32, "0" * 32, "0" * 31 + "1"]
NUMBERS = [[0x0011223344556677, 0x8899AABBCCDDEEFF], [2**64 - 1, 2**64 - 1], [0, 0], [0, 1]]


def test_a_uid_is_its_upper_and_lower_64_bits() -> None:
    parsed = parse_uids(pa.array(KNOWN))
    assert parsed.dtype == np.uint64
    assert parsed.dtype.isnative
    assert parsed.tolist() == NUMBERS


def test_formatting_undoes_parsing() -> None:
    texts = uids(500, seed=3)
    assert format_uids(parse_uids(texts)) == texts.to_pylist()
    assert format_uids(np.empty((0, 2), np.uint64)) == []


def test_the_order_of_the_numbers_is_the_order_of_the_text() -> None:
    texts = [*KNOWN, *uids(500, seed=4).to_pylist()]
    parsed = parse_uids(pa.array(texts))
    by_number = np.lexsort((parsed[:, 1], parsed[:, 0]))
    assert [texts[at] for at in by_number] == sorted(texts)


def test_numbers_are_datacomp_s_structured_array() -> None:
    texts = uids(200, seed=5)
    expected = np.array([(int(text[:16], 16), int(text[16:32], 16)) for text in texts.to_pylist()], UID_DTYPE)
    structured = np.ascontiguousarray(parse_uids(texts)).view(UID_DTYPE).ravel()
    assert np.array_equal(structured, expected)
    order = np.argsort(structured, kind="stable")
    assert [texts[int(at)].as_py() for at in order] == sorted(texts.to_pylist())


def test_upper_case_is_the_same_uid() -> None:
    mixed = [text.upper() if at % 2 else text for at, text in enumerate(KNOWN)]
    assert parse_uids(pa.array(mixed)).tolist() == NUMBERS
    assert format_uids(parse_uids(pa.array(["ABCDEF" + "0" * 26]))) == ["abcdef" + "0" * 26]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_slices_and_chunks_are_parsed_alike(kind: pa.DataType) -> None:
    whole = pa.array(KNOWN, kind)
    assert parse_uids(whole.slice(1, 2)).tolist() == NUMBERS[1:3]
    assert parse_uids(whole.slice(4)).shape == (0, 2)
    chunked = pa.chunked_array([whole.slice(2), whole.slice(0, 0), whole.slice(0, 2)])
    assert parse_uids(chunked).tolist() == NUMBERS[2:] + NUMBERS[:2]
    assert parse_uids(pa.chunked_array([], kind)).shape == (0, 2)
    assert parse_uids(pa.array([], kind)).dtype == np.uint64


def test_the_neighbours_of_a_slice_do_not_matter() -> None:
    broken = pa.array(["not a uid", KNOWN[0], None])
    assert parse_uids(broken.slice(1, 1)).tolist() == NUMBERS[:1]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([KNOWN[0], "g" + "0" * 31], "row 1 holds 'g0000"),
        (["0" * 31 + " "], "row 0 holds '0+ '"),
        (["+" + "0" * 31], r"row 0 holds '\+0"),
        (["é" * 16], "row 0 holds 'é"),
        ([KNOWN[0], None], "row 1 holds None"),
        (["0" * 31], "row 0 holds '0+'"),
        ([KNOWN[0], "0" * 33, "0" * 31], "row 1 holds '0+'"),
        ([""], "row 0 holds ''"),
        ([None], "row 0 holds None"),
    ],
)
def test_what_is_no_uid_is_named(texts: list[str | None], reason: str) -> None:
    with pytest.raises(ValueError, match="a uid is 32 hex digits, but " + reason):
        parse_uids(pa.array(texts, pa.string()))


@pytest.mark.parametrize("text", [*KNOWN, "ABCDEFabcdef01234567890123456789"])
def test_32_hex_digits_are_a_uid(text: str) -> None:
    assert is_uid(text)


@pytest.mark.parametrize("value", ["", "0" * 31, "0" * 33, "g" * 32, " " * 32, "٣" * 32, b"0" * 32, 0, None])
def test_anything_else_is_none(value: object) -> None:
    assert not is_uid(value)


def test_uids_are_found_among_others() -> None:
    numbers = parse_uids(uids(50, seed=5))
    numbers[7] = 0  # a key that ends in zero bytes is still itself
    known = numbers[[9, 7, 3, 9]]
    assert uid_places(numbers[[3, 4, 7, 9]], known).tolist() == [2, -1, 1, 0]
    assert uid_places(numbers, numbers[:0]).tolist() == [-1] * 50
    assert uid_places(numbers[:0], known).tolist() == []
