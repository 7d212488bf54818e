"""Fine-tuning for real, in processes of its own: killed and resumed, alone and together, everything and adapters."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from annotate.vlm.local import LocalBackend
from sdg_data.prompt_templates import DETECT_SHORT, load_template
from sdg_data.settings import VlmSettings
from tests.trainers.detector.runs import curve, entries, finished, killed_at

pytestmark = pytest.mark.slow

STEPS = 12


def command(shards: Path, model: Path, out: Path, *more: str) -> list[str]:
    settings = {
        "optimizer.batch_size": 8, "optimizer.micro_batch": 8, "saving.log_every": 1, "saving.save_every": 3,
        "saving.report": "none", "evaluation.eval_every": 6, "evaluation.eval_max_tokens": 8, "evaluation.pictures": 2,
        "data.held_out": 0.15, "data.workers": 0,
    }  # fmt: skip
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return [
        "train", "detector", "sft", "--recipe", "mini", "--data", str(shards), "--model", str(model), "--out", str(out),
        "--max-steps", str(STEPS), *changes, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(detector_shards: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft") / "unbroken"
    finished(command(detector_shards, tiny, folder), log=folder.with_suffix(".log"))
    return folder


def test_a_run_leaves_a_detector_that_prelabelling_loads(unbroken: Path) -> None:
    losses = curve(unbroken)
    assert sorted(losses) == list(range(1, STEPS + 1))
    assert losses[STEPS] < losses[1]
    assert [entry["step"] for entry in entries(unbroken) if "eval_score" in entry] == [6, 12]
    assert sorted(path.name for path in (unbroken / "samples").iterdir()) == ["step-000006.png", "step-000012.png"]
    backend = LocalBackend(VlmSettings(backend="transformers", model=str(unbroken / "model"), device="cpu"))
    assert backend.identity.template == load_template(DETECT_SHORT).id
    backend.load()
    evaluation = json.loads((unbroken / "evaluation.json").read_text())
    assert evaluation["intervals"]["resamples"] == 1000
    run = json.loads((unbroken / "run.json").read_text())
    assert run["data"]["dropped"]["no-trace"] > 0
    assert run["parameters"]["trained"] == run["parameters"]["all"]


def test_killed_at_a_random_step_and_resumed_is_unbroken(
    unbroken: Path, detector_shards: Path, tiny: Path, tmp_path: Path
) -> None:
    """Twice, at steps drawn anew each time: the same losses, the same weights."""
    asked = command(detector_shards, tiny, tmp_path / "run")
    rng = random.Random()
    for latest in (STEPS // 2, STEPS - 1):
        reached = max(curve(tmp_path / "run"), default=0) if (tmp_path / "run").is_dir() else 0
        # the first kill comes some steps late on a slow machine: there may be nothing left to draw from
        killed_at(asked, rng.randint(min(reached + 1, latest), latest), tmp_path / "run", log=tmp_path / "log")
    finished(asked, log=tmp_path / "log")
    assert curve(tmp_path / "run") == pytest.approx(curve(unbroken), rel=1e-5)
    assert curve(tmp_path / "run", "learning_rate") == curve(unbroken, "learning_rate")
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (tmp_path / "run", unbroken))
    for name, weights in theirs.items():
        assert torch.allclose(ours[name], weights, atol=1e-5), name
    before = (tmp_path / "log").stat().st_size
    finished(asked, log=tmp_path / "log")
    assert b"has ended already" in (tmp_path / "log").read_bytes()[before:]


def test_two_processes_learn_what_one_learns(unbroken: Path, detector_shards: Path, tiny: Path, tmp_path: Path) -> None:
    """gloo; each holds half of every batch."""
    asked = command(detector_shards, tiny, tmp_path / "run", "--set", "optimizer.micro_batch=4")
    finished(asked, processes=2, log=tmp_path / "log")
    assert curve(tmp_path / "run") == pytest.approx(curve(unbroken), rel=1e-3)
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (tmp_path / "run", unbroken))
    for name, weights in theirs.items():
        assert torch.allclose(ours[name], weights, atol=2e-3), name
    scores = [[entry for entry in entries(folder) if "eval_score" in entry] for folder in (tmp_path / "run", unbroken)]
    assert [score["step"] for score in scores[0]] == [score["step"] for score in scores[1]]


def test_micro_batches_with_checkpointed_activations_add_up_to_the_batch(
    unbroken: Path, detector_shards: Path, tiny: Path, tmp_path: Path
) -> None:
    more = ("--set", "optimizer.micro_batch=2", "--set", "model.checkpointing=true")
    finished(command(detector_shards, tiny, tmp_path / "run", *more), log=tmp_path / "log")
    assert curve(tmp_path / "run") == pytest.approx(curve(unbroken), rel=1e-3)


def test_an_adapter_leaves_the_base_and_a_frozen_tower_stays(detector_shards: Path, tiny: Path, tmp_path: Path) -> None:
    finished(command(detector_shards, tiny, tmp_path / "lora", "--lora", "4"), log=tmp_path / "lora.log")
    adapter = load_file(tmp_path / "lora" / "model" / "adapter_model.safetensors")
    assert any("language_model" in name for name in adapter)
    assert any(weights.abs().max() > 0 for name, weights in adapter.items() if "lora_B" in name)
    finished(command(detector_shards, tiny, tmp_path / "frozen", "--freeze-vision"), log=tmp_path / "frozen.log")
    before, after = (
        load_file(tiny / "model.safetensors"),
        load_file(tmp_path / "frozen" / "model" / "model.safetensors"),
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("visual" in name for name in moved)
    assert any("visual" in name for name in before)
