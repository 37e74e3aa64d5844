"""What a scene shows, as facts, and the English captions that say it.

A caption is a pure function of the facts and of one integer, the wording. The same wording over other facts
gives the same sentence with another word in it, which is what a hard mismatch is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

Layout = Literal["single", "group", "pair", "trio"]
Size = Literal["small", "medium", "big"]
Position = Literal["left", "right", "top", "bottom", "middle"]
Relation = Literal["left of", "right of", "above", "below"]

PLURALS: dict[str, str] = {
    "ball": "balls",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "heart": "hearts",
    "car": "cars",
    "bus": "buses",
    "boat": "boats",
    "house": "houses",
    "tree": "trees",
    "flower": "flowers",
    "face": "faces",
    "fish": "fish",
    "bird": "birds",
    "cat": "cats",
    "apple": "apples",
    "mushroom": "mushrooms",
    "balloon": "balloons",
    "umbrella": "umbrellas",
    "butterfly": "butterflies",
    "cup": "cups",
}
KINDS: tuple[str, ...] = tuple(PLURALS)

PLACES: dict[str, tuple[str, ...]] = {
    "sky": ("in a blue sky", "against the blue sky", "up in the sky"),
    "grass": ("on green grass", "on the grass", "in a green meadow"),
    "water": ("on blue water", "on the water", "out on the sea"),
    "night": ("at night", "in the dark night", "under a starry night sky"),
    "brick": ("by a brick wall", "against a brick wall", "in front of a brick wall"),
    "sand": ("on the sand", "on yellow sand", "on a sandy beach"),
    "snow": ("in the snow", "on white snow", "on fresh snow"),
    "wood": ("on a wooden floor", "on wooden boards", "on a wooden table"),
    "road": ("on the road", "on a gray road", "in the street"),
}
BACKGROUNDS: tuple[str, ...] = tuple(PLACES)
# What would hide in a background is not drawn on it, so every stated object can be seen.
HIDDEN_COLOURS: dict[str, frozenset[str]] = {
    "sky": frozenset({"blue", "white"}),
    "grass": frozenset({"green"}),
    "water": frozenset({"blue"}),
    "night": frozenset({"black"}),
    "brick": frozenset({"red", "orange", "brown"}),
    "sand": frozenset({"yellow", "orange"}),
    "snow": frozenset({"white"}),
    "wood": frozenset({"brown", "orange"}),
    "road": frozenset({"gray", "black"}),
}
COLOURS: tuple[str, ...] = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "white",
    "black",
    "gray",
)
COUNT_WORDS: dict[int, str] = {2: "two", 3: "three", 4: "four"}
MAX_CAPTION_WORDS = 15

_SIDES: dict[Position, tuple[str, ...]] = {
    "left": ("on the left", "on the left side of the picture"),
    "right": ("on the right", "on the right side of the picture"),
    "top": ("at the top", "at the top of the picture"),
    "bottom": ("at the bottom", "at the bottom of the picture"),
    "middle": ("in the middle", "in the middle of the picture"),
}
_RELATIONS: dict[Relation, tuple[str, ...]] = {
    "left of": ("to the left of", "left of", "next to"),
    "right of": ("to the right of", "right of", "next to"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
_MIRRORED_POSITIONS: dict[Position, Position] = {"left": "right", "right": "left"}
_MIRRORED_RELATIONS: dict[Relation, Relation] = {"left of": "right of", "right of": "left of"}

_SINGLE: tuple[str, ...] = (
    "a photo of {thing}",
    "a photo of {thing} {place}",
    "{thing} {place}",
    "there is {thing} {place}",
    "a picture of {thing} {place}",
    "a drawing of {thing} {place}",
    "we can see {thing} {place}",
    "{thing} {side}",
    "{thing} {side}, {place}",
    "an image with {thing} {side}",
)
_GROUP: tuple[str, ...] = (
    "a photo of {things}",
    "{things} {place}",
    "there are {things} {place}",
    "a picture of {things} {place}",
    "a group of {things} {place}",
    "we can see {things} {place}",
)
_PAIR: tuple[str, ...] = (
    "{thing} {relation} {other}",
    "{thing} {relation} {other} {place}",
    "a photo of {thing} {relation} {other}",
    "a picture of {thing} and {other}",
    "{thing} and {other} {place}",
    "there is {thing} {relation} {other}",
)
_TRIO: tuple[str, ...] = (
    "{thing}, {other} and {third}",
    "a photo of {thing}, {other} and {third}",
    "{thing}, {other} and {third} {place}",
    "{thing} with {other} and {third}",
)
TEMPLATES: dict[Layout, tuple[str, ...]] = {"single": _SINGLE, "group": _GROUP, "pair": _PAIR, "trio": _TRIO}


@dataclass(frozen=True, slots=True)
class Thing:
    """One kind of object in one colour; only clearly small or big objects have their size stated."""

    kind: str
    colour: str
    size: Size = "medium"


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a caption may state; `things[0]` is the main object, a group has one entry and a count."""

    layout: Layout
    things: tuple[Thing, ...]
    count: int
    background: str
    position: Position = "middle"
    relation: Relation = "left of"


