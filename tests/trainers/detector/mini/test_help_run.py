"""The toy detector's help and Muon in real trainings: killed and resumed, and nothing of the heads in the model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.detector.runs import curve, finished, killed_at
from trainers.detector.mini.cli import WEIGHTS

pytestmark = pytest.mark.slow

STEPS = 8


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini-corpus")
    home, log = ["--home", str(folder / "home")], folder / "log"
    finished([*home, "train", "mini-detector", "corpus", "--rendered", "40"], log=log)
    finished([*home, "enrich", "run", "--unreviewed"], log=log)
    output = ["--name", "mini", "--output", str(folder / "shards"), "--no-phash"]
    finished([*home, "export", "run", "--unreviewed", *output], log=log)
    return folder / "shards"


def command(shards: Path, out: Path, *more: str) -> list[str]:
    settings = {
        "optimizer.batch_size": 8, "optimizer.micro_batch": 8, "optimizer.muon.learning_rate": 1e-3,
        "mini.variants": 3, "saving.log_every": 1, "saving.save_every": 2, "saving.report": "none", "data.held_out": 0,
    }  # fmt: skip
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return [
        "train", "detector", "sft", "--recipe", "mini", "--data", str(shards), "--model", str(WEIGHTS),
        "--out", str(out), "--max-steps", str(STEPS), *changes, *more,
    ]  # fmt: skip


def test_a_killed_training_with_muon_and_heads_ends_as_an_unbroken_one(shards: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished(command(shards, whole), log=tmp_path / "whole.log")
    killed_at(command(shards, broken), 5, broken, log=tmp_path / "broken.log")
    finished(command(shards, broken), log=tmp_path / "broken.log")
    assert curve(broken) == pytest.approx(curve(whole), rel=1e-5)
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (broken, whole))
    assert ours.keys() == theirs.keys() == load_file(WEIGHTS / "model.safetensors").keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)
    kept = load_file(whole / "checkpoints" / f"checkpoint-{STEPS}" / "model.safetensors")
    assert any(name.startswith("mini_heads.") for name in kept)


def test_micro_batches_add_up_to_the_batch(shards: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    few = ("--set", "optimizer.max_steps=3")
    finished(command(shards, whole, *few), log=tmp_path / "log")
    finished(command(shards, parts, *few, "--set", "optimizer.micro_batch=4"), log=tmp_path / "log")
    # a head's mean over the patches that show a shape is another one in each half
    assert curve(parts) == pytest.approx(curve(whole), rel=0.05)


def test_without_weight_there_are_no_heads(shards: Path, tmp_path: Path) -> None:
    """The answers' loss is the one beside heads that weigh next to nothing; checkpoints hold nothing of heads."""
    few, last = ("--set", "optimizer.max_steps=2"), "checkpoints/checkpoint-2/model.safetensors"
    for name, weight in (("none", "0"), ("light", "1e-30")):
        finished(command(shards, tmp_path / name, *few, "--set", f"mini.heads={weight}"), log=tmp_path / "log")
    assert curve(tmp_path / "none") == pytest.approx(curve(tmp_path / "light"), rel=1e-6)
    none, light = (load_file(tmp_path / name / last) for name in ("none", "light"))
    assert none.keys() == load_file(WEIGHTS / "model.safetensors").keys()
    assert {name.partition(".")[0] for name in light.keys() - none.keys()} == {"mini_heads"}
