"""The accelerator of this process, where several train together."""

from __future__ import annotations

import os


def own_device() -> str:
    """torch's name of the device that "auto" stands for: this process's own GPU, else the CPU.

    CUDA's current device belongs to a thread, and a new thread's is the first one. So a model that is loaded in a
    worker thread is put on its process's GPU by number (`LOCAL_RANK`, which torchrun and accelerate set).
    """
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    rank = os.environ.get("LOCAL_RANK", "")
    return f"cuda:{int(rank) % torch.cuda.device_count()}" if rank.isdigit() else "cuda"
