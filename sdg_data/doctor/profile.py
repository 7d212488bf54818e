"""What `sdg doctor --profile` and `--gpu` say: the preflight of a whole profile, and of the GPUs."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdg_data.errors import ExitCode
from sdg_data.preflight import machine
from sdg_data.preflight.findings import Finding
from sdg_data.settings import Settings, load_settings

if TYPE_CHECKING:
    from generators.models.presets import Preset
    from generators.preflight import Surroundings


def examine(profile: str | None, home: Path, *, gpu: bool) -> list[Finding]:
    """The findings about a profile and the machine.

    Args:
        profile: Its name, or a config file; None: none, which leaves the GPU.
        home: Whose store and disk are looked at.
        gpu: Whether there has to be a GPU that torch can use.

    Returns:
        The findings.
    """
    findings = check_gpu() if gpu else []
    if profile is None:
        return findings
    path = Path(profile).expanduser()
    if path.suffix == ".toml" or path.is_file():
        settings = load_settings(home=home, config=path)
    else:
        settings = load_settings(home=home, environ={"PROFILE": profile})
    return [*findings, *preflight(settings)]


def check_gpu() -> list[Finding]:
    """Whether torch sees the GPUs that the driver lists, and whether what is compiled against torch fits it."""
    gpus = machine.gpus()
    if not gpus:
        fix = "Is this the GPU machine? `nvidia-smi` has to list them; CUDA_VISIBLE_DEVICES can hide them."
        return [Finding("gpu", "driver", "there is no GPU", False, fix)]
    kinds = ", ".join(f"{gpu.name} ({gpu.gib:.0f} GiB)" for gpu in gpus)
    findings = [Finding("gpu", "driver", f"{len(gpus)}: {kinds}")]
    if importlib.util.find_spec("torch") is None:
        fix = "make setup GPU=1, or pip install 'sdg-data[generate]'"
        return [*findings, Finding("gpu", "torch", "is not installed", False, fix, ExitCode.MISSING_DEPENDENCY)]
    import torch

    if torch.cuda.is_available():
        findings.append(Finding("gpu", "torch", f"{torch.__version__} sees {torch.cuda.device_count()}"))
    else:
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is a build for the CPU"
        fix = "make setup GPU=1 in a fresh .venv, or a driver for that CUDA."
        findings.append(Finding("gpu", "torch", f"{torch.__version__} {built} and sees none", False, fix))
    return [*findings, check_torchvision()]


def check_torchvision() -> Finding:
    """Whether torchvision, if it is here, is built for this torch; one that is not breaks every model library."""
    try:
        version = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return Finding("gpu", "torchvision", "is not installed, and not needed")
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        fix = "pip uninstall torchvision, or take the one that was built for this torch."
        state = f"{version} does not fit this torch ({reason})"
        return Finding("gpu", "torchvision", state, False, fix, ExitCode.MISSING_DEPENDENCY)
    return Finding("gpu", "torchvision", version)


def preflight(settings: Settings) -> list[Finding]:
    """What stands in the way of the profile's commands: its image models, its detector, its enricher."""
    from annotate.vlm.preflight import examine as examine_vlm
    from generators.models.registry import choose, load_presets
    from generators.preflight import Surroundings
    from generators.preflight import examine as examine_generators

    presets = choose(settings.generate.models, load_presets(settings.models))
    around = Surroundings.here(settings.generate.device, online=True)
    findings = examine_generators(presets, around)
    findings += examine_vlm("prelabel", settings.prelabel)
    if settings.enrich != settings.prelabel:
        findings += examine_vlm("enrich", settings.enrich)
    return [*findings, *_work(settings, presets, around)]


def _work(settings: Settings, presets: Sequence[Preset], around: Surroundings) -> list[Finding]:
    """Time and disk of the images that are missing, where there are prompts; else of a thousand."""
    from generators.plan import ModelSelection, plan_lines
    from generators.preflight import estimated
    from generators.revisions import revision_of
    from sdg_data.progress import duration
    from sdg_data.store.connection import Store

    store = Store(settings.home)
    if not store.path.exists():
        findings = []
        for preset in presets:
            estimate = estimated(preset, around.gpu)
            if estimate is not None:
                state = f"{duration(1000 * estimate[0])} for 1,000 images ({estimate[1]})"
                findings.append(Finding(preset.name, "time", state, None))
        return findings
    selection = ModelSelection(
        tuple(presets), tuple(revision_of(preset) for preset in presets), settings.generate.samples_per_prompt
    )
    lines = plan_lines(store, selection, [preset.batch_size for preset in presets], around.gpu)
    findings = []
    for line in lines:
        time = "unknown time" if line.seconds is None else duration(line.seconds)
        state = f"{time} for {line.missing} images ({line.seconds_from}), {line.bytes / 1e9:.1f} GB of pictures"
        findings.append(Finding(line.model, "time", state, None))
    room = shutil.disk_usage(next(path for path in (settings.home, *settings.home.parents) if path.exists())).free
    needed = sum(line.bytes for line in lines)
    state = f"{needed / 1e9:.1f} GB of pictures, {room / 1e9:.1f} GB free in {settings.home}"
    if settings.storage.blobs is None and needed > room:
        findings.append(Finding("generate", "disk", state, False, "Free some space, or --home elsewhere."))
    return findings
