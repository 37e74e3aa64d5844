"""A user's concepts: read from YAML, found in captions, and turned into embeddings of prompts.

    templates: ["a photo of a {}.", …]     # a few general ones where none are given
    concepts:
      dog: {names: [dog, puppy], definition: "an animal that barks", children: [beagle, poodle]}
      cat:                                  # names are the key where none are given

`concepts: [airplane, bird]` is short for concepts without options; so is a text in `children`.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import fsspec
import numpy as np
import yaml
from numpy.typing import NDArray

from filters.core.catalogue import nearest
from filters.core.errors import RecipeError
from transforms.encoders import load_encoder, weights_identity
from transforms.fingerprints import fingerprint
from transforms.measures.clip import Clip
from transforms.references import content_fingerprint, find_files
from transforms.storage import redact

WHAT = "labels"
MAX_BYTES = 4 << 20
MOST_CONCEPTS = 10_000
DEFAULT_TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a close-up photo of a {}.",
    "a blurry photo of a {}.",
    "a picture of a small {}.",
    "a picture of a large {}.",
    "a {}.",
)


@dataclass(frozen=True)
class Concept:
    """Something that pictures may show.

    Attributes:
        names: what captions call it, at least one; parent: place of the wider concept, -1 for none.
    """

    name: str
    names: tuple[str, ...]
    definition: str | None = None
    parent: int = -1


@dataclass(frozen=True)
class Vocabulary:
    """Concepts, parents before their children, and the sentences that prompts are made of.

    Attributes:
        templates: texts with {} where a name goes.
    """

    concepts: tuple[Concept, ...]
    templates: tuple[str, ...] = DEFAULT_TEMPLATES

    @property
    def names(self) -> tuple[str, ...]:
        """What each concept is called, (K,)."""
        return tuple(concept.name for concept in self.concepts)

    @cached_property
    def leaves(self) -> NDArray[np.intp]:
        """Places of the concepts without children, in order."""
        parents = {concept.parent for concept in self.concepts}
        return np.array([place for place in range(len(self.concepts)) if place not in parents], np.intp)

    @cached_property
    def fingerprint(self) -> str:
        """Names the content, whatever the file is called."""
        concepts = [[one.name, one.names, one.definition, one.parent] for one in self.concepts]
        return fingerprint([concepts, self.templates])

    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """The texts that stand for each concept: every template with every name."""
        return tuple(
            tuple(template.replace("{}", name) for template in self.templates for name in concept.names)
            for concept in self.concepts
        )

    def named_in(self, captions: Sequence[str | None]) -> NDArray[np.bool_]:
        """Which concepts each caption names: whole words, in any case, singular or plural.

        The longest name wins: "hot dog" is no dog. Between letters of scripts that are written
        without spaces any place may begin a name. A name says nothing of parents: "beagle" is no
        "dog".

        Returns: (n, K) bool; nothing is named in None.
        """
        places = {text: list(self._mentions(words(text))) for text in set(captions) if text}
        found = np.zeros((len(captions), len(self.concepts)), np.bool_)
        for row, caption in enumerate(captions):
            if caption:
                found[row, places[caption]] = True
        return found

    @cached_property
    def _phrases(self) -> tuple[dict[tuple[str, ...], int], dict[str, int]]:
        """Words of every name, also in the plural -> its concept; first word -> most words that follow."""
        phrases = {
            words(name): place for place, concept in enumerate(self.concepts) for name in concept.names
        }
        for phrase, place in list(phrases.items()):
            phrases.setdefault((*phrase[:-1], _plural(phrase[-1])), place)
        longest: dict[str, int] = {}
        for phrase in phrases:
            longest[phrase[0]] = max(len(phrase), longest.get(phrase[0], 0))
        return phrases, longest

    def _mentions(self, said: tuple[str, ...]) -> Iterator[int]:
        phrases, longest = self._phrases
        at = 0
        while at < len(said):
            for length in range(longest.get(said[at], 0), 0, -1):
                if (place := phrases.get(said[at : at + length])) is not None:
                    yield place
                    at += length
                    break
            else:
                at += 1


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, signs between them, and letters of scripts without spaces."""
    return tuple(_word().findall(unicodedata.normalize("NFKC", text).casefold()))


