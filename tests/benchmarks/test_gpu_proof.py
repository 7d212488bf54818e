"""The GPU proof is alive: it runs where there is no GPU, says so, and a check that fails is a line and not the end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def proved(out: Path, checks: str, *more: str) -> tuple[int, dict[str, object], str]:
    """(exit code, the JSON, what was printed) of a run without a GPU."""
    line = [sys.executable, "benchmarks/gpu_proof", "--only", checks, "--out", str(out), *more]
    environ = {"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(line, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert out.exists(), done.stderr[-3000:]
    return done.returncode, json.loads(out.read_text()), done.stdout


@pytest.mark.parametrize(
    "checks",
    [
        "flux2-step",
        pytest.param(
            "sana,z-image,longcat,attention,boxflow,detector,sft-lora,sft-full,grpo-update", marks=pytest.mark.slow
        ),
    ],
)
def test_it_runs_without_a_gpu_and_says_so(checks: str, tmp_path: Path) -> None:
    code, result, printed = proved(tmp_path / "proof.json", checks)
    names = checks.split(",")
    assert code == 0, result
    assert result["gpu"] is None
    measured = result["checks"]
    assert isinstance(measured, dict)
    assert list(measured) == names
    assert all(figures["ok"] for figures in measured.values())
    assert printed.startswith("No GPU (tiny models of the tests")
    assert [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")][1:] == names
    if "boxflow" in names:
        assert measured["boxflow"]["ratio_off_first"] == 0.0
        assert measured["z-image"]["batches"]["2"]["same_alone"]


def test_what_there_is_no_time_for_is_named(tmp_path: Path) -> None:
    code, result, printed = proved(tmp_path / "proof.json", "flux2-step", "--limit", "-1")
    assert (code, result["checks"]) == (0, {"flux2-step": {"ok": None, "skipped": "over -1 s"}})
    assert "| flux2-step | not run |" in printed
