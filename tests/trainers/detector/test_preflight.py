"""What a detector's training takes, against figures counted on the real class."""

import json

import pytest

from sdg_data.preflight import hub, machine, sizes
from sdg_data.preflight.findings import Finding
from sdg_data.preflight.machine import Gpu
from trainers.common import measure
from trainers.detector import preflight
from trainers.detector.grpo_config import sdg30k as grpo
from trainers.detector.sft_config import sdg30k as sft
from trainers.detector.train_config import changed

QWEN = "Qwen/Qwen3-VL-4B-Instruct"


@pytest.fixture
def qwen() -> sizes.ModelSizes:
    known = sizes.sizes_of(QWEN)
    assert known is not None
    return known


def test_parts_are_counted_as_the_class_has_them(qwen: sizes.ModelSizes) -> None:
    pytest.importorskip("transformers")
    values = json.loads((sizes.FOLDER / "qwen3-vl-4b.json").read_text(encoding="utf-8"))
    model = measure.build(values["components"]["model"]).model
    assert preflight.vision_parameters(qwen.components[0]) == measure.parameters(model.visual)
    linear = [
        module
        for name, module in model.language_model.named_modules()
        if name.endswith("_proj") and hasattr(module, "in_features")
    ]
    by_hand = sum(64 * (module.in_features + module.out_features) for module in linear)
    assert preflight.adapter_parameters(qwen.components[0], 64) == by_hand


def test_memory_by_hand(qwen: sizes.ModelSizes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", list)
    whole, vision, gib = 4_437_815_808, 415_347_712, 2**30
    full = (4 * whole + 12 * (whole - vision)) / gib
    state = preflight.gpu_memory(sft(), qwen).state
    assert f"{full:.1f} GiB on one GPU" in state
    assert f"{full + 4 * (whole - vision) / gib:.1f} by DDP" in state
    assert f"{full / 8:.1f} on each of 8" in state
    assert f"{full + 4 * whole / gib:.1f} GiB on one GPU" in preflight.gpu_memory(grpo(), qwen).state
    lora = changed(sft(), {"model.lora": {"rank": 64, "alpha": 128}})
    assert f"{(2 * whole + 16 * 132_120_576) / gib:.1f} GiB on one GPU" in preflight.gpu_memory(lora, qwen).state


@pytest.mark.parametrize(
    ("gpus", "ok"),
    [
        ([Gpu("NVIDIA H100", 79.6)] * 8, True),
        ([Gpu("NVIDIA L40S", 44)] * 4, None),  # FSDP2 shares it
        ([Gpu("NVIDIA L40S", 44)], False),
        ([Gpu("NVIDIA L4", 7)] * 2, False),
    ],
)
def test_memory_against_the_gpus(
    qwen: sizes.ModelSizes, monkeypatch: pytest.MonkeyPatch, gpus: list[Gpu], ok: bool | None
) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: gpus)
    assert preflight.gpu_memory(sft(), qwen).ok is ok


def test_a_similarity_without_its_package_is_found_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "check_hub", lambda subject, *_: Finding(subject, "hub", "there"))
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    config = changed(sft(), {"evaluation.similarity": "some/sentence-model"})
    (wrong,) = [findings for findings in preflight.examine(config, QWEN) if findings.subject == "evaluation"]
    assert wrong.ok is False
    assert "sdg-data[eval]" in str(wrong.fix)
