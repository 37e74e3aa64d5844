"""One sample decoded: a picture and a caption, or the reason why not."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zlib
from dataclasses import dataclass, field
from typing import Any

import xxhash
from PIL import Image, ImageFile, UnidentifiedImageError

from filters.core.uids import is_uid
from transforms.pool import PoolOptions, RawSample

# What a member's extension may hold; the formats that are read at all.
FORMATS_OF: dict[str, frozenset[str]] = {
    "jpg": frozenset({"JPEG", "MPO"}),
    "jpeg": frozenset({"JPEG", "MPO"}),
    "png": frozenset({"PNG"}),
    "webp": frozenset({"WEBP"}),
    "gif": frozenset({"GIF"}),
    "bmp": frozenset({"BMP"}),
    "tif": frozenset({"TIFF"}),
    "tiff": frozenset({"TIFF"}),
}
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# What Pillow's decoders raise on damaged files, found by feeding them damaged files.
DAMAGED = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, RuntimeError),
    *(LookupError, ArithmeticError, struct.error, zlib.error),
)


@dataclass(slots=True)
class Picture:
    """A decoded image.

    Attributes:
        rgb: first frame, mode RGB, size as stored (EXIF orientation is not applied, as in
            open_clip's own loader).
        encoded: the file's bytes.
    """

    rgb: Image.Image
    encoded: bytes
    format: str
    mode: str
    frames: int


@dataclass(slots=True)
class DecodedSample:
    """A row with its picture, or with its failure.

    Attributes:
        prepared: what each measure made of the picture in the decode thread, in the order of
            the measures; empty for a failed row.
    """

    raw: RawSample
    uid: str
    caption: str | None
    url: str | None
    failure: str | None
    detail: str
    picture: Picture | None = None
    prepared: list[Any] = field(default_factory=list)


def quiet_pillow() -> None:
    """Silences Pillow's warnings of damaged EXIF and of sizes that we bound ourselves.

    Called once per worker: `warnings.catch_warnings` around each image is not safe in threads.
    """
    Image.init()  # its lazy loading of formats is not safe in threads either
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class _Bad(Exception):  # noqa: N818  (never leaves this module)
    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def decode(raw: RawSample, options: PoolOptions) -> DecodedSample:
    """The sample decoded; every fault of the data becomes a failure code, never an exception."""
    sample = failed(raw, None, "")
    if sample.failure is None:
        try:
            sample.picture = decode_image(raw.image, raw.image_name, options)
            if sample.caption is None:
                raise _Bad("missing_caption")  # noqa: TRY301  (one place turns faults into codes)
        except _Bad as bad:
            sample.failure, sample.detail, sample.picture = bad.code, bad.detail[:300], None
    return sample


def failed(raw: RawSample, failure: str | None, detail: str) -> DecodedSample:
    """The row without its picture: identity, caption, and the first fault that is known."""
    caption: str | None = None
    metadata: dict[str, Any] = {}
    failure, detail = raw.failure or failure, raw.detail or detail
    try:
        metadata = _metadata(raw)
        caption = _caption(raw, metadata)
    except _Bad as bad:
        failure, detail = failure or bad.code, detail or bad.detail
    url = metadata.get("url")
    return DecodedSample(
        raw=raw,
        uid=_uid(raw, metadata),
        caption=caption,
        url=url if isinstance(url, str) else None,
        failure=failure,
        detail=detail[:300],
    )


def decode_image(content: bytes | None, name: str, options: PoolOptions) -> Picture:
    """The picture in these bytes; name: the member's name, for its extension."""
    if content is None:
        raise _Bad("missing_image")
    if not content:
        raise _Bad("zero_bytes")
    try:
        return _decode(content, name, options)
    except UnidentifiedImageError:
        raise _Bad("not_an_image", f"begins with {content[:16]!r}") from None
    except Image.DecompressionBombError as bomb:
        raise _Bad("decompression_bomb", str(bomb)) from None
    except DAMAGED as cause:
        raise _Bad("truncated_image", str(cause)) from None


def _decode(content: bytes, name: str, options: PoolOptions) -> Picture:
    image: ImageFile.ImageFile = Image.open(io.BytesIO(content), formats=FORMATS)
    form = image.format or ""
    pixels = image.width * image.height
    if pixels > options.max_pixels:
        raise _Bad("decompression_bomb", f"{image.width} x {image.height} pixels declared")
    allowed = FORMATS_OF.get(name.rsplit(".", 1)[-1].lower())
    if allowed is not None and form not in allowed and options.wrong_extension == "fail":
        raise _Bad("wrong_extension", f"{name} is a {form}")
    image.load()
    mode = image.mode
    frames = int(getattr(image, "n_frames", 1))
    rgb = image if mode == "RGB" else image.convert("RGB")  # which copies
    return Picture(rgb, content, form, mode, frames)


def _metadata(raw: RawSample) -> dict[str, Any]:
    if raw.metadata is None:
        return {}
    try:
        found = json.loads(raw.metadata.decode("utf-8"))
    except UnicodeDecodeError as cause:
        raise _Bad("invalid_utf8", f"json member: {cause}") from None
    except (ValueError, RecursionError) as cause:
        raise _Bad("invalid_json", str(cause)) from None
    if not isinstance(found, dict):
        raise _Bad("invalid_json", "the json member is no object")
    return found


def _caption(raw: RawSample, metadata: dict[str, Any]) -> str | None:
    if raw.caption is not None:
        try:
            return raw.caption.decode("utf-8")
        except UnicodeDecodeError as cause:
            raise _Bad("invalid_utf8", f"caption: {cause}") from None
    text = _caption_of(metadata)
    # A lone surrogate can be written in JSON but not in UTF-8.
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def _caption_of(metadata: dict[str, Any]) -> str | None:
    found = (metadata.get(name) for name in ("caption", "text"))
    return next((text for text in found if isinstance(text, str)), None)


def _uid(raw: RawSample, metadata: dict[str, Any]) -> str:
    """The json's uid, or a hash of image bytes and caption, stable under re-sharding."""
    if is_uid(metadata.get("uid")):
        return str(metadata["uid"]).lower()
    digest = xxhash.xxh3_128(raw.image or b"")
    text = raw.caption
    if text is None:
        text = (_caption_of(metadata) or "").encode("utf-8", "replace")
    digest.update(text)
    return digest.hexdigest()
