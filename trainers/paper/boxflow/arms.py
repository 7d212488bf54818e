"""The arms that are compared, and what all of them share.

Equal in all: model, sampler, prompts of each rollout (by seed), images, optimizer steps, detector and base reward. An
arm is its kind of advantage and the weights of the boxes; `candidates` is what tuning tries for it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from generators.mini.corpus import HELD_OUT_COUNT, held_out_prompts
from sdg_data.mini.world import parse_prompt, sample_prompts
from sdg_data.settings import VlmSettings
from trainers.boxflow.config import BoxFlowConfig, changed
from trainers.boxflow.recipes import mini
from trainers.paper.boxflow.model import NAME, simple_prompts
from trainers.rewards.settings import DetectorSettings, RewardSettings

BASE: Final = "base"
_RATES: Final = ({"optimizer.learning_rate": 6e-4}, {"optimizer.learning_rate": 1e-3})
_FORWARD: Final[Mapping[str, Any]] = {
    "estimator": "forward",
    "rollout.shared_noise": False,  # equal starts are equal images where no step has noise
    "forward.objective": "awm",
    "forward.draws": 5,
    "forward.shared_draws": True,
    "loss.beta": 0.2,
}
"""Of the arms that learn by the forward process; all else is as in the arm of the same advantage."""
_POLICY_GRADIENT: Final[Mapping[str, dict[str, Any]]] = {
    "flow-grpo": {"credit.advantage": "scalar", **_RATES[0]},
    "denseflow": {"credit.advantage": "dense-heatmap", **_RATES[1]},
    "boxflow-paper": {
        "credit.advantage": "box",
        "credit.weight_artifact": 0.5,
        "credit.weight_misalignment": 0.05,
        **_RATES[0],
    },
    "boxflow": {
        "credit.advantage": "box",
        "credit.weight_artifact": 1.5,
        "credit.weight_misalignment": 1.5,
        "credit.box_margin": 2.0,
        **_RATES[0],
    },
    "scalar-boxes": {
        "credit.advantage": "scalar-boxes",
        "credit.weight_artifact": 4.0,
        "credit.weight_misalignment": 4.0,
        **_RATES[0],
    },
}
ARMS: Final[Mapping[str, dict[str, Any]]] = {
    **_POLICY_GRADIENT,
    **{f"{arm}-forward": {**_POLICY_GRADIENT[arm], **_FORWARD} for arm in ("flow-grpo", "boxflow", "scalar-boxes")},
}
"""With the settings that tuning chose; `tuned.json` of another tuning goes before them."""
USUAL_ARMS: Final = tuple(arm for arm in ARMS if arm != "boxflow-paper")
"""What `make paper-mini` trains: the paper's α is for real images and rewards; here it gives the boxes hardly a say."""
TITLES: Final[Mapping[str, str]] = {
    BASE: "base",
    "flow-grpo": "Flow-GRPO",
    "denseflow": "DenseFlow",
    "boxflow-paper": "BoxFlow, paper's α",
    "boxflow": "BoxFlow, tuned",
    "scalar-boxes": "scalar with boxes",
    "flow-grpo-forward": "scalar, forward",
    "boxflow-forward": "BoxFlow, forward",
    "scalar-boxes-forward": "scalar with boxes, forward",
}
SEEDS: Final = range(1, 100)
"""Of the trainings that are reported; `--seeds` of them."""
TUNE_SEEDS: Final = (101,)
_CHOICES: Final[Mapping[str, tuple[dict[str, Any], ...]]] = {
    "boxflow": (
        {"credit.weight_artifact": 3.0, "credit.weight_misalignment": 3.0, "credit.box_margin": 1.0},
        {"credit.weight_artifact": 1.5, "credit.weight_misalignment": 1.5, "credit.box_margin": 2.0},
        {"credit.weight_artifact": 1.5, "credit.weight_misalignment": 1.5, "credit.box_margin": 2.0, **_RATES[1]},
    ),
    "scalar-boxes": (
        {"credit.weight_artifact": 2.0, "credit.weight_misalignment": 2.0},
        {"credit.weight_artifact": 4.0, "credit.weight_misalignment": 4.0},
        {"credit.weight_artifact": 4.0, "credit.weight_misalignment": 4.0, **_RATES[1]},
    ),
    **dict.fromkeys(
        ("flow-grpo-forward", "boxflow-forward", "scalar-boxes-forward"),
        ({"loss.beta": 0.2}, {"loss.beta": 0.1}, {"loss.beta": 0.2, **_RATES[1]}),
    ),
}
_SHARED: Final[Mapping[str, Any]] = {
    "policy.model": NAME,
    "loss.ratio": "location",  # in all arms: a ratio per image is clipped less often, which would be a difference too
    # Noise where things are decided, by dynamics that leave none in the image: what is learned is then not to
    # draw better with noise, which the judge's images do not have.
    "rollout.steps": 6,
    "rollout.dynamics": "cps",
    "rollout.noise_level": 0.8,
    "rollout.window": (1, 3),
    "rollout.sde_steps": 2,
    "rollout.train_steps": 2,
    "rollout.shared_noise": True,
    "rollout.prompts": 12,
    "rollout.samples": 8,
    "optimizer.passes": 1,
    "loss.beta": 0.04,
    "optimizer.ema": 0.8,
}

