"""This machine, without loading torch: its GPUs, its memory, and how long work takes on a GPU of that kind."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sdg_data.preflight.sizes import GIB

EFFICIENCY: Final = 0.5
"""Share of the peak that transformers of images reach. NVlabs' 23 s for FLUX.1-dev on an A100 are .52 of it."""
PEAKS: Final[Mapping[str, tuple[float, float]]] = {
    "B200": (2250, 8.0),
    "H200": (989, 4.8),
    "H100": (989, 3.35),
    "H800": (989, 3.35),
    "H20": (148, 4.0),
    "A100": (312, 2.0),
    "A800": (312, 2.0),
    "L40S": (362, 0.864),
    "L40": (181, 0.864),
    "L4": (121, 0.3),
    "A10G": (70, 0.6),
    "A10": (125, 0.6),
    "RTX 5090": (210, 1.79),
    "RTX 4090": (165, 1.01),
    "RTX 3090": (71, 0.94),
    "RTX A6000": (155, 0.77),
}
"""TFLOPS in dense bfloat16, and TB/s of memory, by the vendor's data sheets. The first name that fits counts."""
REFERENCE: Final = "H100"
"""The GPU that times are estimated for where there is none."""


@dataclass(frozen=True)
class Gpu:
    """A GPU: the vendor's name and its memory."""

    name: str
    gib: float

    @property
    def peaks(self) -> tuple[float, float] | None:
        """TFLOPS in bfloat16 and TB/s of memory; None for a kind that is not in the table."""
        words = f" {' '.join(self.name.replace('-', ' ').split())} "
        return next((peaks for kind, peaks in PEAKS.items() if f" {kind} " in words), None)


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs that a process started here may use, as `nvidia-smi` names them; none where it is not there."""
    return list(visible_gpus().values())


def visible_gpus() -> dict[str, Gpu]:
    """The same GPUs by what CUDA_VISIBLE_DEVICES calls each, in its order."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return {}
    fields = "--query-gpu=index,uuid,name,memory.total"
    try:
        answer = subprocess.run(
            [command, fields, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    gpus: dict[str, Gpu] = {}
    for row in csv.reader(answer.splitlines(), skipinitialspace=True):
        if len(row) == 4 and row[3].strip().replace(".", "", 1).isdigit():
            gpu = Gpu(row[2].strip(), float(row[3]) * 2**20 / GIB)
            gpus |= {row[0].strip(): gpu, row[1].strip(): gpu}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return {key: gpu for key, gpu in gpus.items() if key.isdigit()}
    # A list ends where CUDA ends it: at the first name that there is not.
    chosen: dict[str, Gpu] = {}
    for name in filter(None, (part.strip() for part in visible.split(","))):
        match = next((gpu for key, gpu in gpus.items() if key == name or _begins(key, name)), None)
        if match is None:
            break
        chosen[name] = match
    return chosen


def memory_gib() -> float | None:
    """GiB of memory that a process may use: the machine's with its swap, or the control group's limit if it is less."""
    limits = []
    with contextlib.suppress(OSError, ValueError):
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
        limits.append(sum(int(fields[name].split()[0]) for name in ("MemTotal", "SwapTotal")) * 1024)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int((Path("/sys/fs/cgroup") / name).read_text(encoding="utf-8")))
    if not limits:
        with contextlib.suppress(ValueError, OSError):
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits) / GIB if limits else None


def free_bytes(path: Path) -> int:
    """Bytes that are free where a folder is, or would be made."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def estimated_seconds(tflop: float, gpu: Gpu | None) -> tuple[float, str]:
    """How long a GPU needs for some work.

    Args:
        tflop: Tera floating-point operations.
        gpu: Which; None, or a kind that is not known: the reference.

    Returns:
        Seconds, and what the figure is: an estimate, for which GPU.
    """
    name, (peak, _) = _known(gpu)
    return tflop / (peak * EFFICIENCY), f"estimate for one {name}: {tflop:.3g} TFLOP at half its peak"


def writing_seconds(gib: float, tokens: int, gpu: Gpu | None) -> float:
    """How long a language model of that size writes so many tokens one by one: it reads all its weights for each."""
    _, (_, bandwidth) = _known(gpu)
    return tokens * gib * GIB / (bandwidth * 1e12 * EFFICIENCY)


def _known(gpu: Gpu | None) -> tuple[str, tuple[float, float]]:
    """A GPU's name and peaks, or those of the reference."""
    if gpu is not None and gpu.peaks is not None:
        return gpu.name, gpu.peaks
    return REFERENCE, PEAKS[REFERENCE]


def _begins(uuid: str, name: str) -> bool:
    """CUDA takes the beginning of a UUID for the whole."""
    return uuid.startswith("GPU-") and name.startswith("GPU-") and uuid.startswith(name)
