"""The arms that are compared, and what all of them share.

Equal in all: model, sampler, prompts of each rollout (by seed), images, optimizer steps, detector and base reward. An
arm is its kind of advantage and the weights of the boxes; `candidates` is what tuning tries for it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

from generators.mini.corpus import HELD_OUT_COUNT, held_out_prompts
from sdg_data.mini.world import sample_prompts
from sdg_data.settings import VlmSettings
from trainers.boxflow.config import BoxFlowConfig, changed, mini
from trainers.rewards.settings import DetectorSettings, RewardSettings

BASE: Final = "base"
ARMS: Final[Mapping[str, dict[str, Any]]] = {
    "flow-grpo": {"advantage": "scalar"},
    "denseflow": {"advantage": "dense-heatmap"},
    "boxflow-paper": {"advantage": "box", "weight_artifact": 0.5, "weight_misalignment": 0.05},
    "boxflow": {"advantage": "box", "weight_artifact": 2.0, "weight_misalignment": 2.0},
    "scalar-boxes": {"advantage": "scalar-boxes", "weight_artifact": 2.0, "weight_misalignment": 2.0},
}
TITLES: Final[Mapping[str, str]] = {
    BASE: "base",
    "flow-grpo": "Flow-GRPO",
    "denseflow": "DenseFlow",
    "boxflow-paper": "BoxFlow, paper's α",
    "boxflow": "BoxFlow, tuned",
    "scalar-boxes": "scalar with boxes",
}
_RATES: Final = (5e-5, 1e-4, 2e-4)
_WEIGHTS: Final = ((1.0, 1.0), (2.0, 2.0), (4.0, 4.0))

TRAIN_PROMPTS: Final = 600
TUNE_SEEDS: Final = (101, 102)


def candidates(arm: str) -> list[dict[str, Any]]:
    """What tuning tries: learning rates, and weights of the boxes where an arm has any and they are not the paper's."""
    weights: list[dict[str, Any]] = [{}]
    if arm in ("boxflow", "scalar-boxes"):
        weights = [{"weight_artifact": first, "weight_misalignment": second} for first, second in _WEIGHTS]
    return [{"learning_rate": rate, **more} for rate in _RATES for more in weights]


def configuration(arm: str, seed: int, rollouts: int, detector: str, more: Mapping[str, Any]) -> BoxFlowConfig:
    """An arm's training. `detector`: a backend of `annotate.vlm`, or "oracle" to try things out."""
    oracle = detector == "oracle"
    shared: dict[str, Any] = {
        "seed": seed,
        "rollouts": rollouts,
        "ratio": "location",  # in all arms: a ratio per image is clipped less often, which would be a difference too
        "base": (RewardSettings(kind="palette").model_dump(),),
        "guard": None,
        "detector": DetectorSettings(
            kind="oracle" if oracle else "vlm",
            vlm=VlmSettings(backend="mini" if oracle else detector, device="cpu", max_tokens=256, batch_size=48),
        ).model_dump(),
        "sample_every": 0,
        "save_every": 5,
        "keep": 1,
        "report": "none",
    }
    return changed(mini(), {**shared, **ARMS[arm], **more})


def training_prompts() -> list[str]:
    """Prompts to train on: none that any arm is judged or tuned on."""
    kept_out = set(held_out_prompts(HELD_OUT_COUNT))
    return [text for text in sample_prompts(2 * TRAIN_PROMPTS, seed=31) if text not in kept_out][:TRAIN_PROMPTS]


def judged_prompts(count: int, *, tuning: bool) -> list[str]:
    """Prompts that no mini and no arm was trained on; those of tuning are others than those of the result."""
    prompts = held_out_prompts(HELD_OUT_COUNT)
    random.Random(7).shuffle(prompts)
    half = HELD_OUT_COUNT // 2
    return prompts[half : half + count] if tuning else prompts[:count]
