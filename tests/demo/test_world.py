"""The drawn world: scenes repeat exactly, captions are true, and false captions are false."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.demo.captions import (
    BACKGROUNDS,
    COLOURS,
    COUNT_WORDS,
    HIDDEN_COLOURS,
    KINDS,
    PLACES,
    PLURALS,
    TEMPLATES,
    Facts,
    Thing,
    describe,
    mirrored,
    wrong_caption,
)
from curate.demo.languages import LANGUAGES, describe_abroad
from curate.demo.shapes import PAINTS, SHAPES, draw_shape
from curate.demo.world import MAX_SIDE_PIXELS, MIN_SIDE_PIXELS, Scene, draw_scene

SINGLE = Facts("single", (Thing("apple", "orange"),), 1, "snow")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Return 200 scenes of one world."""
    return [draw_scene(3, index) for index in range(200)]


def test_a_scene_depends_on_seed_and_index_only(scenes: list[Scene]) -> None:
    """Drawing one scene alone gives what drawing it among others gave."""
    again = draw_scene(3, 57)
    assert again.image.tobytes() == scenes[57].image.tobytes()
    assert (again.caption, again.facts) == (scenes[57].caption, scenes[57].facts)


def test_another_seed_gives_other_scenes(scenes: list[Scene]) -> None:
    """Worlds with different seeds share no picture."""
    other = {draw_scene(4, index).image.tobytes() for index in range(50)}
    assert other.isdisjoint(scene.image.tobytes() for scene in scenes)


def test_no_two_scenes_have_the_same_pixels(scenes: list[Scene]) -> None:
    """Noise and placement make every picture its own."""
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)


def test_pictures_have_the_stated_size_and_mode(scenes: list[Scene]) -> None:
    """Sides lie within the bounds, aspects at most 1.6, RGB."""
    for scene in scenes:
        short, long = sorted(scene.image.size)
        assert scene.image.mode == "RGB"
        assert MIN_SIDE_PIXELS <= short <= long <= MAX_SIDE_PIXELS
        assert long / short <= 1.61


def test_captions_have_4_to_15_words_and_vary(scenes: list[Scene]) -> None:
    """Every caption has a usual length, and few are said twice."""
    captions = [scene.caption for scene in scenes]
    assert all(4 <= len(caption.split()) <= 15 for caption in captions)
    assert len(set(captions)) > 0.95 * len(captions)


def test_every_template_stays_within_15_words() -> None:
    """The longest names in every template and wording still fit."""
    things = (Thing("butterfly", "orange", "small"), Thing("umbrella", "purple"), Thing("mushroom", "yellow"))
    for layout, templates in TEMPLATES.items():
        facts = Facts(layout, things if layout == "trio" else things[:2], 3, "brick", "bottom", "right of")
        for wording in range(len(templates) * 18):
            assert 4 <= len(describe(facts, wording).split()) <= 15


def test_a_caption_states_the_facts(scenes: list[Scene]) -> None:
    """Colours, kinds and counts in the caption are those of the scene; a stated place is the scene's."""
    for scene in scenes:
        facts, words = scene.facts, scene.caption.replace(",", "").split()
        if facts.layout == "group":
            assert (
                f"{COUNT_WORDS[facts.count]} {facts.things[0].colour} {PLURALS[scene.concept]}"
                in scene.caption
            )
        else:
            assert all(f"{thing.colour} {thing.kind}" in scene.caption for thing in facts.things)
            named = [word for word in words if word in KINDS]
            assert sorted(named) == sorted(thing.kind for thing in facts.things)
        stated = [name for name, phrases in PLACES.items() if scene.caption.endswith(tuple(phrases))]
        assert stated in ([], [facts.background])


def test_the_concept_is_the_main_object(scenes: list[Scene]) -> None:
    """`concept` names the first object, and all layouts occur."""
    assert all(scene.concept == scene.facts.things[0].kind for scene in scenes)
    assert {scene.facts.layout for scene in scenes} == {"single", "group", "pair", "trio"}


def test_no_colour_hides_in_its_background(scenes: list[Scene]) -> None:
    """A green object is never drawn on grass, and so on."""
    for scene in scenes:
        assert not {thing.colour for thing in scene.facts.things} & HIDDEN_COLOURS[scene.facts.background]


def test_article_follows_the_next_word() -> None:
    """It is "an orange apple", but "a small orange apple"."""
    assert describe(SINGLE, 0) == "a photo of an orange apple"
    small = replace(SINGLE, things=(replace(SINGLE.things[0], size="small"),))
    assert describe(small, 0) == "a photo of a small orange apple"


def test_a_wrong_caption_changes_one_stated_fact(scenes: list[Scene]) -> None:
    """It keeps the main kind, differs from the truth, and is not the truth in other words."""
    rng = np.random.default_rng(0)
    for scene in scenes:
        false = wrong_caption(scene.facts, scene.wording, rng)
        assert false != scene.caption
        assert scene.concept in false or PLURALS[scene.concept] in false


def test_mirroring_twice_gives_the_same_facts(scenes: list[Scene]) -> None:
    """Left and right change places; above and below stay."""
    assert all(mirrored(mirrored(scene.facts)) == scene.facts for scene in scenes)
    assert mirrored(replace(SINGLE, position="left")).position == "right"
    assert mirrored(replace(SINGLE, position="top")).position == "top"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_shows_its_colour(kind: str) -> None:
    """A good part of the drawn pixels is near the stated colour."""
    tile = np.asarray(draw_shape(kind, "purple", 80, np.random.default_rng(1))).astype(np.float64)
    drawn = tile[tile[..., 3] > 200][:, :3]
    near = np.abs(drawn - np.asarray(PAINTS["purple"])).max(axis=1) < 40
    assert near.mean() > 0.25


def test_tables_cover_the_same_names() -> None:
    """Every kind has a shape, every colour a paint, and every language a word for each."""
    assert set(SHAPES) == set(KINDS)
    assert set(PAINTS) == set(COLOURS)
    for words in LANGUAGES.values():
        assert (len(words.kinds), len(words.colours), len(words.places)) == (
            len(KINDS),
            len(COLOURS),
            len(BACKGROUNDS),
        )


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_other_languages_use_no_english_sentence(language: str) -> None:
    """A description abroad has the object and the place in that language."""
    caption = describe_abroad(SINGLE, language, 0)
    words = LANGUAGES[language]
    assert words.kinds[KINDS.index("apple")] in caption
    assert words.places[BACKGROUNDS.index("snow")] in caption
    assert " the " not in caption
