"""Which of several processes this is, and which GPU it scores on, without a GPU."""

import pytest
import torch

from sdg_data.processes import own_device, rank, world_size


@pytest.mark.parametrize(
    ("gpus", "local", "device"),
    [(0, "3", "cpu"), (8, "3", "cuda:3"), (1, "3", "cuda:0"), (8, "", "cuda"), (8, "0", "cuda:0")],
)
def test_each_process_has_its_own(gpus: int, local: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_RANK", local)
    assert own_device() == device


def test_a_process_alone_is_the_first_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (rank(), world_size()) == (0, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert (rank(), world_size()) == (3, 8)
