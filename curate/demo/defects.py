"""The defects planted in the demonstration pool: one small function and one table entry for each.

To add a defect, write its function (a seed of randomness, a scene and perhaps an earlier sample in; a sample
out) and one entry in DEFECTS with how many to plant among 1 200 samples.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from PIL import Image, ImageOps

from curate.demo.captions import describe, mirrored, wrong_caption
from curate.demo.languages import LANGUAGES, describe_abroad
from curate.demo.world import Scene, draw_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

Expected = Literal["keep", "drop", "fail"]
Relative = Literal["none", "any_shard", "same_shard"]

BOMB_SIDE_PIXELS = 30_000
_SPARE_SCENES = (
    10_000_000  # scenes from this index on are never clean samples: they lend captions and replace scenes
)
_BOILERPLATE = (
    "IMG_{number}.JPG",
    "DSC{number}",
    "image",
    "untitled",
    "photo {number}",
    "thumbnail",
    "stock photo - click to enlarge",
    "click here to view full size image",
    "image may be subject to copyright",
    "no description available for this picture",
    "download this free stock image now",
    "placeholder image - coming soon",
)
_HTML = (
    "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n"
    "<body><h1>Not Found</h1><p>The picture {name} is no longer on this server.</p></body></html>\n"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What becomes one sample's members in the tar.

    Attributes:
        image: bytes of the image member; None: no such member.
        text: bytes of the caption member; None: no such member.
        json_caption: the caption in the json member; None: left out there.
        image_extension: without the dot.
        code: the failure code or filter that should catch this sample, where it differs from the table's.
    """

    scene: Scene
    image: bytes | None
    text: bytes | None
    json_caption: str | None
    image_extension: str = "jpg"
    code: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sample is made: enough to draw anything it needs, always in the same way.

    Attributes:
        index: the sample's number in the whole pool.
        nth: how many samples with this defect come before it: spreads languages and the like evenly.
        relative: the earlier clean sample that this one copies, where the defect needs one.
    """

    seed: int
    index: int
    nth: int
    rng: np.random.Generator
    relative: Sample | None = None

    @property
    def original(self) -> Sample:
        """Return the earlier sample that is copied."""
        if self.relative is None:
            message = f"sample {self.index} is planted as a copy, but no earlier sample was chosen for it"
            raise ValueError(message)
        return self.relative


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """Return the JPEG file of an RGB image; quality: 1 to 95."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _sample(scene: Scene, rng: np.random.Generator) -> Sample:
    image = encode_jpeg(scene.image, int(rng.integers(82, 95)))
    return Sample(scene, image, scene.caption.encode(), scene.caption)


def _captioned(sample: Sample, caption: str, code: str = "") -> Sample:
    return replace(sample, text=caption.encode(), json_caption=caption, code=code)


def clean(place: Place) -> Sample:
    """Return a scene with its own caption."""
    return _sample(draw_scene(place.seed, place.index), place.rng)


def _mismatched_caption(place: Place) -> Sample:
    sample = clean(place)
    shown = {thing.kind for thing in sample.scene.facts.things}
    for step in range(1000):
        other = draw_scene(place.seed, _SPARE_SCENES + place.index + 100_000 * step)
        if other.concept not in shown:
            return _captioned(sample, other.caption)
    message = f"no scene with another concept than {sorted(shown)} in 1000 tries"
    raise AssertionError(message)


def _hard_mismatch(place: Place) -> Sample:
    sample = clean(place)
    return _captioned(sample, wrong_caption(sample.scene.facts, sample.scene.wording, place.rng))


def _exact_copy(place: Place) -> Sample:
    return place.original


def _redrawn(place: Place, image: Image.Image, quality: int, *, flipped: bool = False) -> Sample:
    """Return the original's scene as another file, with another true caption."""
    scene = place.original.scene
    facts = mirrored(scene.facts) if flipped else scene.facts
    caption = describe(facts, int(place.rng.integers(2**31)))
    return _captioned(replace(place.original, image=encode_jpeg(image, quality)), caption)


def _reencoded_copy(place: Place) -> Sample:
    return _redrawn(place, place.original.scene.image, int(place.rng.integers(40, 75)))


