"""What is found before a model is fetched or loaded, and that the others of a plan go on where one cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from generators import preflight
from generators.memory import fitting_offload
from generators.models.registry import built_in_presets, load_presets
from generators.preflight import Surroundings, examine
from sdg_data import cli
from sdg_data.errors import ExitCode
from sdg_data.preflight import hub
from sdg_data.preflight.findings import Finding, faults
from sdg_data.preflight.machine import Gpu

H100 = Gpu("NVIDIA H100 80GB HBM3", 79.6)
REAL = {name: preset for name, preset in built_in_presets().items() if preset.folder is None}
SDG30K = [REAL[name] for name in ("flux2-dev", "z-image-turbo", "longcat-image", "sana-1.5-1.6b")]


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model was downloaded, nobody is logged in, and the hub has everything."""
    monkeypatch.setattr(preflight, "installed", lambda preset: preset.folder is not None)
    monkeypatch.setattr(hub, "has_token", lambda: False)
    monkeypatch.setattr(hub, "check_hub", lambda subject, *_: Finding(subject, "hub", "there"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def around(**values: Any) -> Surroundings:
    defaults: dict[str, Any] = {"gpus": (H100,), "memory_gib": 2000.0, "free": 10**12, "online": True}
    return Surroundings(**defaults | values)


def about(findings: list[Finding]) -> dict[tuple[str, str], Finding]:
    return {(finding.subject, finding.what): finding for finding in findings}


def test_a_node_with_everything_has_only_the_licence_to_accept() -> None:
    (wrong,) = faults(examine(SDG30K, around()))
    assert (wrong.subject, wrong.what) == ("flux2-dev", "licence")
    assert "black-forest-labs/FLUX.2-dev" in str(wrong.fix)
    assert "HF_TOKEN" in wrong.state


def test_memory_is_told_by_component_and_by_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "has_token", lambda: True)
    findings = about(examine(SDG30K, around()))
    flux = findings["flux2-dev", "GPU memory"]
    assert "transformer 60.0, text_encoder 44.7" in flux.state
    assert "offload model" in flux.state
    assert "all of it stays" in findings["longcat-image", "GPU memory"].state
    assert not faults(list(findings.values()))
    small = about(examine(SDG30K, around(gpus=(Gpu("NVIDIA L4", 22.0),))))
    assert "sequential" in small["flux2-dev", "GPU memory"].state
    assert "offload model" in small["z-image-turbo", "GPU memory"].state
    none = about(examine(SDG30K, around(gpus=())))
    assert {none[preset.name, "GPU memory"].ok for preset in SDG30K} == {None}
    assert "no GPU: not checked" in none["flux2-dev", "GPU memory"].state


@pytest.mark.parametrize(
    ("wanted", "gpu", "chosen"),
    [
        ("auto", 120, "none"),
        ("auto", 79, "model"),
        ("auto", 60, "sequential"),
        ("none", 10, "none"),
        ("model", 200, "model"),
    ],
)
def test_offloading_fits_the_gpu(wanted: str, gpu: float, chosen: str) -> None:
    assert fitting_offload(wanted, 104.9, 60.0, gpu) == chosen


def test_a_model_that_says_it_stays_and_does_not_fit_is_a_fault() -> None:
    preset = load_presets({"flux2-dev": {"memory": {"offload": "none"}}})["flux2-dev"]
    finding = about(examine([preset], around()))["flux2-dev", "GPU memory"]
    assert finding.ok is False
    assert "auto" in str(finding.fix)


def test_disk_is_counted_over_the_models_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "has_token", lambda: True)
    # 112.6 + 32.8 + 29.3 + 9.1 GB: the last does not fit into 180.
    findings = about(examine(SDG30K, around(free=180 * 10**9)))
    assert [findings[preset.name, "download"].ok for preset in SDG30K] == [True, True, True, False]
    # One that cannot come for another reason takes no room.
    monkeypatch.setattr(hub, "has_token", lambda: False)
    findings = about(examine(SDG30K, around(free=75 * 10**9)))
    assert [findings[preset.name, "download"].ok for preset in SDG30K] == [False, True, True, True]


def test_too_little_memory_of_the_machine_is_a_fault() -> None:
    findings = about(examine(SDG30K, around(memory_gib=64.0)))
    assert [findings[preset.name, "memory"].ok for preset in SDG30K] == [False, True, True, True]


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def silent(subject: str, *_: str) -> Finding:
        asked.append(subject)
        return Finding(subject, "hub", f"{hub.NO_ANSWER} (timed out)", False)

    monkeypatch.setattr(hub, "check_hub", silent)
    findings = about(examine(SDG30K, around()))
    assert asked == ["flux2-dev"]
    assert {findings[preset.name, "hub"].ok for preset in SDG30K} == {False}


def test_every_pin_says_where_it_was_seen_and_another_commit_does_not_inherit_that() -> None:
    for preset in REAL.values():
        assert preset.revision_seen
        assert preset.revision_seen in about(examine([preset], around()))[preset.name, "revision"].state
    other = load_presets({"flux2-dev": {"revision": "a" * 40}, "mine": {"extends": "flux2-dev", "repository": "me/m"}})
    assert other["flux2-dev"].revision_seen == other["mine"].revision_seen == "named by the configuration"
    assert other["flux2-dev"].settings == REAL["flux2-dev"].settings


def test_every_published_preset_has_an_estimate_of_its_time() -> None:
    for preset in REAL.values():
        known = preflight.estimated(preset, H100)
        assert known is not None
        assert 0.1 < known[0] < 60
        assert "estimate" in known[1]
    by_hand = {
        # steps × TFLOP a forward × forwards a step / (989 · 0.5)
        "flux2-dev": 50 * 282.6 / 494.5,
        "z-image-turbo": 8 * 62.5 / 494.5,
        "sana-1.5-1.6b": 20 * 2.967 * 2 / 494.5,
    }
    for name, seconds in by_hand.items():
        known = preflight.estimated(REAL[name], H100)
        assert known is not None
        assert known[0] == pytest.approx(seconds, abs=0.03)
    mini = built_in_presets()["mini-sana"]
    assert preflight.estimated(mini, H100) is None


def sdg(home: Path, *arguments: str) -> int:
    return cli.run(["--home", str(home), *arguments])


def test_a_dry_run_ends_as_the_run_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red circle\n", encoding="utf-8")
    assert sdg(tmp_path / "home", "prompts", "import", str(prompts), "--source", "x") == 0
    here = around()
    monkeypatch.setattr(Surroundings, "here", classmethod(lambda cls, device, online: here))
    monkeypatch.setattr("generators.prompt_limits.load_limit", lambda *_, **__: None)
    capsys.readouterr()
    plan = ("generate", "run", "--dry-run", "--json", "--models")
    assert sdg(tmp_path / "home", *plan, "z-image-turbo,mini-sana") == ExitCode.OK
    values = json.loads(capsys.readouterr().out)
    assert values["plan"][0]["seconds"] == pytest.approx(1.03, abs=0.05)
    assert {finding["ok"] for finding in values["findings"]} == {True}
    assert sdg(tmp_path / "home", *plan, "flux2-dev,mini-sana") == ExitCode.PARTIAL
    assert sdg(tmp_path / "home", *plan, "flux2-dev") == ExitCode.GENERATION
    assert "flux2-dev" in capsys.readouterr().err
