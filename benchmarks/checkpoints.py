"""The CLIP models that the benchmarks run; random weights cost what trained ones cost."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.photographs import CACHE

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Checkpoint:
    """How open_clip and a recipe name a model.

    Attributes:
        title: how the results name it.
        pretrained: path of its state dict; None for a `local-dir:` model.
    """

    title: str
    model: str
    pretrained: str | None = None

    def plain(self) -> dict[str, Any]:
        """The checkpoint as JSON values, for another process."""
        return asdict(self)


def random_weights(model: str) -> Checkpoint:
    """An open_clip model with random weights, saved once as a checkpoint."""
    path = CACHE / "checkpoints" / f"{model}.pt"
    if not path.exists():
        import open_clip
        import torch

        torch.manual_seed(0)
        made = open_clip.create_model(model, pretrained=None)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        torch.save(made.state_dict(), unfinished)
        unfinished.replace(path)
    return Checkpoint(model, model, str(path))


def trained_tiny() -> Checkpoint:
    """A trained model of a few megabytes: cifar-clip where it is there, else the demo's."""
    shared = Path(os.environ.get("CURATE_SHARED", ROOT.parent / "shared"))
    folder = shared / "models" / "cifar-clip"
    if folder.is_dir():
        return Checkpoint("cifar-clip (64 px)", f"local-dir:{folder}")
    return Checkpoint("demo model", f"local-dir:{ROOT / 'curate' / 'demo' / 'model'}")


def slim(layers: int) -> Checkpoint:
    """A slim transformer at 224 px whose cost its number of image layers sets."""
    folder = CACHE / "checkpoints" / f"slim-{layers}"
    if not (folder / "open_clip_model.safetensors").exists():
        _save_slim(folder, layers)
    return Checkpoint(f"slim transformer, {layers} layers (224 px)", f"local-dir:{folder}")


def _save_slim(folder: Path, layers: int) -> None:
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {
        "embed_dim": 256,
        "vision_cfg": {"image_size": 224, "layers": layers, "width": 256, "head_width": 64, "patch_size": 32},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 1},
    }
    mean = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    torch.manual_seed(0)
    made = open_clip.CLIP(**config)
    folder.mkdir(parents=True, exist_ok=True)
    described = json.dumps({"model_cfg": config, "preprocess_cfg": mean})
    (folder / "open_clip_config.json").write_text(described, encoding="utf-8")
    unfinished = folder / f"{os.getpid()}.tmp"
    save_file({name: tensor.contiguous() for name, tensor in made.state_dict().items()}, unfinished)
    unfinished.replace(folder / "open_clip_model.safetensors")