def _resized_copy(place: Place) -> Sample:
    image = place.original.scene.image
    scale = float(place.rng.choice([0.5, 0.65, 0.8, 1.3, 1.6]))
    size = round(image.width * scale), round(image.height * scale)
    return _redrawn(place, image.resize(size, Image.Resampling.BICUBIC), 88)


def _cropped_copy(place: Place) -> Sample:
    image = place.original.scene.image
    size = round(image.width * 0.9), round(image.height * 0.9)
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return _redrawn(place, image.crop((left, top, left + size[0], top + size[1])), 88)


def _flipped_copy(place: Place) -> Sample:
    return _redrawn(place, ImageOps.mirror(place.original.scene.image), 88, flipped=True)


def _boilerplate_caption(place: Place) -> Sample:
    template = _BOILERPLATE[place.nth % len(_BOILERPLATE)]
    caption = template.format(number=int(place.rng.integers(1000, 10_000)))
    return _captioned(
        clean(place), caption, "caption_blocklist" if len(caption.split()) >= 3 else "caption_words"
    )


def _wrong_language(place: Place) -> Sample:
    scene = draw_scene(place.seed, place.index)
    for step in range(1000):
        if scene.facts.layout in ("single", "pair"):
            break
        scene = draw_scene(place.seed, _SPARE_SCENES + place.index + 100_000 * step)
    language = tuple(LANGUAGES)[place.nth % len(LANGUAGES)]
    return _captioned(
        _sample(scene, place.rng), describe_abroad(scene.facts, language, int(place.rng.integers(100)))
    )


def _with_image(place: Place, image: Image.Image) -> Sample:
    return replace(clean(place), image=encode_jpeg(image, 90))


def _tiny_image(place: Place) -> Sample:
    image = draw_scene(place.seed, place.index).image
    scale = int(place.rng.integers(14, 31)) / min(image.size)
    return _with_image(place, image.resize((round(image.width * scale), round(image.height * scale))))


def _extreme_aspect(place: Place) -> Sample:
    image = draw_scene(place.seed, place.index).image
    short = int(place.rng.integers(40, 64))
    long = round(short * float(place.rng.uniform(4.3, 7.0)))
    return _with_image(place, image.resize((long, short) if place.nth % 3 else (short, long)))


def _blank_image(place: Place) -> Sample:
    size = draw_scene(place.seed, place.index).image.size
    red, green, blue = (int(channel) for channel in place.rng.integers(0, 256, 3))
    return _with_image(place, Image.new("RGB", size, (red, green, blue)))


def _image_bytes(sample: Sample) -> bytes:
    if sample.image is None:
        message = "a clean sample always has an image"
        raise AssertionError(message)
    return sample.image


def _truncated_jpeg(place: Place) -> Sample:
    sample = clean(place)
    whole = _image_bytes(sample)
    return replace(sample, image=whole[: round(len(whole) * float(place.rng.uniform(0.4, 0.75)))])


def _html_named_jpg(place: Place) -> Sample:
    return replace(clean(place), image=_HTML.format(name=f"{place.index:09d}.jpg").encode())


def _wrong_extension(place: Place) -> Sample:
    buffer = io.BytesIO()
    sample = clean(place)
    sample.scene.image.save(buffer, "PNG")
    return replace(sample, image=buffer.getvalue())


def _zero_bytes(place: Place) -> Sample:
    return replace(clean(place), image=b"")