@lru_cache(maxsize=1)
def _word() -> re.Pattern[str]:
    # Marks belong to the word: \w leaves them out, which would cut words of Hindi or Arabic.
    marks = "".join(
        chr(code) for code in range(sys.maxunicode) if unicodedata.category(chr(code)).startswith("M")
    )
    # Thai and Lao, Myanmar, Khmer, kana, Han.
    dense = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    dense += "\U00020000-\U0003ffff"
    return re.compile(rf"[{dense}]|(?:(?![{dense}])[\w{marks}])+|[^\w\s]")


def _plural(word: str) -> str:
    """The regular English plural."""
    if re.search(r"(s|x|z|ch|sh)$", word):
        return f"{word}es"
    if re.search(r"[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    return f"{word}s"


# --- embeddings


def class_embeddings(vocabulary: Vocabulary, options: Clip) -> NDArray[np.float32]:
    """What stands for each concept: the mean of its prompts' unit embeddings, normalised again.

    Prompt ensembles as in Radford et al. 2021, arXiv 2103.00020, section 3.1.4.

    Returns: (K, d) float32 unit rows, read-only.
    Raises: ModelError where the model can't be loaded.
    """
    return _embedded(vocabulary.prompts(), options, _weights(options))


def definition_embeddings(vocabulary: Vocabulary, options: Clip) -> NDArray[np.float32]:
    """As `class_embeddings`, of each concept's definition; of its prompts where it has none."""
    texts = tuple(
        (concept.definition,) if concept.definition is not None else prompts
        for concept, prompts in zip(vocabulary.concepts, vocabulary.prompts(), strict=True)
    )
    return _embedded(texts, options, _weights(options))


def model_temperature(options: Clip) -> float:
    """What the model's cosines are divided by before a softmax, as it was trained."""
    encoder = load_encoder(options.model, options.pretrained, options.device, options.precision)
    return 1 / encoder.logit_scale


def _weights(options: Clip) -> str:
    return weights_identity(options.model, options.pretrained)


@lru_cache(maxsize=4)
def _embedded(
    texts: tuple[tuple[str, ...], ...],
    options: Clip,
    weights: str,  # noqa: ARG001  (another file under the same name is another model)
) -> NDArray[np.float32]:
    encoder = load_encoder(options.model, options.pretrained, options.device, options.precision)
    vectors = encoder.encode_texts([text for some in texts for text in some], options.batch_size)
    counts = np.array([len(some) for some in texts])
    sums = np.add.reduceat(vectors.astype(np.float64), np.cumsum(counts) - counts, axis=0)
    # Prompts that cancel out have no direction: such a concept fits no picture.
    lengths = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    means: NDArray[np.float32] = (sums / lengths).astype(np.float32)
    means.flags.writeable = False
    return means


# --- reading


def load_vocabulary(path: str) -> Vocabulary:
    """The vocabulary in a YAML file, by path or URL.

    Raises: RecipeError, naming file, place and fix, where it can't be read or is no vocabulary.
    """
    files = find_files([path], WHAT)
    if len(files) != 1:
        msg = f"{WHAT}: {redact(path)!r} matches {len(files)} files: name one"
        raise RecipeError(msg)
    return _load(files[0], content_fingerprint(files[0]))


@lru_cache(maxsize=8)
def _load(path: str, content: str) -> Vocabulary:  # noqa: ARG001  (another content is another vocabulary)
    name = redact(path)
    try:
        with fsspec.open(path, "rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except OSError as cause:
        msg = f"{WHAT}: can't read {name!r}: {cause}"
        raise RecipeError(msg) from cause
    return parse_vocabulary(text, name)


def parse_vocabulary(text: bytes, name: str) -> Vocabulary:
    """The vocabulary of a YAML text; name: how messages call it.

    Raises: RecipeError as `load_vocabulary`.
    """
    if len(text) > MAX_BYTES:
        msg = f"{name}: a vocabulary has at most {MAX_BYTES} bytes"
        raise RecipeError(msg)
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader that refuses repeated keys)
    except (yaml.YAMLError, ValueError) as cause:  # ValueError: such as the date 2024-13-01
        mark = getattr(cause, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        msg = f"{name}{where}: not YAML: {getattr(cause, 'problem', None) or cause}"
        raise RecipeError(msg) from cause
    except RecursionError as cause:
        msg = f"{name}: nested too deep"
        raise RecipeError(msg) from cause
    return _Reader(name).vocabulary(content)


class _Loader(yaml.SafeLoader):
    """Plain values only; of two equal keys the plain loader would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands here twice; keep one", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


class _Reader:
    """Checks what YAML said, and says where it is wrong."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._concepts: list[Concept] = []
        self._owner: dict[tuple[str, ...], str] = {}

    def vocabulary(self, content: object) -> Vocabulary:
        if not isinstance(content, Mapping):
            raise self._wrong("", "is no vocabulary: write `concepts: [dog, cat]`")
        self._only(content, ("templates", "concepts"), "")
        templates = self._templates(content["templates"]) if "templates" in content else DEFAULT_TEMPLATES
        self._add(content.get("concepts"), "concepts", -1)
        return Vocabulary(tuple(self._concepts), templates)

    def _templates(self, given: object) -> tuple[str, ...]:
        found = self._texts(given, "templates")
        for template in found:
            if "{}" not in template:
                raise self._wrong("templates", f"{template!r} has no {{}}, where a name goes")
        return found

    def _add(self, given: object, place: str, parent: int) -> None:
        if isinstance(given, Mapping) and given:
            for key, options in given.items():
                self._concept(key, options, f"{place}.{key}", parent)
        elif isinstance(given, list) and given:
            for number, item in enumerate(given, start=1):
                here = f"{place}[{number}]"
                if isinstance(item, Mapping):
                    self._add(item, here, parent)
                else:
                    self._concept(item, None, here, parent)
        else:
            raise self._wrong(place, "names no concept: write a list, or a mapping of names to options")

    def _concept(self, key: object, options: object, place: str, parent: int) -> None:
        name = self._text(key, place)
        if options is not None and not isinstance(options, Mapping):
            raise self._wrong(place, "must be a mapping with names, definition or children, or empty")
        given = options or {}
        self._only(given, ("names", "definition", "children"), place)
        names = self._texts(given["names"], f"{place}.names") if "names" in given else (name,)
        definition = self._text(given["definition"], f"{place}.definition") if "definition" in given else None
        if len(self._concepts) >= MOST_CONCEPTS:
            raise self._wrong("", f"has more than {MOST_CONCEPTS} concepts: take fewer")
        self._own(name, names, place)
        here = len(self._concepts)
        self._concepts.append(Concept(name, names, definition, parent))
        if "children" in given:
            self._add(given["children"], f"{place}.children", here)

    def _own(self, name: str, names: Sequence[str], place: str) -> None:
        """Notes whose names these are; none may stand for two concepts, or twice for one."""
        said = list(names) if name in names else [name, *names]
        for text in said:
            owner = self._owner.setdefault(words(text), place)
            if owner != place:
                raise self._wrong(place, f"has the name {text!r}, which is also one of {owner}: keep one")
        if len({words(text) for text in names}) < len(names):
            raise self._wrong(place, f"has one of the names {', '.join(names)} twice: keep one")

    def _only(self, given: Mapping[Any, Any], known: Sequence[str], place: str) -> None:
        for key in given:
            if key not in known:
                raise self._wrong(place, f"has an unknown key {key!r}; {nearest(str(key), known)}")

    def _texts(self, given: object, place: str) -> tuple[str, ...]:
        if not isinstance(given, list) or not given:
            raise self._wrong(place, "must be a list of texts, at least one")
        return tuple(self._text(item, f"{place}[{number}]") for number, item in enumerate(given, start=1))

    def _text(self, given: object, place: str) -> str:
        if not isinstance(given, str):
            raise self._wrong(place, f"must be text, not {given!r}: put it in quotes")
        if not words(given):
            raise self._wrong(place, "is empty: write a name, or leave it out")
        return given.strip()

    def _wrong(self, place: str, said: str) -> RecipeError:
        return RecipeError(f"{self._name}: {place} {said}" if place else f"{self._name} {said}")