def _named(thing: Thing) -> str:
    """Return "a small red car", "an orange boat"."""
    words = (
        f"{thing.colour} {thing.kind}"
        if thing.size == "medium"
        else f"{thing.size} {thing.colour} {thing.kind}"
    )
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _pick(choices: Sequence[str], wording: int) -> tuple[str, int]:
    """Return the choice that the wording's lowest digit names, and the wording without that digit."""
    rest, digit = divmod(wording, len(choices))
    return choices[digit], rest


def describe(facts: Facts, wording: int) -> str:
    """Return a true English caption of 4 to 15 words.

    Args:
        wording: at least 0; which template and which synonyms. 10^5 different values give every sentence.
    """
    template, wording = _pick(TEMPLATES[facts.layout], wording)
    relation, wording = _pick(_RELATIONS[facts.relation], wording)
    side, wording = _pick(_SIDES[facts.position], wording)
    place, _ = _pick(PLACES[facts.background], wording)
    named = [_named(thing) for thing in facts.things] + ["", ""]
    main = facts.things[0]

    def fill(place: str) -> str:
        return template.format(
            thing=named[0],
            other=named[1],
            third=named[2],
            things=f"{COUNT_WORDS.get(facts.count, 'one')} {main.colour} {PLURALS[main.kind]}",
            relation=relation,
            side=side,
            place=place,
        )

    caption = fill(place)
    return (
        caption if len(caption.split()) <= MAX_CAPTION_WORDS else fill(min(PLACES[facts.background], key=len))
    )


def mirrored(facts: Facts) -> Facts:
    """Return the facts of the same picture flipped left to right."""
    return replace(
        facts,
        position=_MIRRORED_POSITIONS.get(facts.position, facts.position),
        relation=_MIRRORED_RELATIONS.get(facts.relation, facts.relation),
    )


def wrong_caption(facts: Facts, wording: int, rng: np.random.Generator) -> str:
    """Return the caption with one fact made false: the main object's colour, its count or the background.

    Only facts that the wording states are changed, so the result is always false.
    """
    truth = describe(facts, wording)
    main = facts.things[0]
    other_colours = [colour for colour in COLOURS if colour != main.colour]
    recoloured = replace(main, colour=other_colours[int(rng.integers(len(other_colours)))])
    other_places = [place for place in BACKGROUNDS if place != facts.background]
    changed = [
        replace(facts, things=(recoloured, *facts.things[1:])),
        replace(facts, background=other_places[int(rng.integers(len(other_places)))]),
    ]
    if facts.layout == "group":
        other_counts = [count for count in COUNT_WORDS if count != facts.count]
        changed.append(replace(facts, count=other_counts[int(rng.integers(len(other_counts)))]))
    false = [caption for caption in (describe(each, wording) for each in changed) if caption != truth]
    return false[int(rng.integers(len(false)))]
