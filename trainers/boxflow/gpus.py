"""Which GPU of a machine does what: the servers of judges and detectors have one each, the others train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from sdg_data.listening import is_loopback
from trainers.boxflow.config import BoxFlowConfig

_BESIDE: Final = "artifact guard"
USUAL: Final = 8
"""GPUs of the machine that is planned for where there are none here."""


def gpu_plan(config: BoxFlowConfig, addresses: Mapping[str, str], gpus: int) -> list[dict[str, Any]]:
    """Deal out the GPUs of a machine.

    Args:
        config: the training's.
        addresses: who is asked -> address, as `trainers.rewards.settings.servers` gives them. One elsewhere, and
            several at one address, take no GPU of their own; an artifact guard, which is asked little, is beside
            another server.
        gpus: how many there are.

    Returns:
        A row for each use: `gpus` (numbers by comma) and `use`. As many processes train as there are GPUs left and a
        rollout's images can be dealt out to evenly; none where no GPU is left.
    """
    here: dict[str, list[str]] = {}
    for name, address in addresses.items():
        if _is_here(address):
            here.setdefault(address, []).append(name)
    for address in [address for address, names in here.items() if all(name.startswith(_BESIDE) for name in names)]:
        host = next((other for other in here if other != address), None)
        if host is not None:
            here[host] += [f"{name} at {address}" for name in here.pop(address)]
    left = gpus - len(here)
    each = config.rollout.batch_size * config.optimizer.minibatches
    processes = next((number for number in range(left, 0, -1) if config.total % (each * number) == 0), 0)
    rows: list[dict[str, Any]] = [
        {
            "gpus": ",".join(map(str, range(processes))),
            "use": f"training, {processes} processes",
            "processes": processes,
        }
    ]
    for place, (address, names) in enumerate(here.items(), start=max(left, 0)):
        rows.append({"gpus": str(place), "use": f"{' and '.join(names)} at {address}", "processes": 0})
    if processes < left:
        idle = ",".join(map(str, range(processes, left)))
        reason = f"{config.total} images cannot be dealt out evenly to more processes"
        rows.append({"gpus": idle, "use": f"idle: {reason}", "processes": 0})
    return rows


def _is_here(address: str) -> bool:
    return is_loopback(urlsplit(address).hostname or "")
