"""The GPU proof is alive: it runs where there is no GPU, says so, and a check that fails is a line and not the end."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
ALL = "sana,z-image,longcat,flux2-step,attention,boxflow,detector,sft-lora,sft-full,grpo-update"


@pytest.fixture
def proof(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return importlib.import_module("gpu_proof.__main__")


def test_it_runs_without_a_gpu_and_says_so(proof: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(sizes: object) -> dict[str, object]:
        raise RuntimeError("CUDA error:\n out of memory | at once")

    monkeypatch.setitem(proof.CHECKS, "broken", broken)
    result = proof.prove(["broken", "flux2-step"], 3600.0)
    assert result["gpu"] is None
    assert result["checks"]["broken"]["error"] == "RuntimeError: CUDA error: out of memory | at once"
    assert result["checks"]["flux2-step"]["ok"]
    lines = proof.table(result).splitlines()
    assert lines[0].startswith("No GPU (tiny models of the tests")
    assert [line.split(" | ")[:2] for line in lines[4:]] == [["| broken", "**no**"], ["| flux2-step", "yes"]]
    assert all(line.count("|") == 6 for line in lines[2:])


def test_what_there_is_no_time_for_is_named(proof: ModuleType) -> None:
    result = proof.prove(["flux2-step"], -1.0)
    assert result["checks"] == {"flux2-step": {"ok": None, "skipped": "over -1 s"}}
    assert "| flux2-step | not run |" in proof.table(result)


@pytest.mark.slow
def test_every_check_runs_at_its_smallest_sizes(tmp_path: Path) -> None:
    out = tmp_path / "proof.json"
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    line = [sys.executable, "benchmarks/gpu_proof", "--out", str(out)]
    done = subprocess.run(line, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    checks = json.loads(out.read_text())["checks"]
    assert list(checks) == ALL.split(",")
    assert all(figures["ok"] for figures in checks.values())
    assert checks["boxflow"]["ratio_off_first"] == 0.0
    assert checks["z-image"]["batches"]["2"]["same_alone"]
