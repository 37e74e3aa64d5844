"""Pools of made-up photographs: smooth light, shapes with edges, grain; JPEG of about 500 x 400."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CACHE = Path(__file__).parents[1] / ".cache" / "bench"
_WORDS = (
    "a the of in on with old new red blue green small large bright quiet wooden stone river harbour "
    "street market mountain garden window bridge boat train horse dog cat bird child woman man crowd "
    "table chair lamp bowl fruit bread coffee morning evening winter summer rain snow light shadow view "
    "photograph portrait detail near behind under above two three many empty open painted broken"
)
WORDS = tuple(_WORDS.split())


def photograph(seed: int, scale: int = 1) -> tuple[bytes, str]:
    """An encoded picture and its caption; the same seed gives the same ones. scale: of both sides."""
    random = np.random.default_rng(seed)
    width, height = scale * int(random.integers(440, 561)), scale * int(random.integers(350, 451))
    light = np.zeros((height, width, 3), dtype=np.float32)
    for cells, strength in ((3, 60), (8, 40), (24, 25), (72, 14), (200, 8)):
        coarse = random.integers(0, 256, (max(2, cells * height // width), cells, 3), dtype=np.uint8)
        layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        light += (np.asarray(layer, dtype=np.float32) / 127.5 - 1.0) * strength
    light += random.standard_normal((height, width, 1), dtype=np.float32) * 3.0
    picture = Image.fromarray(np.clip(light + 118.0, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(5):
        left, top = int(random.integers(0, width - 60)), int(random.integers(0, height - 60))
        corner = (left + int(random.integers(10, 60)), top + int(random.integers(10, 60)))
        draw.ellipse([(left, top), corner], fill=tuple(int(part) for part in random.integers(0, 256, 3)))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=88)
    caption = " ".join(random.choice(WORDS, size=int(random.integers(5, 16))))
    return stream.getvalue(), caption


def photograph_pool(shards: int, images_per_shard: int, scale: int = 1) -> list[Path]:
    """Tars in img2dataset's layout, in order; made once, then taken from the cache."""
    folder = CACHE / (f"photographs-{images_per_shard}" + (f"-x{scale}" if scale > 1 else ""))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.tar" for number in range(shards)]
    for number, path in enumerate(paths):
        if not path.exists():
            print(f"  making {path.parent.name}/{path.name}", flush=True)
            _write_tar(path, number, images_per_shard, scale)
    return paths


def _write_tar(path: Path, number: int, images: int, scale: int) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}")
    with tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as tar:
        for row in range(images):
            image, caption = photograph(number * images + row, scale)
            key = f"{number:05d}{row:04d}"
            metadata = {"key": key, "caption": caption, "url": f"https://pictures.example/{key}.jpg"}
            members = {"jpg": image, "txt": caption.encode(), "json": json.dumps(metadata).encode()}
            for extension, content in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    unfinished.replace(path)


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """An empty folder of the cache that is gone when the block ends."""
    folder = CACHE / f"scratch-{name}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def linked_pool(folder: Path, tars: Sequence[Path], shards: int) -> list[Path]:
    """So many shards, each a hard link to one of the tars: a large pool that takes no room."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.tar" for number in range(shards)]
    for number, path in enumerate(paths):
        os.link(tars[number % len(tars)], path)
    return paths
