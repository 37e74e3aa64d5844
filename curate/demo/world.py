"""A small world of drawn scenes with captions that are true.

Sample `index` of the world `seed` depends on these two numbers only: any subset can be drawn, in any order,
on any machine. All objects lie inside the picture's central square, so a centre crop keeps everything the
caption states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from curate.demo.backgrounds import draw_background
from curate.demo.captions import (
    BACKGROUNDS,
    COLOURS,
    HIDDEN_COLOURS,
    KINDS,
    Facts,
    Layout,
    Position,
    Relation,
    Size,
    Thing,
    describe,
)
from curate.demo.shapes import draw_shape

MIN_SIDE_PIXELS = 96
MAX_SIDE_PIXELS = 320
MAX_ASPECT = 1.6

_LAYOUTS: tuple[Layout, ...] = ("single", "group", "pair", "trio")
_LAYOUT_SHARES = (0.42, 0.2, 0.28, 0.1)
_THINGS_IN: dict[Layout, int] = {"single": 1, "group": 1, "pair": 2, "trio": 3}
_SIZES: tuple[Size, ...] = ("small", "medium", "big")
_POSITIONS: tuple[Position, ...] = ("left", "right", "top", "bottom", "middle")
_RELATIONS: tuple[Relation, ...] = ("left of", "right of", "above", "below")
# Diameter of an object as a fraction of the central square; the gaps between sizes keep the words true.
_DIAMETERS: dict[Size, tuple[float, float]] = {
    "small": (0.22, 0.26),
    "medium": (0.37, 0.43),
    "big": (0.66, 0.76),
}
_MIDDLES: dict[Position, tuple[float, float]] = {
    "left": (0.27, 0.5),
    "right": (0.73, 0.5),
    "top": (0.5, 0.27),
    "bottom": (0.5, 0.73),
    "middle": (0.5, 0.5),
}
_PAIR_MIDDLES: dict[Relation, tuple[tuple[float, float], tuple[float, float]]] = {
    "left of": ((0.26, 0.5), (0.74, 0.5)),
    "right of": ((0.74, 0.5), (0.26, 0.5)),
    "above": ((0.5, 0.26), (0.5, 0.74)),
    "below": ((0.5, 0.74), (0.5, 0.26)),
}
_Spot = tuple[float, float, float]  # middle x, middle y, diameter, all as fractions of the central square


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture and what is true of it.

    Attributes:
        image: RGB, 96 to 320 pixels on a side, aspect at most 1.6.
        caption: 4 to 15 English words; equals `describe(facts, wording)`.
        concept: the kind of the main object, `facts.things[0].kind`.
        facts: all that a caption may state, for making other true or false captions.
        wording: the template and synonyms of this caption.
    """

    image: Image.Image
    caption: str
    concept: str
    facts: Facts
    wording: int


def _choose_facts(rng: np.random.Generator) -> Facts:
    """Return what the scene shows: distinct kinds, and no colour that its background would hide."""
    layout = _LAYOUTS[int(rng.choice(len(_LAYOUTS), p=_LAYOUT_SHARES))]
    background = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))]
    visible = [colour for colour in COLOURS if colour not in HIDDEN_COLOURS[background]]
    kinds = rng.permutation(len(KINDS))[: _THINGS_IN[layout]]
    colours = rng.integers(len(visible), size=len(kinds))
    things = tuple(Thing(KINDS[kind], visible[colour]) for kind, colour in zip(kinds, colours, strict=True))
    facts = Facts(layout, things, len(things), background)
    if layout == "group":
        return replace(facts, count=int(rng.integers(2, 5)))
    if layout == "pair":
        return replace(facts, relation=_RELATIONS[int(rng.integers(len(_RELATIONS)))])
    if layout == "single":
        size = _SIZES[int(rng.choice(len(_SIZES), p=(0.25, 0.5, 0.25)))]
        # A big object fills the picture: only the middle is a true position for it.
        position = "middle" if size == "big" else _POSITIONS[int(rng.integers(len(_POSITIONS)))]
        return replace(facts, things=(replace(things[0], size=size),), position=position)
    return facts


