"""The miniature's judge and its table: from images by hand, and from made-up numbers whose answer is known."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from generators.images import GeneratedImage
from generators.mini.corpus import HELD_OUT_COUNT, held_out_prompts
from generators.models.loading import load_pipeline
from generators.revisions import revision_of
from sdg_data.metrics.charts import nice_top
from sdg_data.mini.oracle import find_defects
from sdg_data.mini.render import render
from sdg_data.mini.world import BACKGROUNDS, parse_prompt
from trainers.boxflow.recipes import mini
from trainers.common.config import flat_json
from trainers.paper.boxflow.__main__ import main
from trainers.paper.boxflow.arms import (
    ARMS,
    BASE,
    SEEDS,
    TUNE_SEEDS,
    candidates,
    configuration,
    judged_prompts,
    training_prompts,
)
from trainers.paper.boxflow.judge import MEASURES, judge
from trainers.paper.boxflow.model import damaged_corpus, preset
from trainers.paper.boxflow.report import figure, markdown, mean_curves, summarise

PROMPT = "a large red circle on a grey background"


def image(change: np.ndarray | float = 0.0, prompt: str = PROMPT) -> GeneratedImage:
    pixels = render(parse_prompt(prompt), random.Random(1)).astype(np.float32)
    return GeneratedImage(np.clip(pixels + change, 0, 255).astype(np.uint8), prompt)


def measured(image: GeneratedImage) -> dict[str, float]:
    return judge([image]).mean()


def test_a_clean_image_has_no_burden_and_no_drift() -> None:
    values = measured(image())
    assert values["burden"] == 0
    assert values["right"] == 1
    assert values["drift"] < 0.05


def test_a_texture_under_the_oracle_s_threshold_is_drift() -> None:
    rows, columns = np.mgrid[:64, :64]
    waves = (8 * np.sin(rows) * np.cos(columns))[..., None]
    assert not find_defects(image(waves).pixels, PROMPT)
    values = measured(image(waves))
    assert values["burden"] == 0
    assert values["drift"] > measured(image())["drift"] + 0.1
    assert values["total"] == pytest.approx(values["burden"] + values["drift"])


def test_a_background_that_turns_white_or_dark_is_drift() -> None:
    pixels = image().pixels.copy()
    grey = np.abs(pixels.astype(int) - BACKGROUNDS["grey"]).max(axis=2) < 3
    pixels[grey] = 255
    # white clipped at 255 is 9 from the world's white in each channel
    drift = measured(GeneratedImage(pixels, PROMPT))["drift"]
    assert drift >= 9 * 3**0.5 / 30 - 1e-6


def test_the_wrong_thing_counts_as_the_oracle_says() -> None:
    wrong = GeneratedImage(image().pixels, "a small blue square")
    defects = find_defects(wrong.pixels, wrong.prompt)
    values = measured(wrong)
    assert values["right"] == 0
    assert values["artifact"] + values["misalignment"] == len(defects) > 0
    assert values["burden"] == pytest.approx(sum(defect.importance for defect in defects) / 100)


def test_an_object_that_is_not_there_is_counted() -> None:
    both = "a red circle to the left of a blue square on a grey background"
    assert measured(image(prompt=both))["missing"] == 0
    half = GeneratedImage(image(prompt="a red circle on a grey background").pixels, both)
    assert measured(half)["missing"] == 1


def test_the_guard_s_curve_is_the_mean_of_seeds_where_all_looked() -> None:
    first = [{"rollouts": 6, "oracle": 1.0, "detector": 0.5}, {"rollouts": 12, "oracle": 0.9, "detector": 0.4}]
    second = [{"rollouts": 6, "oracle": 2.0, "detector": 0.7}]
    curves = mean_curves({BASE: [[]], "boxflow": [first, second]})
    assert curves == {"boxflow": [{"rollouts": 6, "oracle": 1.5, "detector": pytest.approx(0.6)}]}
    page = markdown(summarise(results(base=2.0, boxflow=1.0)) | {"curves": curves}, {})
    assert "| arm | 6 |" in page
    assert "| BoxFlow, tuned | 1.500, 0.600 |" in page


def results(**means: float) -> dict[str, np.ndarray]:
    """(seeds, prompts, measures) with the total around a mean, the same noise in all arms but for a little."""
    rng = np.random.default_rng(0)
    shared = rng.gamma(4, 0.25, (1, 80, 1))
    found = {}
    for name, mean in means.items():
        seeds = 1 if name == BASE else 5
        values = mean * shared + rng.normal(0, 0.02, (seeds, 80, len(MEASURES)))
        found[name] = values
    return found


def test_paired_differences_are_established_where_they_are_there() -> None:
    summary = summarise(results(base=2.0, **{"boxflow": 1.0, "scalar-boxes": 1.001, "flow-grpo": 1.5}))
    contrasts = {
        contrast["to"]: contrast["interval"] for contrast in summary["contrasts"] if contrast["of"] == "boxflow"
    }
    assert contrasts["flow-grpo"][1] < 0
    assert contrasts["scalar-boxes"][0] < 0 < contrasts["scalar-boxes"][1]
    cut = summary["arms"]["boxflow"]["total cut"]
    assert cut["mean"] == pytest.approx(0.5, abs=0.02)
    assert cut["interval"][0] < 0.5 < cut["interval"][1]
    # pairing: the difference is far narrower than either mean
    width = contrasts["scalar-boxes"][1] - contrasts["scalar-boxes"][0]
    low, high = summary["arms"]["boxflow"]["total"]["interval"]
    assert width < 0.2 * (high - low)


def test_the_page_says_what_is_true() -> None:
    good = markdown(
        summarise(results(base=2.0, **{"boxflow": 1.0, "flow-grpo": 1.5, "scalar-boxes": 1.4})), {"seeds": 5}
    )
    assert "A cut of 30 % by BoxFlow-GRPO: reached (burden 50 %, with drift 50 %)" in good
    assert "beats: Flow-GRPO, scalar with boxes." in good
    bad = markdown(summarise(results(base=2.0, **{"boxflow": 1.9, "flow-grpo": 1.5})), {})
    assert "not reached" in bad
    assert "It does not beat: Flow-GRPO" in bad
    assert "nothing can be said yet" in markdown(summarise(results(base=2.0, **{"flow-grpo": 1.5})), {})


def test_the_page_says_what_forward_reached_and_beat() -> None:
    means = {"base": 2.0, "boxflow": 1.8, "flow-grpo": 1.9, "scalar-boxes-forward": 1.2}
    good = markdown(summarise(results(**means, **{"boxflow-forward": 1.2})), {})
    said = good.partition("by BoxFlow, forward, without more drift: ")[2]
    assert said.startswith("reached (40 %, drift 1.")
    assert "beats: Flow-GRPO, BoxFlow, tuned. It does not beat: scalar with boxes, forward." in said
    assert "- BoxFlow, forward − BoxFlow, tuned, burden + drift, paired: -0." in good
    bad = results(**means, **{"boxflow-forward": 1.2})
    bad["boxflow-forward"][..., MEASURES.index("drift")] += 1
    assert "without more drift: not reached" in markdown(summarise(bad), {})


def test_the_figure_holds_every_arm() -> None:
    summary = summarise(results(base=2.0, **{"boxflow": 1.0, "flow-grpo": 1.5}))
    svg = figure(summary)
    assert svg.count("<rect") >= 6
    assert "Flow-GRPO" in svg
    assert nice_top(summary["arms"][BASE]["total"]["interval"][1]) >= 2


def test_arms_differ_in_nothing_but_their_advantage() -> None:
    made = {arm: configuration(arm, 3, 20, "oracle", {}) for arm in ARMS}
    free = {"advantage", "weight_artifact", "weight_misalignment", "box_margin", "learning_rate"}
    plain = [{key: value for key, value in flat_json(config).items() if key not in free} for config in made.values()]
    estimators = [values.pop("estimator") for values in plain]
    forward = [values for values, estimator in zip(plain, estimators, strict=True) if estimator == "forward"]
    plain = [values for values, estimator in zip(plain, estimators, strict=True) if estimator != "forward"]
    assert (len(plain), len(forward)) == (5, 3)
    assert all(value == plain[0] for value in plain)
    assert all(value == forward[0] for value in forward)
    differing = {name for name, value in plain[0].items() if forward[0][name] != value}
    assert differing == {"shared_noise", "objective", "shared_draws", "beta"}
    for arm in ("flow-grpo", "boxflow", "scalar-boxes"):
        assert made[arm].credit == made[f"{arm}-forward"].credit
        assert made[arm].optimizer == made[f"{arm}-forward"].optimizer
    of_doctor = {arm: configuration(arm, 3, 20, "doctor:runs/doctor", {}).rewards.detector for arm in ARMS}
    assert {(arm, asked.kind) for arm, asked in of_doctor.items() if asked.kind != "doctor"} == {
        ("denseflow", "doctor-heat")
    }
    assert {asked.vlm.model for asked in of_doctor.values()} == {"runs/doctor"}
    assert {settings.credit.advantage for settings in made.values()} == {
        "scalar",
        "dense-heatmap",
        "box",
        "scalar-boxes",
    }
    assert made["boxflow-paper"].credit.weight_artifact == 0.5
    assert made["boxflow-paper"].credit.weight_misalignment == 0.05
    assert made["flow-grpo"].rollouts != mini().rollouts
    assert all(settings.rewards.base[0].kind == "palette" for settings in made.values())
    assert len(candidates("boxflow")) == len(candidates("scalar-boxes"))
    assert made["boxflow-paper"].credit.box_margin == 0
    tried = candidates("boxflow")[-1]
    assert configuration("boxflow", 0, 20, "mini", tried).credit.box_margin == tried["credit.box_margin"] == 2


def test_prompts_of_training_tuning_and_judging_are_apart() -> None:
    training, tuning, judging = (
        set(training_prompts()),
        set(judged_prompts(400, tuning=True)),
        set(judged_prompts(400, tuning=False)),
    )
    assert len(training) == 600
    assert not training & tuning
    assert not training & judging
    assert not tuning & judging
    assert not set(TUNE_SEEDS) & set(SEEDS)
    for text in training | tuning | judging:
        groups = parse_prompt(text).groups
        assert len(groups) <= 2
        assert all(group.count == 1 for group in groups)
    with pytest.raises(ValueError, match="prompts are left"):
        judged_prompts(1000, tuning=False)


def test_too_many_prompts_end_it_before_anything_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "paper"), "--objects", "4", "--prompts", "192"])
    assert "prompts are left for each, asked for 192" in capsys.readouterr().err
    assert not (tmp_path / "paper").exists()


@pytest.mark.slow
def test_half_of_what_the_model_learned_from_is_damaged() -> None:
    corpus = damaged_corpus(300, seed=1)
    assert corpus.images.shape == (300, 64, 64, 3)
    assert not set(corpus.prompts) & set(held_out_prompts(HELD_OUT_COUNT))
    damaged = [bool(find_defects(*scene)) for scene in zip(corpus.images, corpus.prompts, strict=True)]
    assert 0.4 < np.mean(damaged) < 0.6
    again = damaged_corpus(300, seed=1)
    assert (again.images == corpus.images).all()
    assert again.prompts == corpus.prompts


@pytest.mark.slow
def test_the_shipped_model_draws_right_and_damaged_images() -> None:
    model = preset()
    pipeline = load_pipeline(model, revision_of(model))
    prompts = judged_prompts(48, tuning=True)
    made = pipeline(
        prompt=prompts,
        height=64,
        width=64,
        num_inference_steps=model.steps,
        guidance_scale=model.guidance,
        generator=[torch.Generator().manual_seed(place) for place in range(len(prompts))],
        output_type="np",
        **model.call,
    ).images
    images = [
        GeneratedImage((255 * image).round().astype(np.uint8), text) for image, text in zip(made, prompts, strict=True)
    ]
    mean = judge(images).mean()
    assert 0.25 < mean["right"] < 0.75
    assert 0.3 < mean["artifact burden"] < 1.2


def running(mark: str) -> list[int]:
    """Processes with `mark` among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_ended_from_outside_it_ends_its_trainings_and_goes_on_later(tmp_path: Path) -> None:
    out = tmp_path / "paper"
    command = [sys.executable, "-m", "trainers.paper.boxflow", "--out", str(out), "--arms", "flow-grpo"]
    command += ["--seeds", "1", "--rollouts", "2", "--prompts", "8", "--detector", "oracle"]
    command += ["--set", "prompts=2", "--set", "batch_size=8"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while len(running(str(out))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    while running(str(out)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not (out / "report.md").exists()
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert "| Flow-GRPO |" in done.stdout
    assert not list((out / "runs").iterdir())
