"""`accelerate launch` on two machines, as docs/cluster.md has it: network namespaces of this one, gloo between them.

Each training at toy size, beside the same one in one process. It takes minutes, and needs root.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdg_data.mini.world import sample_prompts
from tests.sdg_data.workers.namespaces import Network, possible, until
from tests.trainers.detector.runs import curve
from tests.trainers.detector.test_grpo import command as grpo
from tests.trainers.detector.test_sft import command as sft

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not possible(), reason="needs root and network namespaces")]

PORT = 29500


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("machines"), (1, 2)) as network:
        yield network


def launched(network: Network, machines: int, arguments: list[str], name: str) -> None:
    """Run `sdg` by the launcher on so many machines, a process on each."""
    launch = [
        *(str(Path(sys.executable).with_name("accelerate")), "launch"),
        *("--config_file", "configs/accelerate/ddp.yaml", "--mixed_precision", "no"),
        *("--num_machines", str(machines), "--num_processes", str(machines)),
        *("--main_process_ip", network.address(1), "--main_process_port", str(PORT)),
    ]
    started = []
    for rank in range(machines):
        log = network.folder / f"{name}-{rank}.log"
        with log.open("wb") as output:
            command = [*launch, "--machine_rank", str(rank), "-m", "sdg_data.cli", *arguments]
            environment = {"GLOO_SOCKET_IFNAME": network.interface(rank + 1), "CUDA_VISIBLE_DEVICES": ""}
            started.append((network.run(rank + 1, command, environment, stdout=output, stderr=output), log))
    for process, log in started:
        until(lambda: process.poll() is not None, f"the training ends ({log})", 1200.0)  # noqa: B023
        assert process.returncode == 0, log.read_text(encoding="utf-8")[-3000:]


def entries(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(run / "model" / "model.safetensors"))


def test_fine_tuning_learns_what_one_process_learns(
    network: Network, detector_shards: Path, tiny: Path, tmp_path: Path
) -> None:
    for machines in (1, 2):
        micro = ("--set", f"optimizer.micro_batch={8 // machines}")
        launched(network, machines, sft(detector_shards, tiny, tmp_path / str(machines), *micro), f"sft-{machines}")
    one, two = tmp_path / "1", tmp_path / "2"
    assert curve(two) == pytest.approx(curve(one), rel=1e-3)
    expected = weights(one)
    for name, value in weights(two).items():
        assert torch.allclose(value, expected[name], atol=2e-3), name


def test_grpo_goes_its_steps(network: Network, detector_shards: Path, tiny: Path, tmp_path: Path) -> None:
    """What is sampled depends on the number of processes; that a group is not split over machines does not show."""
    run = tmp_path / "run"
    launched(network, 2, grpo(detector_shards, tiny, run, "--set", "optimizer.micro_batch=4"), "grpo")
    assert sorted(curve(run, "num_tokens")) == list(range(1, 7))
    before = load_file(tiny / "model.safetensors")
    after = weights(run)
    assert all(value.isfinite().all() for value in after.values())
    assert after.keys() <= before.keys()


def test_boxflow_samples_and_learns_what_one_process_does(network: Network, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(sample_prompts(4, seed=4)), encoding="utf-8")
    settings = {
        "rollout.prompts": 2, "rollout.samples": 4, "rollout.batch_size": 2, "rollout.steps": 3,
        "rollout.window": "[0,2]", "rollout.sde_steps": 2, "rollout.train_steps": 1, "saving.report": "none",
        "monitoring.sample_every": 0, "monitoring.artifact_guard": "null",
    }  # fmt: skip
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    for machines in (1, 2):
        arguments = [
            *("--home", str(tmp_path / "home"), "train", "boxflow", "--prompts", str(prompts), "--rollouts", "2"),
            *("--detector", "oracle", "--out", str(tmp_path / str(machines)), *changes),
        ]
        launched(network, machines, arguments, f"boxflow-{machines}")
    one, two = (entries(tmp_path / str(machines)) for machines in (1, 2))
    assert len(one) == len(two) == 2
    for name in ("reward", "reward_std"):
        assert two[0][name] == pytest.approx(
            one[0][name], rel=1e-9
        )  # the first rollout's images are the same to the bit
        assert two[1][name] == pytest.approx(one[1][name], rel=1e-3)
    assert two[0]["grad_norm"] == pytest.approx(one[0]["grad_norm"], rel=5e-3)
