"""CLIP models through open_clip: found, checked, loaded once per process, and run in batches."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from filters.core.catalogue import nearest
from filters.core.errors import ModelError
from transforms.devices import resolve_device
from transforms.fingerprints import weights_fingerprint

if TYPE_CHECKING:
    import torch  # at run time only where it is used: torch and open_clip take seconds to import

LOCAL_DIR = "local-dir:"
BRINGS_WEIGHTS = (LOCAL_DIR, "hf-hub:")
_LOADING = threading.Lock()


def check_model(model: str, pretrained: str | None, device: str) -> None:
    """Raises ModelError where this model can't be loaded, as far as names and files tell."""
    if device.startswith("cuda"):
        resolve_device(device)
    if model.startswith(LOCAL_DIR):
        _local_files(model)
        return
    if model.startswith(BRINGS_WEIGHTS):
        return
    import open_clip  # noqa: PLC0415

    if model not in open_clip.list_models():
        msg = f"open_clip has no model {model!r}; {nearest(model, open_clip.list_models())}"
        raise ModelError(msg)
    if pretrained is None:
        msg = f"model {model!r} needs `pretrained`: an open_clip tag or the path of a checkpoint"
        raise ModelError(msg)
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags and not Path(pretrained).is_file():
        msg = f"no checkpoint {pretrained!r} for {model!r}: it is no file, and {nearest(pretrained, tags)}"
        raise ModelError(msg)


def weights_identity(model: str, pretrained: str | None) -> str:
    """What names these weights: the files' content for local ones, else model and tag."""
    if model.startswith(LOCAL_DIR):
        return " ".join(weights_fingerprint(path) for path in _local_files(model))
    if pretrained is not None and Path(pretrained).is_file():
        return f"{model} {weights_fingerprint(Path(pretrained))}"
    return f"{model} {pretrained}"


