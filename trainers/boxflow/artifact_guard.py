"""The artifact guard: a detector that no reward comes from looks at some of each rollout's images.

Rewards of taste and of agreement drift to images with artifacts, whichever of them are added up (arXiv 2601.03468).
The guard's figure is the mean Σ importance/100 of the artifacts of an image. It is logged for each rollout, in every
kind of training, and nothing is learned from it; a training whose figure has risen too far is stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from generators.images import GeneratedImage
from schemas.defect import DefectType
from sdg_data.errors import ModelError
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.rollout import RolloutChunk
from trainers.rewards.contract import Detector, Score
from trainers.rewards.scoring import ScoredImage, Scoring

FIGURE: Final = "artifact_guard"
"""The figure's name in the log."""


class BurdenReward:
    """A detector as a reward, so that it is asked beside the sampling: minus the burden of artifacts."""

    def __init__(self, detector: Detector) -> None:
        self.name = detector.name
        self._detector = detector

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        """Minus Σ importance/100 of each image's artifacts; missing where there is no answer.

        Returns:
            A score for each image.

        Raises:
            RuntimeError: the detector gave fewer or more answers than there are images.
        """
        detections = await self._detector.detect(images)
        if len(detections) != len(images):
            raise RuntimeError(f"{len(detections)} answers for {len(images)} images")
        return [
            Score(None, detection.reason, fatal=detection.fatal)
            if detection.defects is None
            else Score(
                -sum(defect.importance for defect in detection.defects if defect.type is DefectType.ARTIFACT) / 100
            )
            for detection in detections
        ]

    async def close(self) -> None:
        """Close the detector."""
        await self._detector.close()


class ArtifactGuard:
    """Asks the guard beside the sampling, and keeps its figures; without a detector it does nothing.

    Its figures and decisions are equal on all processes.
    """

    def __init__(self, detector: Detector | None, config: BoxFlowConfig, history: Sequence[float] = ()) -> None:
        """Start.

        Args:
            detector: the guard; None: there is none.
            config: the training's.
            history: the figures of the rollouts before, in their order.
        """
        self._config, self._settings = config, config.monitoring
        self._history = list(history)
        self._shown: list[int] = []
        self._scoring: Scoring | None = None
        if detector is not None:
            self._scoring = Scoring(BurdenReward(detector), None, deadline=config.rewards.reward_deadline)

    def show(self, rollout: int, chunk: RolloutChunk) -> None:
        """Hand in the guard's share of some images of a rollout, which is number `rollout` from 0; returns at once."""
        if self._scoring is None:
            return
        settings, total = self._settings, self._config.total
        numbers = chosen(rollout, list(chunk.indices), settings.artifact_guard_images, total)
        if numbers:
            self._scoring.submit([chunk.images[number - chunk.indices.start] for number in numbers])
            self._shown += numbers

    def heard(self, gather: Callable[[list[Any]], list[Any]]) -> dict[str, float]:
        """Wait for the answers about what was shown.

        Args:
            gather: puts the lists of all processes together.

        Returns:
            The figures for the log. What `hear` raises comes through.
        """
        if self._scoring is None:
            return {}
        shown, self._shown = self._shown, []
        pairs = gather(list(zip(shown, self._scoring.collect(), strict=True)))
        answers = [image for _, image in sorted(pairs, key=lambda pair: pair[0])]
        return self.hear(answers, self._config.rewards.max_failure_rate)

    def close(self) -> None:
        """Close the detector."""
        if self._scoring is not None:
            self._scoring.close()

    def hear(self, images: Sequence[ScoredImage], limit: float) -> dict[str, float]:
        """Take in a rollout's answers, those of all processes.

        Args:
            images: as `BurdenReward` scored them.
            limit: the share of images that may be without an answer.

        Returns:
            The figures for the log.

        Raises:
            ModelError: more than `limit` have no answer: a guard that does not look guards nothing.
        """
        known = [-image.reward for image in images if image.reward is not None]
        missing = 1 - len(known) / len(images) if images else 0.0
        if missing > limit or (images and not known):
            reason = next(image.reward_reason for image in images if image.reward is None)
            raise ModelError(
                f"the artifact guard gave no answer for {len(images) - len(known)} of {len(images)} images ({reason})",
                item="sdg train boxflow",
                hint="Mend it and run the command again to go on; without: --set monitoring.artifact_guard=null.",
            )
        if not known:
            return {}
        self._history.append(sum(known) / len(known))
        return {FIGURE: self._history[-1], f"missing/{FIGURE}": missing}

    def risen(self) -> ModelError | None:
        """The error that ends a training whose artifacts have become too many; None where they have not."""
        rise, window = self._settings.artifact_guard_rise, self._settings.artifact_guard_window
        if not rise or len(self._history) < 2 * window:
            return None
        first = sum(self._history[:window]) / window
        last = sum(self._history[-window:]) / window
        if last <= first * (1 + rise):
            return None
        return ModelError(
            f"the artifact guard sees {last:.3g} of artifacts an image, over the last {window} rollouts, and saw "
            f"{first:.3g} over the first {window}: the reward is earned by damage",
            item="sdg train boxflow",
            hint="The last checkpoint is saved. Look at samples/; a smaller learning rate, a weight of the KL "
            "(loss.beta) or another reward may help. monitoring.artifact_guard_rise is how far it may rise.",
        )


def chosen(rollout: int, indices: Sequence[int], count: int, total: int) -> list[int]:
    """Which images of a rollout the guard looks at: `count` of all, evenly spread, others in each rollout.

    Args:
        rollout: its number, from 0.
        indices: the numbers of some of its images.
        count: how many of all.
        total: images of the rollout.

    Returns:
        Those of `indices` that it looks at.
    """
    return [index for index in indices if (index + rollout) * min(count, total) % total < min(count, total)]


def history_of(log_file: Path, done: int) -> list[float]:
    """The figures of the first `done` rollouts, as the log of a training has them."""
    if not log_file.is_file():
        return []
    figures: dict[int, float] = {}
    for line in log_file.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            if entry["rollout"] <= done and FIGURE in entry:
                figures[entry["rollout"]] = float(entry[FIGURE])
        except (ValueError, LookupError, TypeError):
            continue  # a line that was cut off
    return [figures[number] for number in sorted(figures)]
