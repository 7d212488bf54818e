"""Several processes that train together, as torchrun and accelerate start them: which one this is, and its GPU."""

from __future__ import annotations

import os


def rank() -> int:
    """This process's number among those that train together, 0 where it is the only one."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launcher_checkpoints() -> bool:
    """Whether the file of `accelerate launch` has activations checkpointed: doing so in a training as well is wrong."""
    names = ("ACCELERATE_USE_FSDP", "FSDP_ACTIVATION_CHECKPOINTING")
    return all(os.environ.get(name, "").lower() in ("1", "true") for name in names)


def own_device() -> str:
    """torch's name of the device that "auto" stands for: this process's own GPU, else the CPU.

    CUDA's current device belongs to a thread, and a new thread's is the first one. So a model that is loaded in a
    worker thread is put on its process's GPU by number (`LOCAL_RANK`).
    """
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    local = os.environ.get("LOCAL_RANK", "")
    return f"cuda:{int(local) % torch.cuda.device_count()}" if local.isdigit() else "cuda"
