"""A user's concepts: what YAML may say, what captions name, and what prompts become."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from filters.core.errors import RecipeError
from tests.vocabularies import CLIP, written
from transforms import vocabulary as module
from transforms.encoders import load_encoder
from transforms.vocabulary import (
    DEFAULT_TEMPLATES,
    Concept,
    Vocabulary,
    class_embeddings,
    definition_embeddings,
    load_vocabulary,
    parse_vocabulary,
)

ANIMALS = """\
templates: ["a photo of a {}.", "my {}"]
concepts:
  dog:
    names: [dog, puppy]
    definition: an animal that barks
    children: [beagle, {poodle: {names: [poodle, caniche]}}]
  cat:
  hot dog: {names: [hot dog]}
"""


def animals() -> Vocabulary:
    return parse_vocabulary(ANIMALS.encode(), "animals.yaml")


def names_in(vocabulary: Vocabulary, caption: str | None) -> list[str]:
    (found,) = vocabulary.named_in([caption])
    return [vocabulary.names[place] for place in np.flatnonzero(found)]


def test_parents_come_before_their_children() -> None:
    found = animals()
    assert found.templates == ("a photo of a {}.", "my {}")
    assert found.concepts[:2] == (
        Concept("dog", ("dog", "puppy"), "an animal that barks", -1),
        Concept("beagle", ("beagle",), None, 0),
    )
    assert found.names == ("dog", "beagle", "poodle", "cat", "hot dog")
    assert [concept.parent for concept in found.concepts] == [-1, 0, 0, -1, -1]
    assert found.leaves.tolist() == [1, 2, 3, 4]
    assert found.prompts()[2] == (
        "a photo of a poodle.",
        "a photo of a caniche.",
        "my poodle",
        "my caniche",
    )


def test_a_list_is_enough() -> None:
    found = parse_vocabulary(b"concepts: [airplane, bird]", "x")
    assert found == Vocabulary((Concept("airplane", ("airplane",)), Concept("bird", ("bird",))))
    assert found.templates == DEFAULT_TEMPLATES
    assert hash(found) == hash(pickle.loads(pickle.dumps(found)))  # noqa: S301  (our own bytes)


@pytest.mark.parametrize(
    ("caption", "names"),
    [
        ("A DOG, barking", ["dog"]),
        ("two dogs and three puppies", ["dog"]),
        ("a beagle", ["beagle"]),
        ("the dog's poodle", ["dog", "poodle"]),
        ("a hot dog", ["hot dog"]),
        ("a hot\n dog with dogs", ["dog", "hot dog"]),
        ("hotdog, doghouse, underdog", []),
        ("beagle_dog", []),
        ("", []),
        (None, []),
    ],
)
def test_a_caption_names_whole_words_and_the_longest(caption: str | None, names: list[str]) -> None:
    assert names_in(animals(), caption) == names


@pytest.mark.parametrize(
    ("name", "caption", "named"),
    [
        ("猫", "一只黑猫坐在沙发上", True),
        ("café", "CAFE\u0301s at noon", True),
        ("cafe", "a café", False),
        ("ＣＡＴ", "the cat", True),  # noqa: RUF001  (full width, as some captions are)
        ("कुत", "कुत्ता", False),
        ("bus", "buses", True),
        ("baby", "babies", True),
        ("t-shirt", "T-shirts for sale", True),
        ("c++", "the C language", False),
    ],
)
def test_words_are_those_of_any_script(name: str, caption: str, named: bool) -> None:  # noqa: FBT001
    found = Vocabulary((Concept(name, (name,)),))
    assert names_in(found, caption) == ([name] if named else [])


def test_a_name_wins_over_the_plural_of_another() -> None:
    found = parse_vocabulary(b"concepts: [glass, {spectacles: {names: [glasses]}}]", "x")
    assert names_in(found, "glasses") == ["spectacles"]


def test_no_caption_is_no_row() -> None:
    assert animals().named_in([]).shape == (0, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "v.yaml is no vocabulary: write `concepts"),
        ("[dog]", "v.yaml is no vocabulary"),
        ("templates: ['a {}']", "v.yaml: concepts names no concept"),
        ("concepts: []", "v.yaml: concepts names no concept"),
        ("concepts: [dog]\nclasses: []", "v.yaml has an unknown key 'classes'; did you mean templates"),
        ("concepts: {dog: {name: [a]}}", r"concepts\.dog has an unknown key 'name'; did you mean names"),
        ("concepts: {dog: [a]}", r"concepts\.dog must be a mapping with names, definition or children"),
        ("concepts: [dog, no]", r"concepts\[2\] must be text, not False: put it in quotes"),
        ("concepts: {dog: {names: [1984]}}", r"concepts\.dog\.names\[1\] must be text, not 1984"),
        ("concepts: {dog: {names: dog}}", r"concepts\.dog\.names must be a list of texts"),
        ("concepts: {dog: {definition: }}", r"concepts\.dog\.definition must be text, not None"),
        ("concepts: ['dog', ' ']", r"concepts\[2\] is empty"),
        ("concepts: [dog, Dog]", r"concepts\[2\] has the name 'Dog', which is also one of concepts\[1\]"),
        ("concepts: {dog: {names: [a, A]}}", r"concepts\.dog has one of the names a, A twice"),
        ("concepts: {dog: {names: [cat]}, cat: }", r"concepts\.cat has the name 'cat', which is also one of"),
        (
            "concepts: {dog: {children: [{cat: {names: [DOG]}}]}}",
            r"children\[1\]\.cat has the name 'DOG', which is also one of concepts\.dog",
        ),
        ("concepts: {dog: , dog: }", "v.yaml, line 1: not YAML: the key 'dog' stands here twice; keep one"),
        ("concepts: {dog: {children: []}}", r"concepts\.dog\.children names no concept"),
        ("templates: [a photo]\nconcepts: [dog]", "templates 'a photo' has no {}"),
        ("templates: []\nconcepts: [dog]", "templates must be a list of texts, at least one"),
        ("concepts: [dog", "v.yaml, line 1: not YAML"),
        ("concepts: &all [*all]", r"concepts\[1\] must be text"),
        ("concepts: [2024-13-01]", "v.yaml: not YAML: month must be in 1..12"),
        ("concepts: !!python/object/apply:os.getcwd []", "not YAML: could not determine a constructor"),
        ("concepts: " + "[" * 5000, "v.yaml: nested too deep|not YAML"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_place(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_vocabulary(text.encode(), "v.yaml")


def test_a_file_has_bounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "MOST_CONCEPTS", 2)
    with pytest.raises(RecipeError, match="more than 2 concepts"):
        parse_vocabulary(b"concepts: [a, b, c]", "v")
    monkeypatch.setattr(module, "MAX_BYTES", 20)
    with pytest.raises(RecipeError, match="at most 20 bytes"):
        load_vocabulary(written(tmp_path, "concepts: [abcdefgh, ijklmnop]"))
    with pytest.raises(RecipeError, match=r"labels: .*none.yaml' does not exist"):
        load_vocabulary(str(tmp_path / "none.yaml"))
    written(tmp_path / "other")
    with pytest.raises(RecipeError, match=r"matches 2 files: name one"):
        load_vocabulary(f"{tmp_path}/**/*.yaml")


def test_a_changed_file_is_read_again_and_named_by_its_content(tmp_path: Path) -> None:
    before = load_vocabulary(written(tmp_path, "concepts: [a, b]"))
    same = load_vocabulary(written(tmp_path / "other", "concepts: {a: , b: }"))
    assert same == before
    assert same.fingerprint == before.fingerprint
    after = load_vocabulary(written(tmp_path, "concepts: [a, c]"))
    assert after.names == ("a", "c")
    assert after.fingerprint != before.fingerprint


def test_a_class_is_the_mean_of_its_prompts() -> None:
    found = class_embeddings(animals(), CLIP)
    assert found.shape == (5, 64)
    assert found.dtype == np.float32
    assert not found.flags.writeable
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    encoder = load_encoder(CLIP.model, None, "cpu", "fp32")
    mean = encoder.encode_texts(animals().prompts()[2]).astype(np.float64).sum(axis=0)
    assert np.allclose(found[2], mean / np.linalg.norm(mean), atol=1e-3)
    assert class_embeddings(animals(), CLIP) is found


def test_a_definition_stands_for_its_concept_where_there_is_one() -> None:
    found, prompts = definition_embeddings(animals(), CLIP), class_embeddings(animals(), CLIP)
    encoder = load_encoder(CLIP.model, None, "cpu", "fp32")
    (said,) = encoder.encode_texts(["an animal that barks"])
    assert np.allclose(found[0], said, atol=1e-3)
    assert np.allclose(found[1:], prompts[1:], atol=1e-3)