@functools.cache
def _bomb_png(side_pixels: int) -> bytes:
    """Return a valid one-bit black PNG of side_pixels squared: about a thousandth of its pixels' size."""
    row = bytes(1 + (side_pixels + 7) // 8)  # filter type 0, then black pixels
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(side_pixels)) + packer.flush()
    header = struct.pack(">IIBBBBB", side_pixels, side_pixels, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _decompression_bomb(place: Place) -> Sample:
    return replace(clean(place), image=_bomb_png(BOMB_SIDE_PIXELS), image_extension="png")


def _missing_caption(place: Place) -> Sample:
    return replace(clean(place), text=None, json_caption=None)


def _invalid_utf8(place: Place) -> Sample:
    sample = clean(place)
    return replace(sample, text=f"{sample.scene.caption}, café décor".encode("latin-1"), json_caption=None)


def _missing_image(place: Place) -> Sample:
    return replace(clean(place), image=None)


@dataclass(frozen=True, slots=True)
class Defect:
    """One way in which a sample is bad.

    Attributes:
        description: one line.
        expected: what a run should do with the sample.
        code: the failure code, or the name of the filter that should drop it.
        per_1200: how many to plant among 1 200 samples; other pool sizes in proportion, at least one.
        make: returns the sample.
        needs: which earlier clean sample it refers to, if any.
        once: planted a single time, as the pool's last sample.
    """

    description: str
    expected: Expected
    code: str
    per_1200: int
    make: Callable[[Place], Sample]
    needs: Relative = "none"
    once: bool = False


DEFECTS: Mapping[str, Defect] = {
    "mismatched_caption": Defect(
        "the caption of another scene, whose main object is not in the picture",
        "drop",
        "min_clip_cosine",
        90,
        _mismatched_caption,
    ),
    "hard_mismatch": Defect(
        "the right main object, but a wrong colour, count or background is stated; known to be hard",
        "drop",
        "min_clip_cosine",
        36,
        _hard_mismatch,
    ),
    "exact_copy": Defect(
        "the same image bytes and caption as an earlier sample, under another key and uid",
        "drop",
        "drop_exact_duplicates",
        28,
        _exact_copy,
        needs="any_shard",
    ),
    "reencoded_copy": Defect(
        "an earlier sample's picture saved again at a lower JPEG quality, captioned anew",
        "drop",
        "drop_copies",
        18,
        _reencoded_copy,
        needs="any_shard",
    ),
    "resized_copy": Defect(
        "an earlier sample's picture at 0.5 to 1.6 times its size, captioned anew",
        "drop",
        "drop_copies",
        18,
        _resized_copy,
        needs="any_shard",
    ),
    "cropped_copy": Defect(
        "the middle 90 % of an earlier sample's picture, captioned anew",
        "drop",
        "drop_copies",
        18,
        _cropped_copy,
        needs="any_shard",
    ),
    "flipped_copy": Defect(
        "an earlier sample's picture mirrored, captioned anew for the mirrored picture",
        "drop",
        "drop_copies",
        14,
        _flipped_copy,
        needs="any_shard",
    ),
    "boilerplate_caption": Defect(
        "a file name or a page's stock phrase instead of a caption",
        "drop",
        "caption_blocklist",
        36,
        _boilerplate_caption,
    ),
    "wrong_language": Defect(
        "a true caption in German, French, Spanish, Italian, Russian or Chinese",
        "drop",
        "language",
        36,
        _wrong_language,
    ),
    "tiny_image": Defect("the shorter side is under 32 pixels", "drop", "min_side_pixels", 12, _tiny_image),
    "extreme_aspect": Defect(
        "squeezed to more than four times as long as wide", "drop", "max_aspect_ratio", 10, _extreme_aspect
    ),
    "blank_image": Defect(
        "one uniform colour under a plausible caption", "drop", "min_entropy", 12, _blank_image
    ),
    "truncated_jpeg": Defect("a JPEG file without its end", "fail", "truncated_image", 10, _truncated_jpeg),
    "html_named_jpg": Defect("an error page saved as a picture", "fail", "not_an_image", 10, _html_named_jpg),
    "wrong_extension": Defect(
        "a PNG file in a member named .jpg", "fail", "wrong_extension", 9, _wrong_extension
    ),
    "zero_bytes": Defect("an empty image member", "fail", "zero_bytes", 9, _zero_bytes),
    "decompression_bomb": Defect(
        "a small valid PNG file of 30000 x 30000 pixels", "fail", "decompression_bomb", 8, _decompression_bomb
    ),
    "missing_caption": Defect(
        "no text member, and no caption in the json member", "fail", "missing_caption", 10, _missing_caption
    ),
    "invalid_utf8": Defect(
        "the text member is Latin-1, and there is no caption in the json member",
        "fail",
        "invalid_utf8",
        9,
        _invalid_utf8,
    ),
    "missing_image": Defect(
        "text and json members without an image", "fail", "missing_image", 9, _missing_image
    ),
    "duplicate_key": Defect(
        "a good sample under a key that an earlier sample of the same shard already has",
        "fail",
        "duplicate_key",
        8,
        clean,
        needs="same_shard",
    ),
    "truncated_tar": Defect(
        "the last shard ends in the middle of its last sample's image",
        "fail",
        "tar_truncated",
        1,
        clean,
        once=True,
    ),
}
