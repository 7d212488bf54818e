"""Training a doctor for real, in processes of its own: both stages, killed and resumed, adapters, rewards."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.detector.runs import curve, finished, killed_at
from trainers.doctor.loading import load_to_ask

pytestmark = pytest.mark.slow

STEPS = 8


def command(kind: str, recipe: str, shards: Path, model: Path, out: Path, *more: str) -> list[str]:
    settings = {
        "optimizer.batch_size": 8, "optimizer.micro_batch": 8, "saving.log_every": 1, "saving.save_every": 2,
        "saving.report": "none", "evaluation.eval_every": 4, "evaluation.eval_max_tokens": 8, "evaluation.pictures": 2,
        "data.held_out": 0.2, "data.workers": 0, "form.think": "false",
    }  # fmt: skip
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return [
        "train", "doctor", kind, "--recipe", recipe, "--data", str(shards), "--model", str(model), "--out", str(out),
        "--max-steps", str(STEPS), *changes, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(judged_shards: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage 2 from a plain Qwen3-VL."""
    folder = tmp_path_factory.mktemp("doctor-sft") / "unbroken"
    finished(command("sft", "mini-stage2", judged_shards, tiny, folder), log=folder.with_suffix(".log"))
    return folder


def test_a_run_leaves_a_doctor(unbroken: Path) -> None:
    losses = curve(unbroken)
    assert sorted(losses) == list(range(1, STEPS + 1))
    assert losses[STEPS] < losses[1]
    heat = curve(unbroken, "heatmap_mse")
    assert heat[STEPS] < heat[1]
    assert (unbroken / "samples" / "step-000004.png").is_file()
    figures = json.loads((unbroken / "evaluation.json").read_text())["figures"]
    assert figures["form_rate"] == 0.0, "8 tokens are no answer"
    model, chat = load_to_ask(str(unbroken / "model"), device="cpu")
    assert model.config.heatmap_weight == 20.0
    assert (chat.form.look, chat.form.think, chat.trace) == (True, False, False)


def test_killed_at_a_random_step_and_resumed_is_unbroken(
    unbroken: Path, judged_shards: Path, tiny: Path, tmp_path: Path
) -> None:
    asked = command("sft", "mini-stage2", judged_shards, tiny, tmp_path / "run")
    killed_at(asked, random.Random().randint(1, STEPS - 2), tmp_path / "run", log=tmp_path / "log")
    finished(asked, log=tmp_path / "log")
    assert curve(tmp_path / "run") == pytest.approx(curve(unbroken), rel=1e-5)
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (tmp_path / "run", unbroken))
    for name, weights in theirs.items():
        assert torch.allclose(ours[name], weights, atol=1e-5), name


def test_micro_batches_add_up_to_the_batch(unbroken: Path, judged_shards: Path, tiny: Path, tmp_path: Path) -> None:
    """The maps' loss too is a mean over the whole batch, however it is divided."""
    more = ("--set", "optimizer.micro_batch=2")
    finished(command("sft", "mini-stage2", judged_shards, tiny, tmp_path / "run", *more), log=tmp_path / "log")
    assert curve(tmp_path / "run") == pytest.approx(curve(unbroken), rel=1e-3)
    assert curve(tmp_path / "run", "heatmap_mse") == pytest.approx(curve(unbroken, "heatmap_mse"), rel=1e-3)


def test_stage_one_leaves_the_decoder_as_it_is(judged_shards: Path, tiny_doctor: Path, tmp_path: Path) -> None:
    finished(command("sft", "mini-stage1", judged_shards, tiny_doctor, tmp_path / "run"), log=tmp_path / "log")
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_doctor, tmp_path / "run" / "model"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("language_model" in name for name in moved)
    assert not any(name.startswith("heatmap.") for name in moved)


def test_an_adapter_trains_the_decoder_beside_it(judged_shards: Path, tiny_doctor: Path, tmp_path: Path) -> None:
    finished(
        command("sft", "mini-stage2", judged_shards, tiny_doctor, tmp_path / "run", "--lora", "4"), log=tmp_path / "log"
    )
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_doctor, tmp_path / "run" / "model"))
    assert before.keys() == after.keys(), "what is left behind is a whole doctor"
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("heatmap.") for name in moved)
    assert any("q_proj" in name for name in moved)
    assert not any("layernorm" in name for name in moved if "language_model" in name)


@pytest.mark.parametrize("protocol", ["paper", "code"])
def test_rewards_train_the_text_alone(judged_shards: Path, tiny_doctor: Path, tmp_path: Path, protocol: str) -> None:
    more = ["--protocol", protocol, "--set", "answers.max_new_tokens=8", "--set", "answers.group=4"]
    finished(command("grpo", "mini-rft", judged_shards, tiny_doctor, tmp_path / "run", *more), log=tmp_path / "log")
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any("reward_heat/artifact" in entry for entry in entries)
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_doctor, tmp_path / "run" / "model"))
    assert not any(name.startswith("heatmap.") for name in before if not torch.equal(before[name], after[name]))
