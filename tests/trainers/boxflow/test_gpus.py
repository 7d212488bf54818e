"""Which GPU does what, by hand for eight."""

import pytest

from trainers.boxflow.config import changed
from trainers.boxflow.gpus import gpu_plan
from trainers.boxflow.recipes import RECIPES

JUDGE, DETECTOR = {"judge a": "http://127.0.0.1:8000/v1"}, {"detector b": "http://localhost:9090/v1"}


@pytest.mark.parametrize(
    ("addresses", "gpus", "training", "servers", "idle"),
    [
        (JUDGE | DETECTOR, 8, "0,1,2,3,4,5", ["6", "7"], []),  # 768 images, 8 a process: 6 divides 96
        (JUDGE, 8, "0,1,2,3,4,5", ["7"], ["6"]),  # 7 does not
        ({}, 8, "0,1,2,3,4,5,6,7", [], []),
        ({"judge a": "http://gpu9:8000/v1", "guard c": "https://api.openai.com/v1"}, 4, "0,1,2,3", [], []),
        ({"judge a": "http://[::1]:8000/v1", "guard a": "http://[::1]:8000/v1"}, 2, "0", ["1"], []),
        (JUDGE | DETECTOR, 2, "", ["0", "1"], []),
    ],
)
def test_plan(addresses: dict[str, str], gpus: int, training: str, servers: list[str], idle: list[str]) -> None:
    config = changed(RECIPES["flux1-dev"](), {"rollout.batch_size": 4, "optimizer.minibatches": 2})
    assert config.total == 768
    first, *others = gpu_plan(config, addresses, gpus)
    assert (first["gpus"], first["processes"]) == (training, len(training.split(",")) if training else 0)
    if first["processes"]:
        config.check_processes(first["processes"])
    assert [row["gpus"] for row in others if not row["use"].startswith("idle")] == servers
    assert [row["gpus"] for row in others if row["use"].startswith("idle")] == idle
