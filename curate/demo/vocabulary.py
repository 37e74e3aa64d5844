"""What the world's captions name, as vocabularies: the kinds of objects, and their colours."""

from __future__ import annotations

from curate.demo.captions import COLOURS, KINDS
from transforms.vocabulary import Concept, Vocabulary


def kind_vocabulary() -> Vocabulary:
    """The 21 kinds; prompts name a colour, as every caption of the world does."""
    templates = tuple(f"a photo of {_article(colour)} {colour} {{}}" for colour in COLOURS)
    return Vocabulary(tuple(Concept(kind, (kind,)) for kind in KINDS), templates)


def colour_vocabulary() -> Vocabulary:
    """The 11 colours; prompts name a kind. A small model learns them long before it learns kinds."""
    templates = tuple(f"a photo of a {{}} {kind}" for kind in KINDS)
    return Vocabulary(tuple(Concept(colour, (colour,)) for colour in COLOURS), templates)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
