"""What stands in the way of making images, found before anything is fetched or loaded.

`sdg doctor --profile`, `sdg generate run --dry-run` and the beginning of a run ask the same questions of each model:
packages, licence, download and disk, memory, and for a dry run also whether the hub has the revision. A published
model's memory and time come from `sdg_data.preflight.sizes`; of any other model only its own figures are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from generators.memory import RESERVE_GIB, fitting_offload
from generators.models.presets import Preset
from generators.models.registry import model_of
from generators.revisions import installed
from sdg_data.errors import ExitCode
from sdg_data.preflight import hub, machine
from sdg_data.preflight.findings import Finding, faults
from sdg_data.preflight.machine import Gpu
from sdg_data.preflight.packages import check_extra
from sdg_data.preflight.sizes import ModelSizes, sizes_of

REWRITTEN_TOKENS: Final = 200
"""Tokens of a rewritten prompt, for the estimate of time; the model may write 512."""


@dataclass(frozen=True)
class Surroundings:
    """What there is on this machine.

    Attributes:
        gpus: Those that may be used; none: there is none, or `device` is another.
        memory_gib: Of the machine; None: unknown.
        free: Bytes that are free where downloaded models are kept.
        online: Whether the hub may be asked.
    """

    gpus: tuple[Gpu, ...]
    memory_gib: float | None
    free: int
    online: bool

    @classmethod
    def here(cls, device: str, *, online: bool) -> Surroundings:
        """Look around, without loading torch."""
        gpus = () if device.startswith(("cpu", "mps")) else tuple(machine.gpus())
        return cls(gpus, machine.memory_gib(), machine.free_bytes(Path(hub.cache_folder())), online)

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that images are made on."""
        return self.gpus[0] if self.gpus else None


def examine(presets: Sequence[Preset], around: Surroundings) -> list[Finding]:
    """The findings about each model, in their order; of what is well the short form.

    Args:
        presets: The models that would be run, one after another.
        around: The machine.

    Returns:
        The findings. A model of which one is at fault cannot be run as things are; the others can.
    """
    findings: list[Finding] = []
    packages = check_extra("generate", "generate")
    free, silent = around.free, False
    for preset in presets:
        about = [_packages(preset, packages), _revision(preset)]
        if preset.folder is None and not installed(preset):
            needed = _download(preset)
            about += _fetching(preset, free, needed)
            about += _hub(preset, around.online, silent)
            silent = silent or any(hub.NO_ANSWER in finding.state for finding in about)
            if not faults(about):
                free -= needed or 0
        elif preset.folder is None:
            about.append(Finding(preset.name, "download", "on this machine already"))
        known = sizes_of(preset.repository)
        if known is not None:
            about += [_memory(preset, known, around), *_gpu_memory(preset, known, around)]
        findings += about
    return findings


def _packages(preset: Preset, packages: Finding) -> Finding:
    """The packages' finding, told of one model, with the library of its quantised text encoder."""
    library = preset.memory.text_encoder.partition("-")[0]
    if packages.ok and library != "full":
        import importlib.util

        if importlib.util.find_spec(library) is None:
            fix = f'pip install {library}, or set memory.text_encoder = "full".'
            return Finding(preset.name, "packages", f"{library} is missing", False, fix, ExitCode.MISSING_DEPENDENCY)
    return Finding(preset.name, packages.what, packages.state, packages.ok, packages.fix, packages.code)


def estimated(preset: Preset, gpu: Gpu | None) -> tuple[float, str] | None:
    """Seconds for one image of a published model on one GPU, and what the estimate rests on; None for other models."""
    known = sizes_of(preset.repository)
    if known is None or not known.forward_tflop:
        return None
    flow = model_of(preset).flow
    guided = flow is None or flow.guided(preset.guidance)
    tflop = known.image_tflop(preset.width, preset.height, preset.steps, guided=guided)
    seconds, basis = machine.estimated_seconds(tflop, gpu)
    if preset.call.get("enable_prompt_rewrite"):
        encoder = next(part for part in known.components if part.name == "text_encoder")
        seconds += machine.writing_seconds(encoder.gib(preset.dtype), REWRITTEN_TOKENS, gpu)
        basis += f", and a prompt of {REWRITTEN_TOKENS} tokens"
    return seconds, basis


