"""`sdg train detector`: what it says before it trains, and how it fails."""

import json
from pathlib import Path

import pytest

from sdg_data.cli import run


def test_a_dry_run_says_what_would_be_trained(
    detector_shards: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "detector", "sft", "--data", str(detector_shards), "--model", str(tiny), "--out", "nowhere"]
    asked += ["--set", "optimizer.batch_size=8", "--set", "optimizer.micro_batch=8"]
    assert run([*asked, "--dry-run", "--json", "--no-trace", "--jitter", "3"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (
        plan["config"]["data"]["jitter"],
        plan["config"]["data"]["trace"],
        plan["config"]["optimizer"]["batch_size"],
    ) == (3, False, 8)
    assert plan["steps"] == plan["data"]["train"] // 8 * plan["config"]["optimizer"]["epochs"], (
        "epochs of whole batches"
    )
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (["--recipe", "huge"], 3, "there is no recipe 'huge'"),
        (["--set", "batch_size"], 3, "--set wants KEY=VALUE"),
        (["--set", "batchsize=3"], 3, "batchsize"),
        (["--report", "wandb"], 3, "wandb is not installed"),
        (["--data", "/nowhere"], 4, "no manifest.json"),
        (["--model", "/nowhere"], 8, "cannot read its config"),
    ],
)
def test_what_is_wrong_is_said(
    detector_shards: Path, tiny: Path, capsys: pytest.CaptureFixture[str], change: list[str], code: int, words: str
) -> None:
    for kind in ("sft", "grpo"):
        asked = ["train", "detector", kind, "--data", str(detector_shards), "--model", str(tiny), "--out", "nowhere"]
        assert run([*asked, "--dry-run", *change]) == code
        assert words in capsys.readouterr().err


def test_too_little_data(detector_shards: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["train", "detector", "sft", "--data", str(detector_shards), "--model", str(tiny), "--out", str(tmp_path)]
    assert run([*asked, "--limit", "6", "--no-trace"]) == 4
    assert "do not fill a batch of 16" in capsys.readouterr().err
