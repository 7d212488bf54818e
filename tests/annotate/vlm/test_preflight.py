"""What is found before a vision-language model is loaded or asked."""

from pathlib import Path

import pytest

from annotate.vlm import preflight
from sdg_data.errors import ExitCode
from sdg_data.preflight import hub, machine
from sdg_data.preflight.findings import Finding, faults
from sdg_data.preflight.machine import Gpu
from sdg_data.settings import VlmSettings


@pytest.fixture(autouse=True)
def a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "check_hub", lambda subject, *_: Finding(subject, "hub", "there"))
    monkeypatch.setattr(hub, "is_cached", lambda *_: False)
    monkeypatch.setattr(machine, "free_bytes", lambda path: 10**12)
    monkeypatch.setattr(preflight, "check_extra", lambda extra, subject: Finding(subject, "packages", extra))


def found(**values: object) -> dict[str, Finding]:
    return {finding.what: finding for finding in preflight.examine("prelabel", VlmSettings.model_validate(values))}


def test_a_detector_of_the_hub_is_held_against_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    qwen = "Qwen/Qwen3-VL-4B-Instruct"
    for gpu, ok in ((Gpu("NVIDIA H100", 79), True), (Gpu("NVIDIA L4", 22), True), (Gpu("GTX 1080", 8), False)):
        monkeypatch.setattr(machine, "gpus", lambda gpu=gpu: [gpu])
        memory = found(backend="transformers", model=qwen)["GPU memory"]
        assert memory.ok is ok
        assert memory.state.startswith("8.3 GiB")
    monkeypatch.setattr(machine, "gpus", list)
    assert found(backend="transformers", model=qwen)["GPU memory"].ok is None
    assert found(backend="transformers", model=qwen)["revision"].ok is None
    assert found(backend="transformers", model=qwen, revision="e" * 40)["revision"].ok is True


def test_what_is_configured_wrongly_is_code_3(tmp_path: Path) -> None:
    for values in ({"backend": "oracle"}, {"backend": "openai"}, {"backend": "transformers"}):
        (wrong,) = faults(list(found(**values).values()))
        assert wrong.code == ExitCode.CONFIG
    assert found(backend="transformers", model=str(tmp_path))["model"].ok is False
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert found(backend="transformers", model=str(tmp_path))["model"].ok is True


def test_models_that_ship_with_the_package_need_nothing() -> None:
    assert not faults(list(found(backend="mini").values()))
    assert not faults(list(found(backend="template").values()))
