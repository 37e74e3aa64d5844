"""GPUs are found where they are, and where there can't be one nothing slow is asked."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import transforms.devices
from filters.core.errors import ModelError
from tests.transforms.reading import named
from transforms.devices import resolve_device

PROGRAM = """
import sys
import transforms.devices

transforms.devices._has_driver = lambda: {driver}
transforms.devices.resolve_device("auto")
print("torch" in sys.modules)
"""


@pytest.mark.parametrize("driver", [False, True])
def test_torch_is_asked_only_where_a_gpu_could_be(*, driver: bool) -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(driver=driver)], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == str(driver)


@pytest.mark.parametrize(
    ("nvidia", "amd", "platform", "found"),
    [
        (False, False, "linux", False),
        (True, False, "linux", True),
        (False, True, "linux", True),
        (False, False, "darwin", True),
    ],
)
def test_a_driver_is_a_library_or_a_device_file(
    monkeypatch: pytest.MonkeyPatch, *, nvidia: bool, amd: bool, platform: str, found: bool
) -> None:
    """Elsewhere than on Linux torch is asked in any case."""

    def load(name: str) -> None:
        if not nvidia:
            raise OSError(name)

    monkeypatch.setattr("transforms.devices.ctypes.CDLL", load)
    monkeypatch.setattr("transforms.devices.Path.exists", lambda _: amd)
    monkeypatch.setattr("transforms.devices.sys.platform", platform)
    assert transforms.devices._has_driver.__wrapped__() == found


def test_a_gpu_that_is_asked_for_and_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ModelError, match=r"device 'cuda' was asked for, but there are 0 usable GPUs here: use auto or cpu"
    ):
        resolve_device("cuda")
    with pytest.raises(ModelError, match="device 'cuda:1'"):
        named("clip", model="ViT-B-32", pretrained="openai", device="cuda:1").options.check()
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (resolve_device("auto"), resolve_device("cuda:1")) == ("cuda", "cuda:1")
    with pytest.raises(ModelError, match="'cuda:2' was asked for, but there are 2"):
        resolve_device("cuda:2")
