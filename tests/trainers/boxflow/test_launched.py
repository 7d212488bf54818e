"""BoxFlow by configs/accelerate/fsdp2.yaml, two processes on gloo, beside the same in one: what it leaves behind loads.

`test_two_processes` compares more, with shards that are made by hand.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdg_data.mini.world import sample_prompts
from tests.trainers.launched import finished, killed_at

pytestmark = pytest.mark.slow

SETTINGS = {
    "rollout.prompts": 2, "rollout.samples": 4, "rollout.batch_size": 2, "rollout.steps": 3, "rollout.window": "[0,2]",
    "rollout.sde_steps": 2, "rollout.train_steps": 1, "saving.report": "none", "saving.save_every": 1,
    "monitoring.sample_every": 0, "monitoring.artifact_guard": "null", "policy.checkpointing": "true",
}  # fmt: skip


def command(home: Path, out: Path, *more: str) -> list[str]:
    prompts = home / "prompts.txt"
    prompts.write_text("\n".join(sample_prompts(4, seed=4)), encoding="utf-8")
    changes = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    return [
        *("--home", str(home), "train", "boxflow", "--prompts", str(prompts), "--rollouts", "3"),
        *("--detector", "oracle", "--out", str(out), *changes, *more),
    ]


def entries(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("adapter", ["null", '{"rank": 4, "alpha": 8}'], ids=["all-weights", "adapter"])
def test_what_the_launcher_shards_is_learned_and_saved_as_by_one_process(adapter: str, tmp_path: Path) -> None:
    more = ("--set", f"policy.lora={adapter}")
    arguments = {file: command(tmp_path, tmp_path / name, *more) for file, name in ((None, "one"), ("fsdp2", "two"))}
    finished(arguments[None], None, tmp_path / "one.log")
    killed_at(arguments["fsdp2"], "fsdp2", 2, tmp_path / "two", tmp_path / "two.log", counter="rollout")
    finished(arguments["fsdp2"], "fsdp2", tmp_path / "two.log")
    one, two = (entries(tmp_path / name) for name in ("one", "two"))
    for number, tolerance in enumerate((1e-9, 1e-3, 1e-3)):  # the first rollout's images are the same to the bit
        for name in ("reward", "reward_std"):
            assert two[number][name] == pytest.approx(one[number][name], rel=tolerance)
        assert two[number]["grad_norm"] == pytest.approx(one[number]["grad_norm"], rel=5e-3)
    kept = "model/transformer/diffusion_pytorch_model" if adapter == "null" else "lora/pytorch_lora_weights"
    expected, found = (load_file(tmp_path / name / f"{kept}.safetensors") for name in ("one", "two"))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=2e-6)
