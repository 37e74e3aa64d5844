"""Where arrays are multiplied and models run: on a GPU where there is one."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path

from filters.core.errors import ModelError


def resolve_device(device: str) -> str:
    """The torch device to use; a GPU that was asked for and is absent is an error.

    device: auto, cpu, cuda or cuda:N. Raises: ModelError.
    """
    if device == "auto":
        return "cuda" if gpus() else "cpu"
    if device.startswith("cuda"):
        number = int(device.partition(":")[2] or 0)
        if number >= (count := gpus()):
            msg = f"device {device!r} was asked for, but there are {count} usable GPUs here: use auto or cpu"
            raise ModelError(msg)
    return device


def gpus() -> int:
    """How many GPUs torch can use here.

    It is not asked where it can't use any: importing it takes seconds, which steps without a model save.
    """
    if "torch" not in sys.modules and not _has_driver():
        return 0
    import torch  # noqa: PLC0415

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@cache
def _has_driver() -> bool:
    """Whether a GPU's driver is installed: NVIDIA's library, or the device file of AMD's."""
    if sys.platform != "linux" or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
