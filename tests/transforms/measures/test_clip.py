"""CLIP scores equal open_clip's own, whatever the batch; hostile checkpoints are not run."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from filters.core.errors import ModelError
from tests.pools import photo, sample, write_tar
from tests.transforms.reading import measure, named, shards_of
from transforms.encoders import (
    ClipEncoder,
    check_model,
    encode_captions,
    load_encoder,
    weights_identity,
)
from transforms.measure import NamedMeasure
from transforms.pool import PoolOptions
from transforms.samples import samples_measure
from transforms.store import Store

TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


def tiny(folder: Path, *, seed: int = 0) -> str:
    """A random open_clip model in a local-dir; returns its name."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    model = open_clip.CLIP(**TINY)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    config = {"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("models") / "tiny")


def direct(model: str, images: list[bytes], captions: list[str]) -> tuple[Any, Any]:
    """Unit embeddings as open_clip's documentation computes them, one pair at a time."""
    import io

    loaded, _, transform = open_clip.create_model_and_transforms(model)
    tokenizer = open_clip.get_tokenizer(model)
    loaded.eval()
    found = []
    with torch.inference_mode():
        for image, caption in zip(images, captions, strict=True):
            pixels = transform(Image.open(io.BytesIO(image)).convert("RGB"))[None]
            pair = (loaded.encode_image(pixels), loaded.encode_text(tokenizer([caption])))
            found.append([(vector / vector.norm()).numpy()[0] for vector in pair])
    return np.array([one for one, _ in found]), np.array([two for _, two in found])


def measured(store: Store, path: Path, clip: NamedMeasure) -> tuple[list[float | None], Any, Any]:
    (shard,) = shards_of(path)
    (report,) = measure(store, [shard], clip)
    assert report.failure is None
    cosine = store.read_part(clip.group, shard.part)["clip_cosine"].to_pylist()
    img, txt = (np.array(store.read_array(clip.embeddings(kind, shard.part))) for kind in ("img", "txt"))
    return cosine, img, txt


def check_against_open_clip(tmp_path: Path, model: str, images: list[bytes], captions: list[str]) -> None:
    members = [m for at, image in enumerate(images) for m in sample(f"k{at}", image, captions[at])]
    path = write_tar(
        tmp_path / "0.tar", sample("bad", b"", "a failed row") + members + sample("none", None, "x")
    )
    store = Store.at(str(tmp_path / "store"))
    cosine, img, txt = measured(store, path, named("clip", model=model, device="cpu", batch_size=3))
    one, two = direct(model, images, captions)
    assert cosine[0] is None
    assert cosine[-1] is None
    assert np.allclose(cosine[1:-1], (one * two).sum(axis=1), atol=1e-4)
    for found, expected in ((img, one), (txt, two)):
        assert found.dtype == np.float16
        assert np.isnan(found[[0, -1]]).all()
        assert np.allclose(found[1:-1], expected, atol=1e-3)
        assert np.allclose(np.linalg.norm(found[1:-1].astype(np.float32), axis=1), 1, atol=1e-3)


def test_a_random_model_scores_as_open_clip_does(tmp_path: Path, model: str) -> None:
    images = [photo(at, side=20 + at, form=form) for at, form in enumerate(("JPEG", "JPEG", "JPEG", "JPEG"))]
    check_against_open_clip(tmp_path, model, images, ["a dog", "", "ünïcode 名前", "word " * 500])


def test_a_trained_model_scores_as_open_clip_does(tmp_path: Path, shared: Path) -> None:
    images = [photo(at, side=32) for at in range(4)]
    captions = [f"a photo of a {name}" for name in ("dog", "ship", "truck", "bird")]
    check_against_open_clip(tmp_path, f"local-dir:{shared / 'models' / 'cifar-clip'}", images, captions)


def test_a_shard_without_a_good_row_has_embeddings_of_no_width(tmp_path: Path, model: str) -> None:
    path = write_tar(tmp_path / "0.tar", sample("bad", b"", "a failed row"))
    cosine, img, txt = measured(
        Store.at(str(tmp_path / "store")), path, named("clip", model=model, device="cpu")
    )
    assert (cosine, img.shape, txt.shape) == ([None], (1, 0), (1, 0))


