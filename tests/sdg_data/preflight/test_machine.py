"""What the machine is, and how long work takes on it."""

from collections.abc import Callable

import pytest

from sdg_data.preflight import machine
from sdg_data.preflight.machine import Gpu

TWO = "0, GPU-aa11, NVIDIA H100 80GB HBM3, 81559\n1, GPU-bb22, NVIDIA A100-SXM4-40GB, 40960"


def test_gpus_are_those_that_cuda_would_show(smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    smi(TWO)
    first, second = machine.gpus()
    assert (first.name, round(first.gib, 2)) == ("NVIDIA H100 80GB HBM3", 79.65)
    assert second.gib == 40
    for visible, names in {
        "": [],
        "1": [second],
        "1,0": [second, first],
        "GPU-bb": [second],
        "0,7,1": [first],  # CUDA ends the list at the first that there is not
        "-1": [],
    }.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert machine.gpus() == names, visible


@pytest.mark.parametrize(
    "text", ["", "No devices were found", "0, GPU-aa, NVIDIA H100, [N/A]", "NVIDIA-SMI has failed"]
)
def test_a_driver_without_gpus_gives_none(smi: Callable[[str], None], text: str) -> None:
    smi(text)
    assert machine.gpus() == []


def test_no_driver_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert machine.gpus() == []


def test_times_by_hand() -> None:
    assert machine.estimated_seconds(989, Gpu("NVIDIA H100 80GB HBM3", 80))[0] == pytest.approx(2)
    seconds, basis = machine.estimated_seconds(312, Gpu("NVIDIA A100-SXM4-40GB", 40))
    assert seconds == pytest.approx(2)
    assert "A100" in basis
    assert "estimate" in basis
    # The A10 is not taken for an A100, and an unknown kind is told as the reference.
    assert machine.estimated_seconds(125, Gpu("NVIDIA A10", 24))[0] == pytest.approx(2)
    assert "H100" in machine.estimated_seconds(1, Gpu("Voodoo 2", 0.01))[1]
    assert machine.estimated_seconds(989, None)[0] == pytest.approx(2)
    # 100 tokens of a model of 3.35 TB/s · 0.5 take 100 times a reading of its weights.
    assert machine.writing_seconds(1.675e12 / 2**30, 100, None) == pytest.approx(100)


def test_memory_is_not_more_than_the_machines() -> None:
    known = machine.memory_gib()
    assert known is not None
    assert 0.1 < known < 100_000