TRAIN_PROMPTS: Final = 600
LOOKED_AT: Final = 32
"""Prompts, of those of tuning, whose images oracle and detector see on the way. Nothing is learned from them."""


def candidates(arm: str) -> list[dict[str, Any]]:
    """What tuning tries: learning rates, and how boxes count where an arm is free to choose."""
    return [dict(values) for values in _CHOICES.get(arm, _RATES)]


def configuration(arm: str, seed: int, rollouts: int, detector: str, more: Mapping[str, Any]) -> BoxFlowConfig:
    """An arm's training.

    Args:
        arm: a name of `ARMS`.
        seed: the training's.
        rollouts: how many.
        detector: a backend of `annotate.vlm`, `doctor:FOLDER` for a trained ImageDoctor, or "oracle" to try things out.
        more: settings that go before the arm's.

    Returns:
        The configuration.
    """
    shared: dict[str, Any] = {
        **_SHARED,
        "seed": seed,
        "rollouts": rollouts,
        "rewards.base": (RewardSettings(kind="palette").model_dump(),),
        "monitoring.guard": RewardSettings(kind="oracle").model_dump(),
        "monitoring.guard_prompts": LOOKED_AT,
        "monitoring.sample_every": 6,
        "rewards.detector": _detector(detector, ARMS[arm]["credit.advantage"]).model_dump(),
        "saving.save_every": 5,
        "saving.keep": 1,
        "saving.report": "none",
    }
    return changed(mini(), {**shared, **ARMS[arm], **more})


def _detector(name: str, advantage: str) -> DetectorSettings:
    """Who is asked for the boxes; a doctor gives DenseFlow its maps, cell by cell, and the others its regions."""
    kind, _, folder = name.partition(":")
    asked = VlmSettings(backend="mini", device="cpu", max_tokens=256, batch_size=48)
    if kind == "doctor":
        dense = advantage == "dense-heatmap"
        return DetectorSettings(
            kind="doctor-heat" if dense else "doctor", vlm=asked.model_copy(update={"model": folder})
        )
    if kind == "oracle":
        return DetectorSettings(kind="oracle", vlm=asked)
    return DetectorSettings(vlm=asked.model_copy(update={"backend": kind}))


def training_prompts(*, one_object: bool = False) -> list[str]:
    """Prompts to train on: none that any arm is judged or tuned on. `one_object`: only of a single shape."""
    kept_out = set(held_out_prompts(HELD_OUT_COUNT))
    drawn = _wanted(sample_prompts((40 if one_object else 4) * TRAIN_PROMPTS, seed=31), one_object)
    return [text for text in drawn if text not in kept_out][:TRAIN_PROMPTS]


def judged_prompts(count: int, *, tuning: bool, one_object: bool = False) -> list[str]:
    """Prompts that no mini and no arm was trained on; those of tuning are others than those of the result.

    Args:
        count: how many.
        tuning: whether they are for choosing settings.
        one_object: only of a single shape.

    Returns:
        `count` prompts, the same each time.

    Raises:
        ValueError: There are fewer than `count`.
    """
    prompts = _wanted(held_out_prompts(HELD_OUT_COUNT), one_object)
    random.Random(7).shuffle(prompts)
    half = len(prompts) // 2
    if count > half:
        raise ValueError(f"only {half} prompts are left for each, asked for {count}")
    return prompts[half : half + count] if tuning else prompts[:count]


def _wanted(prompts: Sequence[str], one_object: bool) -> list[str]:
    simple = simple_prompts(prompts)
    return [text for text in simple if parse_prompt(text).object_count == 1] if one_object else simple