def _revision(preset: Preset) -> Finding:
    if preset.folder is not None:
        return Finding(preset.name, "revision", f"the content of {preset.folder}")
    if not preset.pinned:
        state = f"{preset.revision or 'main'} is a branch: its weights may change under one name"
        return Finding(preset.name, "revision", state, None, 'Name a commit: revision = "…".')
    return Finding(preset.name, "revision", f"{preset.revision}, seen in: {preset.revision_seen or 'nobody says'}")


def _download(preset: Preset) -> int | None:
    known = sizes_of(preset.repository)
    return None if known is None else known.download


def _fetching(preset: Preset, free: int, needed: int | None) -> list[Finding]:
    findings = []
    known = sizes_of(preset.repository)
    if known is not None and known.gated:
        if hub.has_token():
            findings.append(Finding(preset.name, "licence", f"{preset.licence}: gated, and a token is here"))
        else:
            state = f"{preset.licence}: gated, and no token is here (HF_TOKEN)"
            findings.append(Finding(preset.name, "licence", state, False, hub.gate_hint(preset.repository)))
    if needed is None:
        findings.append(Finding(preset.name, "download", "of a size that nobody states: not checked", None))
    else:
        enough = needed <= free
        state = f"{needed / 1e9:.0f} GB of weights to fetch, {free / 1e9:.0f} GB free for them in {hub.cache_folder()}"
        fix = None if enough else "Free some space, or name another place: HF_HUB_CACHE=…"
        findings.append(Finding(preset.name, "download", state, enough, fix))
    return findings


def _hub(preset: Preset, online: bool, silent: bool) -> list[Finding]:
    """What the hub says. One that has not answered is not asked again; that nobody may ask it is known without."""
    if silent:
        return [Finding(preset.name, "hub", f"{hub.NO_ANSWER}, and the model is not here", False, hub.NETWORK_HINT)]
    if not online and not hub.offline():
        return []
    return [hub.check_hub(preset.name, preset.repository, preset.revision)]


def _memory(preset: Preset, known: ModelSizes, around: Surroundings) -> Finding:
    """Weights are read into the machine's memory before they go to a GPU."""
    needed = known.gib(preset.dtype)
    if around.memory_gib is None:
        return Finding(preset.name, "memory", f"{needed:.1f} GiB of weights; this machine's is unknown", None)
    enough = needed <= around.memory_gib
    state = f"{needed:.1f} GiB of weights pass through this machine's {around.memory_gib:.1f} GiB"
    return Finding(preset.name, "memory", state, enough, None if enough else "It needs a machine with more memory.")


def _gpu_memory(preset: Preset, known: ModelSizes, around: Surroundings) -> list[Finding]:
    parts = ", ".join(f"{part.name} {part.gib(preset.dtype):.1f}" for part in known.components)
    weights = f"{known.gib(preset.dtype):.1f} GiB in {preset.dtype} ({parts})"
    if not around.gpus:
        return [Finding(preset.name, "GPU memory", f"{weights}; no GPU: not checked", None)]
    gpu = around.gpus[0]
    where = f"{gpu.name}, {gpu.gib:.1f} GiB"
    if preset.memory.text_encoder != "full":
        return [Finding(preset.name, "GPU memory", f"{weights}, less by the quantised text encoder; {where}", None)]
    chosen = fitting_offload(preset.memory.offload, known.gib(preset.dtype), known.largest_gib(preset.dtype), gpu.gib)
    ways = {
        "none": "all of it stays there",
        "model": "one part at a time is there (offload model)",
        "sequential": "one layer at a time is there (offload sequential): slow",
    }
    needs = {
        "none": known.gib(preset.dtype) + RESERVE_GIB,
        "model": known.largest_gib(preset.dtype) + RESERVE_GIB,
        "sequential": RESERVE_GIB,
    }
    fits = needs[chosen] <= gpu.gib
    fix = None if fits else f'[models.{preset.name}.memory] offload = "auto"'
    return [Finding(preset.name, "GPU memory", f"{weights}; {where}: {ways[chosen]}", fits, fix)]
