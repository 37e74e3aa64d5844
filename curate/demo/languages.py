# ruff: noqa: RUF001 - the Cyrillic letters are meant
"""Correct descriptions of scenes in other languages, for captions that a language filter should catch.

Every template names the colour as a noun phrase ("de couleur rouge", "in der Farbe Rot"), so no adjective has
to agree with a gender, and lists the objects, so no count is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.demo.captions import BACKGROUNDS, COLOURS, KINDS

if TYPE_CHECKING:
    from curate.demo.captions import Facts


@dataclass(frozen=True, slots=True)
class Language:
    """Words and sentences of one language; its tables follow the order of KINDS, COLOURS, BACKGROUNDS.

    Attributes:
        thing: how a kind and its colour are put together.
        templates: whole captions with {things} and {place}.
    """

    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    places: tuple[str, ...]
    thing: str
    joint: str
    templates: tuple[str, ...]


def _split(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(","))


LANGUAGES: dict[str, Language] = {
    "German": Language(
        kinds=_split(
            "einen Ball, ein Quadrat, ein Dreieck, einen Stern, ein Herz, ein Auto, einen Bus, ein "
            "Boot, ein Haus, einen Baum, eine Blume, ein Gesicht, einen Fisch, einen Vogel, eine Katze, "
            "einen Apfel, einen Pilz, einen Luftballon, einen Regenschirm, einen Schmetterling, eine "
            "Tasse"
        ),
        colours=_split("Rot, Orange, Gelb, Grün, Blau, Lila, Rosa, Braun, Weiß, Schwarz, Grau"),
        places=(
            "vor blauem Himmel",
            "auf einer grünen Wiese",
            "auf dem Wasser",
            "in der Nacht",
            "vor einer Ziegelmauer",
            "auf dem Sand",
            "im Schnee",
            "auf einem Holzboden",
            "auf der Straße",
        ),
        thing="{kind} in {colour}",
        joint=" und ",
        templates=("Auf dem Bild sieht man {things} {place}", "Das Foto zeigt {things} {place}"),
    ),
    "French": Language(
        kinds=_split(
            "un ballon, un carré, un triangle, une étoile, un cœur, une voiture, un autobus, un bateau, "
            "une maison, un arbre, une fleur, un visage, un poisson, un oiseau, un chat, une pomme, un "
            "champignon, un ballon gonflable, un parapluie, un papillon, une tasse"
        ),
        colours=_split("rouge, orange, jaune, verte, bleue, violette, rose, marron, blanche, noire, grise"),
        places=(
            "dans un ciel bleu",
            "sur l'herbe verte",
            "sur l'eau",
            "pendant la nuit",
            "devant un mur de briques",
            "sur le sable",
            "dans la neige",
            "sur un plancher en bois",
            "sur la route",
        ),
        thing="{kind} de couleur {colour}",
        joint=" et ",
        templates=("une photo avec {things} {place}", "on voit {things} {place}"),
    ),
    "Spanish": Language(
        kinds=_split(
            "una pelota, un cuadrado, un triángulo, una estrella, un corazón, un coche, un autobús, un "
            "barco, una casa, un árbol, una flor, una cara, un pez, un pájaro, un gato, una manzana, "
            "una seta, un globo, un paraguas, una mariposa, una taza"
        ),
        colours=_split("rojo, naranja, amarillo, verde, azul, morado, rosa, marrón, blanco, negro, gris"),
        places=(
            "en el cielo azul",
            "sobre la hierba verde",
            "sobre el agua",
            "durante la noche",
            "delante de una pared de ladrillo",
            "en la arena",
            "en la nieve",
            "sobre un suelo de madera",
            "en la carretera",
        ),
        thing="{kind} de color {colour}",
        joint=" y ",
        templates=("una foto con {things} {place}", "aquí se puede ver {things} {place}"),
    ),
    "Italian": Language(
        kinds=_split(
            "una palla, un quadrato, un triangolo, una stella, un cuore, una macchina, un autobus, una "
            "barca, una casa, un albero, un fiore, una faccia, un pesce, un uccello, un gatto, una "
            "mela, un fungo, un palloncino, un ombrello, una farfalla, una tazza"
        ),
        colours=_split("rosso, arancione, giallo, verde, blu, viola, rosa, marrone, bianco, nero, grigio"),
        places=(
            "nel cielo azzurro",
            "sull'erba verde",
            "sull'acqua",
            "durante la notte",
            "davanti a un muro di mattoni",
            "sulla sabbia",
            "nella neve",
            "su un pavimento di legno",
            "sulla strada",
        ),
        thing="{kind} di colore {colour}",
        joint=" e ",
        templates=("una foto con {things} {place}", "nell'immagine si vede {things} {place}"),
    ),
    "Russian": Language(
        kinds=_split(
            "мяч, квадрат, треугольник, звезда, сердце, машина, автобус, лодка, дом, дерево, цветок, "
            "лицо, рыба, птица, кошка, яблоко, гриб, воздушный шар, зонт, бабочка, чашка"
        ),
        colours=_split(
            "красного, оранжевого, жёлтого, зелёного, синего, фиолетового, розового, коричневого, "
            "белого, чёрного, серого"
        ),
        places=(
            "на фоне голубого неба",
            "на зелёной траве",
            "на воде",
            "тёмной ночью",
            "у кирпичной стены",
            "на песке",
            "на снегу",
            "на деревянном полу",
            "на дороге",
        ),
        thing="{kind} {colour} цвета",
        joint=" и ",
        templates=("на картинке {things} {place}", "на фотографии изображены {things} {place}"),
    ),
    "Chinese": Language(
        kinds=_split(
            "球, 正方形, 三角形, 星星, 爱心, 汽车, 公共汽车, 小船, 房子, 树, 花, "
            "笑脸, 鱼, 鸟, 猫, 苹果, 蘑菇, 气球, 雨伞, 蝴蝶, 杯子"
        ),
        colours=_split("红色, 橙色, 黄色, 绿色, 蓝色, 紫色, 粉色, 棕色, 白色, 黑色, 灰色"),
        places=(
            "蓝天里",
            "绿色的草地上",
            "水面上",
            "夜空下",
            "砖墙前面",
            "沙滩上",
            "雪地里",
            "木地板上",
            "马路上",
        ),
        thing="{colour}的{kind}",
        joint="和",
        templates=("照片里{place}有{things}", "这张图片上{place}可以看到{things}"),
    ),
}


def describe_abroad(facts: Facts, language: str, wording: int) -> str:
    """Return a true caption of a scene whose objects all differ (not of a group) in one of LANGUAGES."""
    words = LANGUAGES[language]
    things = [
        words.thing.format(
            kind=words.kinds[KINDS.index(each.kind)], colour=words.colours[COLOURS.index(each.colour)]
        )
        for each in facts.things
    ]
    place = words.places[BACKGROUNDS.index(facts.background)]
    template = words.templates[wording % len(words.templates)]
    return template.format(things=words.joint.join(things), place=place)
