"""Which GPU a process scores on, without a GPU."""

import pytest
import torch

from sdg_data.devices import own_device


@pytest.mark.parametrize(
    ("gpus", "rank", "device"),
    [(0, "3", "cpu"), (8, "3", "cuda:3"), (1, "3", "cuda:0"), (8, "", "cuda"), (8, "0", "cuda:0")],
)
def test_each_process_has_its_own(gpus: int, rank: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert own_device() == device
