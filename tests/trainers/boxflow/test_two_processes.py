"""Two processes on gloo do what one does on the same images, with groups split between them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.boxflow.support import pipeline_of

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("two_processes.py")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline_of("FluxPipeline").save_pretrained(folder)
    return folder


def run(folder: Path, processes: int, pipeline: Path, kind: str = "plain") -> list[subprocess.CompletedProcess[str]]:
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "ACCELERATE_USE_CPU": "true",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(processes),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
        }
        command = [sys.executable, str(SCRIPT), str(folder), kind, str(pipeline)]
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    done = []
    for process in started:
        out, errors = process.communicate(timeout=1800)
        done.append(subprocess.CompletedProcess(process.args, process.returncode, out, errors))
    return done


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["plain", "sharded", "forward", "sharded-forward"])
def test_the_same_update(kind: str, tmp_path: Path, pipeline: Path) -> None:
    """With weights that each process has whole (DDP), and with sharded ones (FSDP2's own function)."""
    alone = "forward" if "forward" in kind else "plain"
    for name, processes in (("one", 1), ("two", 2)):
        for done in run(tmp_path / name, processes, pipeline, kind if processes == 2 else alone):
            assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / name / "weights.pt") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=2e-6)
    for first, second in zip(entries(tmp_path / "one"), entries(tmp_path / "two"), strict=True):
        # the first rollout's images are the same to the bit
        tolerance = 1e-9 if first["rollout"] == 1 else 1e-4
        for name in ("reward", "reward_std", "advantage/size", "burden/artifact"):
            assert second[name] == pytest.approx(first[name], rel=tolerance)
        for name in ("grad_norm", "kl", "moved" if "forward" in kind else "ratio_off"):
            assert second[name] == pytest.approx(first[name], rel=5e-3, abs=1e-7)


def test_all_processes_stop_together_where_answers_are_missing(tmp_path: Path, pipeline: Path) -> None:
    for done in run(tmp_path / "failing", 2, pipeline, "failing"):
        assert done.returncode != 0
        assert "the detector gave no answer for 8 of 8 images" in done.stderr
