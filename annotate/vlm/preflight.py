"""What stands in the way of asking a vision-language model, found before it is loaded or asked."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from annotate.vlm.registry import BACKENDS
from sdg_data.errors import ExitCode
from sdg_data.preflight import hub, machine
from sdg_data.preflight.addresses import check_server
from sdg_data.preflight.findings import Finding
from sdg_data.preflight.packages import check_extra
from sdg_data.preflight.sizes import sizes_of
from sdg_data.settings import VlmSettings

RESERVE_GIB: Final = 4.0
"""Beside the weights of a model that answers in batches: its cache of keys and values, and CUDA's own context."""


def examine(subject: str, settings: VlmSettings, *, extra: str = "") -> list[Finding]:
    """The findings about one model that is asked.

    Args:
        subject: The part of the configuration that names it, such as "prelabel".
        settings: Backend, model, address.
        extra: The extra that has to bring the packages; "": that of the backend.

    Returns:
        The findings.
    """
    if settings.backend == "template":
        return [Finding(subject, "model", "none: sentences are put together from the boxes")]
    if settings.backend not in BACKENDS:
        state = f"there is no backend {settings.backend!r}"
        return [Finding(subject, "model", state, False, f"It is one of {', '.join(BACKENDS)}.", ExitCode.CONFIG)]
    if settings.backend == "openai":
        packages = check_extra(extra or "annotate", subject)
        if not settings.model:
            fix = 'model = "…", or --model'
            return [packages, Finding(subject, "model", "none is named", False, fix, ExitCode.CONFIG)]
        return [packages, *check_server(subject, settings)]
    packages = check_extra(extra or "vlm", subject)
    if settings.backend == "mini":
        return [packages, Finding(subject, "model", "the toy detector, which ships with the package")]
    if not settings.model:
        fix = 'model = "…", or --model'
        return [packages, Finding(subject, "model", "none is named", False, fix, ExitCode.CONFIG)]
    return [packages, *_local(subject, settings)]


def _local(subject: str, settings: VlmSettings) -> list[Finding]:
    folder = Path(settings.model).expanduser()
    if hub.is_path(settings.model):
        known = (folder / "config.json").is_file()
        fix = None if known else "Is it the folder `model` of a run?"
        return [
            Finding(subject, "model", f"the folder {folder}" + ("" if known else " has no config.json"), known, fix)
        ]
    findings = []
    pinned = len(settings.revision) == 40
    state = settings.revision if pinned else f"{settings.revision or 'main'} is a branch: its weights may change"
    findings.append(Finding(subject, "revision", state, True if pinned else None))
    sizes = sizes_of(settings.model)
    if hub.is_cached(settings.model, settings.revision):
        findings.append(Finding(subject, "download", f"{settings.model} is on this machine already"))
    else:
        if sizes is not None:
            free = machine.free_bytes(hub.cache_folder())
            enough = sizes.download <= free
            state = f"{sizes.download / 1e9:.0f} GB of weights to fetch, {free / 1e9:.0f} GB free for them"
            fix = None if enough else "Free some space, or name another place: HF_HUB_CACHE=…"
            findings.append(Finding(subject, "download", state, enough, fix))
        findings.append(hub.check_hub(subject, settings.model, settings.revision))
    if sizes is not None and settings.device not in ("cpu", "mps"):
        findings.append(_gpu(subject, sizes.gib()))
    return findings


def _gpu(subject: str, gib: float) -> Finding:
    gpus = machine.gpus()
    if not gpus:
        return Finding(subject, "GPU memory", f"{gib:.1f} GiB in bfloat16; no GPU: not checked", None)
    fits = gib + RESERVE_GIB <= gpus[0].gib
    fix = None if fits else 'A server on a larger GPU: backend = "openai", base_url = "http://…/v1".'
    return Finding(
        subject, "GPU memory", f"{gib:.1f} GiB in bfloat16; {gpus[0].name}, {gpus[0].gib:.1f} GiB", fits, fix
    )
