"""Before a training loads its model: a few images for whoever scores over the network, and what their speed means.

A detector or a judge that answers too slowly, or in a form that cannot be read, would end the run at its first rollout,
hours of sampling later. So each server is asked about some pictures of the training's size, made up here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from generators.images import GeneratedImage
from sdg_data.errors import ModelError
from sdg_data.progress import duration
from trainers.boxflow.artifact_guard import BurdenReward
from trainers.boxflow.config import BoxFlowConfig
from trainers.rewards.contract import BaseReward
from trainers.rewards.scoring import Scoring, common_reasons
from trainers.rewards.settings import make_base, make_detector

log = logging.getLogger(__name__)

_PATCH = 32
"""Pixels of a patch of one colour, before they are blended into each other."""


@dataclass(frozen=True)
class ServerTrial:
    """How a server answered: `asked` images in `seconds`; `reasons` of those that have no answer, each as often."""

    name: str
    asked: int
    seconds: float
    reasons: tuple[str, ...]

    @property
    def answered(self) -> int:
        """Images with an answer that can be read."""
        return self.asked - len(self.reasons)


def run_trials(config: BoxFlowConfig, prompts: Sequence[str], size: tuple[int, int]) -> list[ServerTrial]:
    """Ask every server of a training about `monitoring.trial_images` pictures, one server after another.

    Args:
        config: the training's; who scores in this process is not asked.
        prompts: the training's, of which the first are used.
        size: (height, width) of the images in pixels.

    Returns:
        What each server did, in the order rewards, detector, artifact guard; also logged, beside what a rollout needs.
        ModelError is raised where more answers of a server are missing than `rewards.max_failure_rate` allows.
    """
    if not config.monitoring.trial_images:
        return []
    images = pictures(prompts, config.monitoring.trial_images, config.rollout.samples, size)
    trials = []
    for source in _served(config):
        trials.append(_ask(source, images, config.rewards.reward_deadline))
        log.info("%s", describe(trials[-1], config))
        _check(trials[-1], config.rewards.max_failure_rate)
    return trials


def describe(trial: ServerTrial, config: BoxFlowConfig) -> str:
    """Say how fast a server is and whether that is enough for a rollout.

    Args:
        trial: what it did.
        config: the training's.

    Returns:
        One sentence. The speed is of few images: a server that answers many at a time may be faster in a rollout.
    """
    said = f"{trial.name}: {trial.answered} of {trial.asked} pictures answered in {duration(trial.seconds)}"
    if not trial.answered:
        return said
    rate = trial.answered / max(trial.seconds, 1e-9)
    needed, deadline = config.total / rate, config.rewards.reward_deadline
    said += f", {rate:.3g} a second; {config.total} of a rollout take {duration(needed)} at this speed"
    if needed <= deadline:
        return f"{said}: it keeps up (reward_deadline {deadline:g} s)"
    return (
        f"{said}. It keeps up only where sampling takes {duration(needed - deadline)} or longer, as reward_deadline "
        f"leaves {duration(deadline)} after the last image: add servers (a list of addresses), or raise reward_deadline"
    )


def pictures(prompts: Sequence[str], count: int, samples: int, size: tuple[int, int]) -> list[GeneratedImage]:
    """Made-up pictures: blended patches of colours with a little noise, so that they weigh as much as real ones.

    Args:
        prompts: at least one; each is taken for `samples` pictures, as in a rollout.
        count: how many pictures.
        samples: a group's images.
        size: (height, width) in pixels.

    Returns:
        The pictures, equal in every call.
    """
    height, width = size
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        patches = random.integers(0, 256, (-(-height // _PATCH), -(-width // _PATCH), 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + random.integers(-4, 5, (height, width, 3), dtype=np.int16)
        pixels = noisy.clip(0, 255).astype(np.uint8)
        made.append(GeneratedImage(pixels, prompts[number // samples % len(prompts)]))
    return made


def _served(config: BoxFlowConfig) -> Iterator[BaseReward]:
    """Who scores behind an address: made anew for the trial, as a connection belongs to the loop that first uses it."""
    monitoring = config.monitoring
    rewards = [*config.rewards.base, *([] if monitoring.guard is None else [monitoring.guard])]
    for part in rewards:
        if part.server is not None or (part.vlm is not None and part.vlm.backend == "openai"):
            yield make_base(part)
    detectors = [] if config.credit.advantage == "scalar" else [config.rewards.detector]
    detectors += [] if monitoring.artifact_guard is None else [monitoring.artifact_guard]
    for settings in detectors:
        if settings.kind == "vlm" and settings.vlm.backend == "openai":
            yield BurdenReward(make_detector(settings))


def _ask(source: BaseReward, images: Sequence[GeneratedImage], deadline: float) -> ServerTrial:
    """The server's answers about all pictures at once, as far as they come by the deadline."""
    scoring = Scoring(source, None, deadline=deadline)
    try:
        scoring.submit(images)
        scored = scoring.collect()
    finally:
        scoring.close()
    reasons = tuple(image.reward_reason for image in scored if image.reward is None)
    return ServerTrial(source.name, len(images), scoring.waited, reasons)


def _check(trial: ServerTrial, limit: float) -> None:
    """Raise ModelError where so many answers are missing that no rollout would count."""
    if len(trial.reasons) <= limit * trial.asked:
        return
    raise ModelError(
        f"{trial.name} gave no answer for {len(trial.reasons)} of {trial.asked} pictures, asked before the model is "
        f"loaded; a rollout stops at {100 * limit:.0f} %",
        item="sdg train boxflow",
        hint=f"Reasons: {common_reasons(trial.reasons)}. Mend it and run the command again, or start without asking: "
        "--set monitoring.trial_images=0.",
    )