@dataclass
class ClipEncoder:
    """A CLIP model that is loaded, with its preprocessing."""

    model: Any
    transform: Any
    tokenizer: Any
    device: str
    half: bool

    def prepare(self, rgb: Image.Image, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (3, s, s) float32, normalised with the model's mean and std; tokens (length,) int64."""
        return self.transform(rgb), self.tokenizer([caption])[0]

    def encode(
        self, prepared: Sequence[tuple[torch.Tensor, torch.Tensor]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float16], NDArray[np.float16]]:
        """Cosine and embeddings of n pairs.

        Returns: (n,) float32 cosine in [-1, 1]; image and text embeddings (n, d) float16, unit
        rows. On CUDA out of memory the batch is halved until one pair is too much.
        """
        import torch  # noqa: PLC0415

        images = torch.stack([image for image, _ in prepared])
        tokens = torch.stack([text for _, text in prepared])
        try:
            image, text = self._forward(images, tokens)
        except torch.cuda.OutOfMemoryError:
            if len(prepared) == 1:
                raise
        else:
            cosine = np.clip((image * text).sum(axis=1), -1.0, 1.0)
            return cosine, image.astype(np.float16), text.astype(np.float16)
        # Outside of `except`: while the error lives, its traceback holds the failed batch's memory.
        torch.cuda.empty_cache()
        middle = len(prepared) // 2
        halves = [self.encode(half) for half in (prepared[:middle], prepared[middle:])]
        cosines, images_out, texts_out = zip(*halves, strict=True)
        return np.concatenate(cosines), np.concatenate(images_out), np.concatenate(texts_out)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> NDArray[np.float16]:
        """The embeddings of n texts, at least one: (n, d) float16, unit rows.

        On CUDA out of memory the batch is halved until one text is too much.
        """
        import torch  # noqa: PLC0415

        found: list[NDArray[np.float16]] = []
        done = 0
        while done < len(texts):
            try:
                found.append(self._forward_texts(texts[done : done + batch_size]))
            except torch.cuda.OutOfMemoryError:
                if batch_size == 1:
                    raise
            else:
                done += batch_size
                continue
            # Outside of `except`, as above.
            torch.cuda.empty_cache()
            batch_size = max(1, batch_size // 2)
        return np.concatenate(found)

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> NDArray[np.float16]:
        """The embeddings of a few RGB pictures, at least one: (n, d) float16, unit rows."""
        import torch  # noqa: PLC0415

        images = torch.stack([self.transform(picture) for picture in pictures])
        images = images.to(self.device, torch.bfloat16 if self.half else None)
        with torch.inference_mode():
            found = torch.nn.functional.normalize(self.model.encode_image(images).float(), dim=-1)
        return found.cpu().numpy().astype(np.float16)

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines with before a softmax: 1 / its temperature."""
        return float(self.model.logit_scale.exp())

    def _forward_texts(self, texts: Sequence[str]) -> NDArray[np.float16]:
        import torch  # noqa: PLC0415

        tokens = self.tokenizer(list(texts)).to(self.device)
        with torch.inference_mode():
            text = torch.nn.functional.normalize(encode_captions(self.model, tokens).float(), dim=-1)
        return text.cpu().numpy().astype(np.float16)

    def _forward(
        self, images: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        import torch  # noqa: PLC0415

        gpu = self.device.startswith("cuda")
        if gpu:
            images, tokens = images.pin_memory(), tokens.pin_memory()
        images = images.to(self.device, torch.bfloat16 if self.half else None, non_blocking=True)
        tokens = tokens.to(self.device, non_blocking=True)
        with torch.inference_mode():
            image = self.model.encode_image(images).float()
            text = encode_captions(self.model, tokens).float()
            image = torch.nn.functional.normalize(image, dim=-1)
            text = torch.nn.functional.normalize(text, dim=-1)
        return image.cpu().numpy(), text.cpu().numpy()


LENGTH_STEP = 8


def encode_captions(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The text embeddings of (n, context) tokens, without computing the padding after the captions.

    In a causal text tower the end-of-text token, which is read off, sees nothing behind it: a
    tower cut to the longest caption of the batch gives the same (n, d) embeddings for a fraction
    of the work. Towers that are not of this kind get the tokens whole.
    """
    if _reads_causally(model):
        length = int(tokens.argmax(dim=1).max()) + 1
        length = -(-length // LENGTH_STEP) * LENGTH_STEP
        if length < tokens.shape[1]:
            return _cut_to(model, length).encode_text(tokens[:, :length])  # type: ignore[no-any-return]
    return model.encode_text(tokens)  # type: ignore[no-any-return]


def _reads_causally(model: Any) -> bool:
    """True for open_clip's own CLIP class with a causal mask, read at the greatest token."""
    import open_clip  # noqa: PLC0415

    if type(model) is not open_clip.CLIP or model.text_pool_type != "argmax" or model.attn_mask is None:
        return False
    behind = model.attn_mask.triu(1) == model.attn_mask
    return bool(behind.all())


def _cut_to(model: Any, length: int) -> Any:
    """The model with a shorter context; a copy that shares every weight, so threads may share both."""
    short = copy.copy(model)
    positions = model.positional_embedding[:length]
    short._parameters = {**model._parameters, "positional_embedding": positions}  # noqa: SLF001
    short._buffers = {**model._buffers, "attn_mask": model.attn_mask[:length, :length]}  # noqa: SLF001
    return short


# What a checkpoint that is damaged, hostile or of another model makes its readers raise.
UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError),
    *(pickle.UnpicklingError, SafetensorError),
)


@lru_cache(maxsize=4)
def _load(
    model: str,
    pretrained: str | None,
    device: str,
    half: bool,  # noqa: FBT001
    weights: str,  # noqa: ARG001  (another file under the same name is another model)
) -> ClipEncoder:
    import open_clip  # noqa: PLC0415

    try:
        loaded, _, transform = open_clip.create_model_and_transforms(
            model,
            pretrained=pretrained,
            device=device,
            precision="pure_bf16" if half else "fp32",
            weights_only=True,
        )
        tokenizer = open_clip.get_tokenizer(model)
    except UNREADABLE as cause:
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        msg = f"can't load CLIP model {model!r} with pretrained={pretrained!r}: {reason}"
        raise ModelError(msg) from cause
    loaded.eval()
    for parameter in loaded.parameters():
        parameter.requires_grad_(requires_grad=False)
    return ClipEncoder(loaded, transform, tokenizer, device, half)


def load_encoder(model: str, pretrained: str | None, device: str, precision: str) -> ClipEncoder:
    """The model, loaded once per process and shared by its threads.

    Raises: ModelError where the checkpoint can't be loaded or the device is absent.
    """
    resolved = resolve_device(device)
    half = precision == "bf16" or (precision == "auto" and resolved.startswith("cuda"))
    with _LOADING:
        return _load(model, pretrained, resolved, half, weights_identity(model, pretrained))


def _local_files(model: str) -> tuple[Path, ...]:
    """Configuration and weights of a `local-dir:` model."""
    folder = Path(model.removeprefix(LOCAL_DIR)).expanduser()
    config = folder / "open_clip_config.json"
    if not config.is_file():
        msg = f"{model!r}: {config} does not exist; a local-dir model has open_clip_config.json and weights"
        raise ModelError(msg)
    weights = sorted(
        path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pt", ".pth")
    )
    if not weights:
        msg = f"{model!r}: no weights (.safetensors, .bin, .pt) beside {config.name}"
        raise ModelError(msg)
    return (config, *weights)
