from __future__ import annotations

from pathlib import Path

import pytest

from filters.core.errors import RecipeError
from filters.core.uids import format_uids
from transforms.noise.concept_examples import read_examples
from transforms.vocabulary import parse_vocabulary

VOCABULARY = parse_vocabulary(b"concepts: {dog: {children: [beagle, poodle]}, cat: {}}", "v.yaml")
ONE, TWO = "0" * 31 + "1", "a" * 32


def written(folder: Path, text: str) -> str:
    path = folder / "examples.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_examples_are_read_in_the_order_of_their_uids(tmp_path: Path) -> None:
    text = f"concept,uid,who\ncat,{TWO.upper()},me\nbeagle, {ONE} ,me\ncat,{TWO},you\n"
    found = read_examples(written(tmp_path, text), VOCABULARY)
    assert format_uids(found.uids) == [ONE, TWO]
    names = [VOCABULARY.names[leaf] for leaf in VOCABULARY.leaves]
    assert [names[leaf] for leaf in found.leaf] == ["beagle", "cat"]


def test_a_file_without_rows_holds_no_example(tmp_path: Path) -> None:
    found = read_examples(written(tmp_path, "uid,concept\n"), VOCABULARY)
    assert found.uids.shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: no columns uid and concept, but nothing"),
        ("uid,label\n", "line 1: no columns uid and concept, but uid, label"),
        ("uid,concept\n17,cat\n", "line 2: a uid is 32 hex digits, not '17'"),
        (f"uid,concept\n{ONE},kat\n", "line 2: concept 'kat' did you mean cat"),
        (f"uid,concept\n{ONE},dog\n", "line 2: concept 'dog' has children: name one of them"),
        (f"uid,concept\n{ONE},\n", "line 2: concept '' known: beagle, cat, poodle"),
        (f"uid,concept\n{ONE},cat\n{ONE},poodle\n", "lines 2 and 3: .* shows 'cat' and 'poodle': keep one"),
        ('uid,concept\n"0', "is no CSV file"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        read_examples(written(tmp_path, text), VOCABULARY)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"examples: can't read .*none\.csv"):
        read_examples(str(tmp_path / "none.csv"), VOCABULARY)
    path = tmp_path / "latin.csv"
    path.write_bytes(b"uid,concept\n\xff")
    with pytest.raises(RecipeError, match="is no CSV file in UTF-8"):
        read_examples(str(path), VOCABULARY)
