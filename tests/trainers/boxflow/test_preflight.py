"""What a BoxFlow training takes and whom it asks, found before the image model is loaded."""

import pytest

from generators.models.registry import built_in_presets
from generators.preflight import Surroundings
from sdg_data.errors import ExitCode
from sdg_data.preflight import hub
from sdg_data.preflight.findings import Finding, faults
from sdg_data.preflight.machine import Gpu
from sdg_data.preflight.sizes import sizes_of
from trainers.boxflow import preflight
from trainers.boxflow.config import changed
from trainers.boxflow.recipes import flux1_dev, mini

FLUX = built_in_presets()["flux1-dev"]


def around(*gpus: Gpu) -> Surroundings:
    return Surroundings(gpus, 2000.0, 10**12, False)


def test_memory_of_an_adapter_and_of_all_weights_by_hand() -> None:
    pytest.importorskip("diffusers")
    sizes = sizes_of(FLUX.repository)
    assert sizes is not None
    config = flux1_dev()
    numbers = preflight.adapter_parameters(config, sizes)
    gib = (2 * sum(part.parameters for part in sizes.components) + 20 * numbers) / 2**30
    finding = preflight.gpu_memory(config, sizes, around(Gpu("NVIDIA H100", 79.6)))
    assert finding.ok is True
    assert f"{gib:.1f} GiB before activations" in finding.state
    whole = changed(config, {"policy.lora": None})
    assert preflight.gpu_memory(whole, sizes, around(Gpu("NVIDIA H100", 79.6))).ok is False
    assert preflight.gpu_memory(whole, sizes, around(*[Gpu("NVIDIA H100", 79.6)] * 8)).ok is None
    assert preflight.gpu_memory(config, sizes, around()).ok is None


def test_time_of_a_rollout_by_hand() -> None:
    sizes = sizes_of(FLUX.repository)
    assert sizes is not None
    finding = preflight.rollout_time(flux1_dev(), FLUX, sizes, around())
    # 768 images: 10 steps, and one that is learned from at four forwards with checkpointing; a decoder each.
    tflop = 768 * (14 * sizes.forward_tflop[0] + 5 * sizes.decode_tflop / 4)
    assert f"{tflop:.3g} TFLOP" in finding.state
    assert "estimate" in finding.state


def test_who_scores_and_detects_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "check_hub", lambda subject, *_: Finding(subject, "hub", "there"))
    monkeypatch.setattr(preflight, "examine_generator", lambda presets, around: [])
    findings = preflight.examine(flux1_dev(), FLUX, online=False)
    silent = {finding.subject for finding in faults(findings) if finding.what == "address"}
    assert silent == {"judge", "detector", "artifact guard"}
    nowhere = changed(flux1_dev(), {"rewards.detector.vlm.base_url": ""})
    wrong = [finding for finding in preflight.examine(nowhere, FLUX, online=False) if finding.subject == "detector"]
    assert [finding.code for finding in wrong] == [ExitCode.CONFIG]


def test_the_mini_recipe_needs_nothing() -> None:
    assert not faults(preflight.examine(mini(), built_in_presets()["mini-flux2"], online=False))