class Hungry:
    """A model that runs out of memory above so many pairs."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.batches: list[int] = []

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        if len(images) > self.most:
            raise torch.cuda.OutOfMemoryError
        return images

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(tokens[:, 0] % 4, 4).float()


def hungry(most: int, count: int) -> tuple[Hungry, Any]:
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.randn(4, generator=generator), torch.tensor([at])) for at in range(count)]
    model = Hungry(most)
    return model, ClipEncoder(model, None, None, "cpu", half=False).encode(pairs)


@pytest.mark.parametrize("captions", [["cat"], ["a photo of a cat", "a", ""], ["word " * 200, "cat"]])
@pytest.mark.parametrize("kind", ["causal", "pooled_last", "custom_text"])
def test_captions_without_their_padding_encode_as_with_it(kind: str, captions: list[str]) -> None:
    text = {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    torch.manual_seed(0)
    if kind == "custom_text":
        built: Any = open_clip.CustomTextCLIP(TINY["embed_dim"], TINY["vision_cfg"], text)
    else:
        pooling = {"pool_type": "last"} if kind == "pooled_last" else {}
        built = open_clip.CLIP(TINY["embed_dim"], TINY["vision_cfg"], {**text, **pooling})
    built.eval()
    widths: list[int] = []
    embedding = next(module for module in built.modules() if isinstance(module, torch.nn.Embedding))
    embedding.register_forward_hook(lambda _module, given, _found: widths.append(given[0].shape[1]))
    tokens = open_clip.SimpleTokenizer(context_length=24)(captions)
    with torch.inference_mode():
        found = encode_captions(built, tokens)
        whole = built.encode_text(tokens)
    np.testing.assert_allclose(found.numpy(), whole.numpy(), rtol=1e-5, atol=1e-6)
    short = kind == "causal" and len(captions[0]) < 100
    assert widths == [8 if short else 24, 24]


def test_a_batch_is_halved_until_it_fits() -> None:
    _, (cosine, img, txt) = hungry(100, 11)
    model, (halved, img2, txt2) = hungry(3, 11)
    assert model.batches == [11, 5, 2, 3, 6, 3, 3]
    assert np.array_equal(cosine, halved)
    assert np.array_equal(img, img2)
    assert np.array_equal(txt, txt2)


def test_one_pair_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError):
        hungry(0, 2)


def test_a_device_of_another_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="device"):
        named("clip", model="ViT-B-32", device="gpu")


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-33", "openai", r"open_clip has no model 'ViT-B-33'; did you mean ViT-B-32"),
        (
            "ViT-B-32",
            None,
            "model 'ViT-B-32' needs `pretrained`: an open_clip tag or the path of a checkpoint",
        ),
        (
            "ViT-B-32",
            "openia",
            r"no checkpoint 'openia' for 'ViT-B-32': it is no file, and did you mean openai",
        ),
        ("local-dir:/nowhere", None, r"open_clip_config\.json does not exist; a local-dir model has"),
    ],
)
def test_an_unknown_model_names_the_nearest(model: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_model(model, pretrained, "cpu")


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(
        ModelError, match=r"no weights \(\.safetensors, \.bin, \.pt\) beside open_clip_config\.json"
    ):
        check_model(f"local-dir:{tmp_path}", None, "cpu")


class Malicious:
    """A pickle that would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("by", ["torch", "pickle"])
def test_a_malicious_checkpoint_is_not_run(tmp_path: Path, by: str) -> None:
    trap, model = tmp_path / "trapped", tiny(tmp_path / "model")
    weights = tmp_path / "model" / "open_clip_pytorch_model.bin"
    state = {"logit_scale": Malicious(trap)}
    if by == "torch":
        torch.save(state, weights)
    else:
        weights.write_bytes(pickle.dumps(state, protocol=2))
    with pytest.raises(ModelError, match="can't load CLIP model 'local-dir:"):
        load_encoder(model, None, "cpu", "fp32")
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_a_damaged_checkpoint_is_an_error(tmp_path: Path, content: bytes) -> None:
    model = tiny(tmp_path / "model")
    (tmp_path / "model" / "open_clip_pytorch_model.bin").write_bytes(content)
    with pytest.raises(ModelError, match="can't load CLIP model"):
        load_encoder(model, None, "cpu", "fp32")


def test_a_checkpoint_of_another_shape_is_an_error(tmp_path: Path) -> None:
    model = tiny(tmp_path / "model")
    torch.save({"logit_scale": torch.ones(3)}, tmp_path / "model" / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match="can't load CLIP model"):
        load_encoder(model, None, "cpu", "fp32")


def test_a_model_is_loaded_once_and_again_when_its_file_changes(tmp_path: Path) -> None:
    model = tiny(tmp_path / "model")
    first, name = load_encoder(model, None, "cpu", "fp32"), weights_identity(model, None)
    assert load_encoder(model, None, "cpu", "auto") is first  # auto is fp32 on a CPU
    tiny(tmp_path / "model", seed=1)
    os.utime(tmp_path / "model" / "open_clip_pytorch_model.bin", (5, 5))
    second = load_encoder(model, None, "cpu", "fp32")
    assert second is not first
    assert weights_identity(model, None) != name


def test_the_name_changes_with_what_changes_results(tmp_path: Path, model: str) -> None:
    other = tiny(tmp_path / "other", seed=1)
    moved = tiny(tmp_path / "moved", seed=0)
    base = named("clip", model=model)
    assert named("clip", model=moved).folder == base.folder  # the same weights at another place
    assert named("clip", model=model, device="cpu").folder == base.folder
    different = [
        named("clip", model=other),
        named("clip", model=model, batch_size=32),  # other matrix shapes round differently
        named("clip", model=model, precision="bf16"),
        named("clip", "other", model=model),
        named("clip", depends=(samples_measure(PoolOptions(max_pixels=5)).folder,), model=model),
    ]
    assert len({base.folder, *(item.folder for item in different)}) == 6


def test_a_checkpoint_file_names_itself_by_its_content(tmp_path: Path) -> None:
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        (tmp_path / name).write_bytes(content)
    names = [weights_identity("ViT-B-32", str(tmp_path / name)) for name in ("a.pt", "b.pt", "c.pt")]
    assert names[0] == names[1] != names[2]
    assert weights_identity("ViT-B-32", "openai") == "ViT-B-32 openai"


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    tiny(tmp_path / "model")
    (tmp_path / "weights.pt").write_bytes(b"")
    located = (
        named("clip", model="local-dir:model", pretrained="weights.pt").options.located(tmp_path).model_dump()
    )
    assert (located["model"], located["pretrained"]) == (
        f"local-dir:{tmp_path}/model",
        f"{tmp_path}/weights.pt",
    )
    kept = named("clip", model="ViT-B-32", pretrained="openai").options.located(tmp_path).model_dump()
    assert (kept["model"], kept["pretrained"]) == ("ViT-B-32", "openai")
