"""Looking at pictures while refining: the detector's defects and the base reward, or the reason why there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from annotate.vlm.contract import AskError
from generators.editors.contract import Pixels
from generators.images import GeneratedImage
from sdg_data.errors import ModelError
from trainers.refinement.acceptance import Measurement
from trainers.rewards.contract import BaseReward, Detection, Detector, Score

ResultT = TypeVar("ResultT", Score, Detection)
# What a server or a connection may raise; a model that does not load ends the run.
_EXPECTED: Final = (AskError, OSError, RuntimeError, ValueError, TimeoutError)


def scores_of(reward: BaseReward, pictures: Sequence[tuple[Pixels, str]]) -> list[float | None]:
    """The base reward of pictures with their prompts, None where there is no answer; the reward is closed then."""

    async def scores() -> list[Score]:
        try:
            return await reward.score([GeneratedImage(pixels, prompt) for pixels, prompt in pictures])
        finally:
            await reward.close()

    return [score.value for score in asyncio.run(scores())]


class Signals:
    """A detector and, where one is named, a base reward, asked about pictures one batch after another."""

    def __init__(self, detector: Detector, reward: BaseReward | None = None) -> None:
        """Ask nothing yet; clients are bound to the event loop that they are first used on, so there is one for all."""
        self._detector, self._reward = detector, reward
        self._loop = asyncio.new_event_loop()

    @property
    def rewarded(self) -> bool:
        """Whether a base reward is part of the test."""
        return self._reward is not None

    def look(self, pictures: Sequence[Pixels], prompt: str) -> list[Measurement]:
        """Look at pictures of one prompt.

        Args:
            pictures: (height, width, 3) uint8 each.
            prompt: What they should show.

        Returns:
            One answer for each, in order.

        Raises:
            ModelError: The detector or the reward says that no more answers can be had.
        """
        if not pictures:
            return []
        images = [GeneratedImage(picture, prompt) for picture in pictures]
        detections = self._ask(self._detector.detect, images, Detection(None, ""))
        scores: list[Score] = []
        if self._reward is not None:
            scores = self._ask(self._reward.score, images, Score(None, ""))
        hopeless = [answer.reason for answer in detections if answer.fatal]
        hopeless += [answer.reason for answer in scores if answer.fatal]
        if hopeless:
            raise ModelError(
                f"no more answers can be had: {hopeless[0]}",
                item="sdg refine run",
                hint="What is finished is stored. Mend it and run the command again to go on.",
            )
        if not scores:
            return [Measurement(detection.defects, None, detection.reason) for detection in detections]
        return [
            Measurement(detection.defects, score.value, detection.reason or score.reason)
            for detection, score in zip(detections, scores, strict=True)
        ]

    def close(self) -> None:
        """Let go of models and connections."""
        self._loop.run_until_complete(self._detector.close())
        if self._reward is not None:
            self._loop.run_until_complete(self._reward.close())
        self._loop.close()

    def _ask(
        self,
        ask: Callable[[Sequence[GeneratedImage]], Awaitable[list[ResultT]]],
        images: Sequence[GeneratedImage],
        missing: ResultT,
    ) -> list[ResultT]:
        async def answers() -> list[ResultT]:
            return await ask(images)

        try:
            results = self._loop.run_until_complete(answers())
        except _EXPECTED as error:
            return [type(missing)(None, f"{type(error).__name__}: {str(error)[:200]}")] * len(images)
        if len(results) != len(images):
            return [type(missing)(None, f"{len(results)} answers for {len(images)} images")] * len(images)
        return results
