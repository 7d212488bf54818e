"""`sdg train boxflow` as it is called: what it refuses, what it plans, and the mini from start to an exported LoRA."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sdg_data.cli import run
from sdg_data.errors import ExitCode
from sdg_data.mini.world import sample_prompts
from tests.trainers.boxflow.support import tiny_config
from trainers.boxflow.config import BoxFlowConfig, identity
from trainers.boxflow.recipes import RECIPES
from trainers.common.config import read_config


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    texts = sample_prompts(12, seed=4)
    path.write_text("\n".join([*texts, "", f"  {texts[0]}  "]))
    return path


def test_a_plan(prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held_out = tmp_path / "held.txt"
    held_out.write_text(prompts.read_text().splitlines()[0] + "\na small blue square\n")
    command = ["train", "boxflow", "--dry-run", "--json", "--prompts", str(prompts), "--held-out", str(held_out)]
    command += ["--advantage", "scalar-boxes", "--cell-rule", "floor", "--lora", "8", "--rollouts", "3"]
    command += [
        "--set",
        'policy.lora.targets=["to_q"]',
        "--set",
        "rewards.detector.vlm.max_tokens=99",
        "--detector",
        "oracle",
    ]
    code = run(command)
    assert code == ExitCode.OK
    plan = json.loads(capsys.readouterr().out)
    # once each, and what is trained on is not looked at
    assert (plan["prompts"], plan["held_out"]) == (12, 1)
    config = plan["config"]
    assert plan["images"] == 3 * config["rollout"]["prompts"] * config["rollout"]["samples"]
    assert config["policy"]["lora"] == {"rank": 8, "alpha": 16, "targets": ["to_q"]}
    assert (config["credit"]["advantage"], config["credit"]["cell_rule"]) == ("scalar-boxes", "floor")
    assert config["rewards"]["detector"]["kind"] == "oracle"
    assert config["rewards"]["detector"]["vlm"]["max_tokens"] == 99


def test_a_plan_by_forward(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "boxflow", "--dry-run", "--prompts", str(prompts)]
    assert run([*command, "--estimator", "forward"]) == ExitCode.OK
    assert "mini-flux2 by box, forward: 12 prompts" in capsys.readouterr().err
    assert run([*command, "--estimator", "forward", "--json", "--set", "forward.draws=3"]) == ExitCode.OK
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["estimator"], config["forward"]["draws"], config["rollout"]["shared_noise"]) == ("forward", 3, False)


@pytest.mark.parametrize(
    ("recipe", "unguided"), [("flux1-dev-forward", 1.0), ("sd35-medium-forward", 1.0), ("z-image-turbo-forward", 0.0)]
)
def test_recipes_by_forward_sample_without_guidance_and_are_their_own(recipe: str, unguided: float) -> None:
    config = RECIPES[recipe]()
    assert (config.recipe, config.estimator, config.policy.guidance) == (recipe, "forward", unguided)
    assert config.credit == RECIPES[recipe.removesuffix("-forward")]().credit
    window = config.forward.level_window
    assert window is not None
    assert config.forward.draws <= window[1] - window[0]  # no level comes twice
    config.check_processes(8)


def test_a_training_from_before_there_were_estimators_keeps_its_name() -> None:
    note = json.loads((Path(__file__).parents[1] / "common" / "run_folders" / "boxflow_run_flat.json").read_text())
    assert identity(read_config(BoxFlowConfig, note["config"])).keys() == note["config"].keys()
    assert "estimator" in identity(tiny_config(estimator="forward"))
    assert identity(tiny_config(draws=5)) == identity(tiny_config()) != identity(tiny_config(draws=4))


def test_flat_keys_are_taken_and_said_once_each(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "boxflow", "--dry-run", "--json", "--prompts", str(prompts)]
    assert run([*command, "--set", "samples=4", "--set", "samples=8", "--set", "clip=0.5"]) == ExitCode.OK
    shown = capsys.readouterr()
    config = json.loads(shown.out)["config"]
    assert (config["rollout"]["samples"], config["loss"]["clip"]) == (8, 0.5)
    assert [line for line in shown.err.splitlines() if " is now " in line] == [
        "the key 'samples' is now 'rollout.samples'; the old one goes in 0.3",
        "the key 'clip' is now 'loss.clip'; the old one goes in 0.3",
    ]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--recipe", "paper"], ExitCode.CONFIG, "there is no recipe 'paper'"),
        (["--advantage", "spatial"], ExitCode.CONFIG, "advantage"),
        (["--set", "loss.clip"], ExitCode.CONFIG, "KEY=VALUE"),
        (["--set", "loss.clipp=1"], ExitCode.CONFIG, "clipp"),
        (["--set", "rewards.base=[]", "--out", "x"], ExitCode.CONFIG, "no base reward"),
        (["--model", "mini-nothing", "--out", "x"], ExitCode.CONFIG, "mini-nothing"),
        ([], ExitCode.CONFIG, "--out is missing"),
    ],
)
def test_what_is_refused(
    more: list[str],
    code: ExitCode,
    said: str,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # --out x leaves a lock there
    assert run(["train", "boxflow", "--prompts", str(prompts), *more]) == code
    assert said in capsys.readouterr().err


def test_no_prompts_and_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--home", str(tmp_path), "train", "boxflow", "--out", str(tmp_path / "x")]) == ExitCode.INPUT
    assert "no prompts" in capsys.readouterr().err
    assert run(["train", "boxflow", "export", str(tmp_path), "--out", str(tmp_path / "out")]) == ExitCode.INPUT
    assert "holds no training" in capsys.readouterr().err


@pytest.mark.slow
def test_the_mini_from_prompts_to_an_exported_adapter(
    prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffusers import DiffusionPipeline

    from sdg_data.mini.weights import weights_folder

    command = ["--home", str(tmp_path / "home"), "train", "boxflow", "--out", str(tmp_path / "run"), "--json"]
    command += ["--prompts", str(prompts), "--detector", "oracle", "--lora", "4", "--rollouts", "1"]
    command += ["--audit-share", "0.3"]
    for change in ("prompts=2", "samples=4", "batch_size=4", "steps=4", "window=[0,3]", "sde_steps=2", "train_steps=1"):
        command += ["--set", f"rollout.{change}"]
    assert run(command) == ExitCode.OK
    figures = json.loads(capsys.readouterr().out)
    assert figures["ratio_off_first"] == 0
    assert figures["kept"] == 1
    assert run(["train", "boxflow", "export", str(tmp_path / "run"), "--out", str(tmp_path / "lora"), "--raw"]) == 0
    assert run(["--home", str(tmp_path / "home"), "images", "list"]) == 0
    assert "mini-flux2+boxflow" in capsys.readouterr().out

    pipeline = DiffusionPipeline.from_pretrained(weights_folder("mini-flux2"), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def image() -> np.ndarray:
        made: np.ndarray = pipeline(
            prompt="a large red circle",
            height=64,
            width=64,
            num_inference_steps=4,
            guidance_scale=2.0,
            max_sequence_length=26,
            text_encoder_out_layers=(1, 2, 3),
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images
        return made

    before = image()
    pipeline.load_lora_weights(tmp_path / "lora")
    after = image()
    assert 0 < np.abs(after - before).max() < 0.5
