"""Loads and applies score heads: a chain of linear layers in numpy."""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from filters.core.errors import ModelError
from transforms.encoders import UNREADABLE
from transforms.fingerprints import weights_fingerprint

if TYPE_CHECKING:
    import torch  # at run time only where it is used: it takes seconds to import

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


def load_head(path: str) -> tuple[Layer, ...]:
    """The head's layers, in order: weights (out, in) and bias (out,), float32.

    Only tensors are loaded (`weights_only`): a checkpoint can't run code. Layers are taken in the
    numeric order of their names, as `torch.nn.Sequential` writes them.
    Raises: ModelError where the file is no chain of linear layers that ends in one number.
    """
    try:
        return _load_head(path, weights_fingerprint(Path(path)))
    except OSError as cause:
        msg = f"can't load the score head {path!r}: {cause.strerror}"
        raise ModelError(msg) from cause


@lru_cache(maxsize=8)
def _load_head(path: str, weights: str) -> tuple[Layer, ...]:  # noqa: ARG001  (the cache's key)
    state = _state(path)
    names = sorted((name for name in state if name.endswith("weight")), key=_natural)
    layers = []
    for name in names:
        weight = state[name].detach().float().numpy()
        bias = state.get(name.removesuffix("weight") + "bias")
        if weight.ndim != 2:
            msg = f"{path!r}: {name} has shape {weight.shape}; a score head has linear layers only"
            raise ModelError(msg)
        offset = np.zeros(len(weight), np.float32) if bias is None else bias.detach().float().numpy()
        if offset.shape != weight.shape[:1]:
            msg = f"{path!r}: {name} has shape {weight.shape}, but its bias {offset.shape}"
            raise ModelError(msg)
        layers.append((weight, offset))
    fits = all(len(first[0]) == second[0].shape[1] for first, second in itertools.pairwise(layers))
    if not layers or not fits or len(layers[-1][0]) != 1:
        shapes = " -> ".join(str(weight.shape) for weight, _ in layers) or "none"
        msg = f"{path!r} is no score head: its linear layers are {shapes}, the last must give one number"
        raise ModelError(msg)
    return tuple(layers)


def apply_head(
    layers: tuple[Layer, ...], embeddings: NDArray[np.floating], activation: str = "identity"
) -> NDArray[np.float32]:
    """The score of each embedding.

    embeddings: (n, d), any float type; re-normalised to unit length in float32 first.
    Returns: (n,) float32; NaN where the embedding is NaN.
    Raises: ModelError where d is not what the head was made for.
    """
    values = np.asarray(embeddings, dtype=np.float32)
    if values.shape[1] != layers[0][0].shape[1]:
        msg = (
            f"the score head takes embeddings of {layers[0][0].shape[1]} numbers, but the encoder "
            f"gives {values.shape[1]}: use the CLIP model that the head was trained on"
        )
        raise ModelError(msg)
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    for number, (weight, bias) in enumerate(layers):
        values = values @ weight.T + bias
        if number < len(layers) - 1:
            values = _activate(values, activation)
    return values[:, 0]


def _activate(values: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    if activation == "relu":
        return np.maximum(values, 0)
    if activation == "gelu":
        import torch  # noqa: PLC0415

        result: NDArray[np.float32] = torch.nn.functional.gelu(torch.from_numpy(values)).numpy()
        return result
    return values


def _state(path: str) -> dict[str, torch.Tensor]:
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as cause:
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        msg = f"can't load the score head {path!r} (tensors only): {reason}"
        raise ModelError(msg) from cause
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        msg = f"{path!r} is no state dict of tensors"
        raise ModelError(msg)
    return state


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in name.split(".")]