def _several(count: int, rng: np.random.Generator) -> list[_Spot]:
    """Return places for 2 to 4 objects that do not touch, in a random arrangement."""
    if count == 2:
        spots = (
            [(0.28, 0.3, 0.38), (0.72, 0.7, 0.38)]
            if rng.random() < 0.5
            else [(0.26, 0.5, 0.38), (0.74, 0.5, 0.38)]
        )
    elif count == 3:
        row = [(0.19, 0.5, 0.28), (0.5, 0.5, 0.28), (0.81, 0.5, 0.28)]
        corner = [(0.28, 0.28, 0.36), (0.72, 0.28, 0.36), (0.5, 0.72, 0.36)]
        spots = row if rng.random() < 0.3 else corner
    else:
        spots = [(x, y, 0.36) for x in (0.27, 0.73) for y in (0.27, 0.73)]
    if rng.random() < 0.5:
        spots = [(y, x, diameter) for x, y, diameter in spots]
    if rng.random() < 0.5:
        spots = [(1 - x, 1 - y, diameter) for x, y, diameter in spots]
    return [spots[place] for place in rng.permutation(count)]


def _spots(facts: Facts, rng: np.random.Generator) -> list[_Spot]:
    """Return the place of every object to draw, as the facts say, shaken a little."""
    if facts.layout == "single":
        (x, y), diameters = _MIDDLES[facts.position], _DIAMETERS[facts.things[0].size]
        spots: list[_Spot] = [(x, y, float(rng.uniform(*diameters)))]
    elif facts.layout == "pair":
        spots = [(x, y, float(rng.uniform(0.37, 0.42))) for x, y in _PAIR_MIDDLES[facts.relation]]
    else:
        spots = _several(facts.count, rng)
    shaken = rng.uniform(-0.02, 0.02, (len(spots), 2))
    return [
        (x + dx, y + dy, diameter) for (x, y, diameter), (dx, dy) in zip(spots, shaken.tolist(), strict=True)
    ]


def _draw(facts: Facts, rng: np.random.Generator) -> Image.Image:
    """Return the RGB picture of the facts, with a camera's noise over it."""
    short = int(rng.integers(MIN_SIDE_PIXELS, 200))
    long = min(MAX_SIDE_PIXELS, round(short * float(rng.uniform(1.0, MAX_ASPECT))))
    width, height = (long, short) if rng.random() < 0.6 else (short, long)
    pixels = draw_background(facts.background, rng, height, width)
    canvas = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")
    left, top = (width - short) / 2, (height - short) / 2
    spots = _spots(facts, rng)
    things = facts.things if len(facts.things) == len(spots) else facts.things * len(spots)
    for thing, (x, y, diameter) in zip(things, spots, strict=True):
        tile = draw_shape(thing.kind, thing.colour, round(diameter * short), rng)
        corner = round(left + x * short - tile.width / 2), round(top + y * short - tile.height / 2)
        canvas.paste(tile, corner, tile)
    noise = rng.standard_normal((height, width, 3), dtype=np.float32) * float(rng.uniform(2.0, 6.0))
    return Image.fromarray(np.clip(np.asarray(canvas) + noise, 0, 255).astype(np.uint8), "RGB")


def draw_scene(seed: int, index: int) -> Scene:
    """Return sample `index` of the world `seed`.

    Args:
        seed: at least 0; two seeds share no scene.
        index: at least 0; scenes do not depend on their neighbours.
    """
    rng = np.random.default_rng([seed, index])
    facts = _choose_facts(rng)
    wording = int(rng.integers(2**31))
    return Scene(_draw(facts, rng), describe(facts, wording), facts.things[0].kind, facts, wording)
