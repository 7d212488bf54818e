"""From options and settings to an executor."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sdg_data.errors import ConfigError
from sdg_data.settings import Settings, WorkSettings
from sdg_data.work import LocalExecutor

if TYPE_CHECKING:
    from sdg_data.console import WorkOptions
    from sdg_data.workers.executor import WorkersExecutor

MOST_WORKERS: Final = 4096
"""More is a mistyped number, and no cluster."""
MOST_A_CORE: Final = 16
"""Likewise the processes for each core of this machine: one that waits for a GPU needs little of a core."""


def work_settings(settings: Settings, options: WorkOptions) -> WorkSettings:
    """The settings' `[work]` with the options of the command line.

    Raises:
        ConfigError: An option makes no sense.
    """
    given: dict[str, object] = {}
    if options.executor is not None:
        if options.executor not in ("local", "ray"):
            raise ConfigError(f"there is no executor {options.executor!r}", item="--executor", hint="local or ray.")
        given["executor"] = options.executor
    if options.workers is not None:
        number = options.workers
        if number != "auto" and not (number.isascii() and number.isdigit() and number.strip("0")):
            raise ConfigError(f"{number!r} is no number of workers", item="--workers", hint="1, 2 … or auto.")
        given["workers"] = "auto" if number == "auto" else int(number.lstrip("0")[:9])  # the rest makes it no smaller
    if options.gpus_per_worker is not None:
        given["gpus_per_worker"] = options.gpus_per_worker
    if options.address is not None:
        given["address"] = options.address
    work = settings.work.model_copy(update=given)
    if options.address and work.executor != "ray":
        raise ConfigError("--address names a Ray cluster", item="--address", hint="Add --executor ray.")
    if work.workers not in (None, "auto") and int(work.workers) > MOST_WORKERS:
        raise ConfigError(f"more than {MOST_WORKERS} workers", item="--workers", hint="A smaller number, or auto.")
    address = work.address or os.environ.get("RAY_ADDRESS", "")
    if work.executor == "ray" and not _is_address(address):
        raise ConfigError(
            f"{address!r} is no address of a Ray cluster",
            item="--address" if work.address else "RAY_ADDRESS",
            hint="HOST:PORT of its head, or auto on one of its machines. Without either: a Ray of this machine.",
        )
    return work


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
    return text in ("", "auto") or (bool(host) and not set(host) & set("/ \t\n") and 0 < number < 65536)


def executor_of(settings: Settings, options: WorkOptions, stage: str) -> LocalExecutor | WorkersExecutor:
    """Who runs a stage: this process, or workers.

    Args:
        settings: Their `[work]` is used where an option is not given.
        options: Those of the command line.
        stage: Its name, for the log file.

    Raises:
        ConfigError: Options make no sense, or not together.
        MissingDependency: ray is not installed.
    """
    work = work_settings(settings, options)
    log_file = settings.home / "logs" / f"{stage}-workers.log"
    return _ray(work, log_file, stage) if work.executor == "ray" else _local(work, log_file)


def _ray(work: WorkSettings, log_file: Path, stage: str) -> WorkersExecutor:
    from sdg_data.workers.executor import WorkersExecutor
    from sdg_data.workers.ray_pool import RayOptions, RayPool

    workers = None if work.workers in (None, "auto") else int(work.workers)
    pool = RayPool(RayOptions(work.address, workers, work.gpus_per_worker, stage=stage), log_file)
    return WorkersExecutor(lambda: pool)


def _local(work: WorkSettings, log_file: Path) -> LocalExecutor | WorkersExecutor:
    if work.workers is None or work.workers == 1:
        return LocalExecutor()
    from sdg_data.preflight.machine import visible_gpus

    gpus = list(visible_gpus())
    each = 1.0 if work.gpus_per_worker is None else float(work.gpus_per_worker)
    if math.isfinite(each) and not each.is_integer():
        raise ConfigError(
            f"{each:g} GPUs a worker are shares of a GPU, which Ray deals out",
            item="--gpus-per-worker",
            hint="Without Ray, name more --workers than there are GPUs: they share them.",
        )
    if each > max(1, len(gpus)):
        raise ConfigError(f"this machine has {len(gpus)} GPUs, not {each:g}", item="--gpus-per-worker")
    workers = len(gpus) // max(1, int(each)) if work.workers == "auto" else int(work.workers)
    if workers <= 1:
        return LocalExecutor()
    cores = len(os.sched_getaffinity(0))
    if workers > MOST_A_CORE * cores:
        raise ConfigError(
            f"{workers} processes are too many for this machine's {cores} cores",
            item="--workers",
            hint=f"At most {MOST_A_CORE * cores}, or auto.",
        )
    from sdg_data.workers.executor import WorkersExecutor
    from sdg_data.workers.process_pool import ProcessPool, slots

    return WorkersExecutor(partial(ProcessPool, slots(workers, gpus, int(each)), log_file))
