"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("torch", "open_clip_torch", "pillow", "numpy", "pyarrow", "apache-beam")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def describe_machine() -> str:
    """Date, processor, memory, GPU, Python and library versions, in one line."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    date = time.strftime("%Y-%m-%d", time.gmtime())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{date}; {_processor()}, {cores()} cores, {memory:.0f} GiB, {gpu_name() or 'no GPU'}; "
        f"Python {platform.python_version()}, {libraries}."
    )


def gpu_name() -> str | None:
    """The first GPU's name, if there is one; without importing torch."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    names = found.stdout.strip().splitlines()
    return names[0] if found.returncode == 0 and names else None


@dataclass(frozen=True)
class CoreUse:
    """Core seconds used so far: by all processes, and by this one and those that it started."""

    everyone: float
    ours: float
    clock: float

    @classmethod
    def now(cls) -> CoreUse:
        """The counters as they stand."""
        fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
        user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[:8])
        everyone = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(everyone, sum(each.ru_utime + each.ru_stime for each in used), time.monotonic())

    def others_since(self, before: CoreUse) -> float:
        """Cores that other processes kept busy since then, on average."""
        taken = (self.everyone - before.everyone) - (self.ours - before.ours)
        return max(0.0, taken) / max(1e-9, self.clock - before.clock)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return " ".join(line.split(":", 1)[1].split())
    return platform.machine()
