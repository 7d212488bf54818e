"""Rewards and detections of a rollout, asked for while the next images are still being sampled.

An answer that does not come in time, fails or is malformed is missing (`None`), with its reason. Too many missing
answers stop the run: `check_failures` looks at the answers of all processes together, so that all decide alike.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, TypeVar

from annotate.vlm.contract import AskError
from generators.images import GeneratedImage
from schemas.defect import Defect
from sdg_data.errors import ModelError, SdgError
from trainers.rewards.contract import BaseReward, Detection, Detector, Score

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT", Score, Detection)

# What a model, a server or a connection may raise; anything else is a bug of ours and ends the run.
_EXPECTED: Final = (SdgError, AskError, OSError, RuntimeError, ValueError, TimeoutError)
_EXAMPLES: Final = 3
_CLOSE_SECONDS: Final = 5


@dataclass(frozen=True)
class ScoredImage:
    """What is known of an image: its `reward` and its `defects`, each None where it is missing, with the reason.

    Without the pixels, so that it is small enough to be sent between processes.
    """

    reward: float | None
    defects: tuple[Defect, ...] | None
    reward_reason: str = ""
    detector_reason: str = ""
    fatal: bool = False
    parts: dict[str, float] = field(default_factory=dict)


class Scoring:
    """Asks a base reward and a detector on an event loop of its own, beside the sampling.

    `waited`: seconds that the last `collect` took.
    """

    def __init__(
        self,
        reward: BaseReward,
        detector: Detector | None,
        *,
        deadline: float,
        held_out_reward: BaseReward | None = None,
    ) -> None:
        """Start the loop.

        Args:
            reward: the base reward.
            detector: None where no detector is needed: every image counts as clean then.
            deadline: seconds that `collect` waits after the last image was handed in.
            held_out_reward: scores what is submitted as `held_out`.
        """
        self._reward, self._detector, self._held_out_reward = reward, detector, held_out_reward
        self._deadline = deadline
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scoring", daemon=True)
        self._thread.start()
        self._pending: list[tuple[int, Future[list[Score]], Future[list[Detection]] | None]] = []
        self.waited = 0.0

    def submit(self, images: Sequence[GeneratedImage], *, held_out: bool = False) -> None:
        """Hand images in; returns at once. `held_out`: by the held-out reward, if there is one."""
        images = list(images)
        reward = self._held_out_reward if held_out and self._held_out_reward is not None else self._reward
        scores = asyncio.run_coroutine_threadsafe(_checked(reward.score, images), self._loop)
        detections = None
        if self._detector is not None:
            detections = asyncio.run_coroutine_threadsafe(_checked(self._detector.detect, images), self._loop)
        self._pending.append((len(images), scores, detections))

    def missing(self) -> tuple[int, bool]:
        """What is known already of what was handed in.

        Returns:
            (images that have no reward or no detection, whether one of them says that there will be no more). Where it
            differs, the larger number.
        """
        lost, fatal = [0, 0], False
        for count, *futures in self._pending:
            for source, future in enumerate(futures):
                if future is None or not future.done():
                    continue
                if future.exception() is not None:
                    lost[source] += count
                    continue
                for answer in future.result():
                    lost[source] += (answer.value if isinstance(answer, Score) else answer.defects) is None
                    fatal = fatal or answer.fatal
        return max(lost), fatal

    def collect(self, *, wait: bool = True) -> list[ScoredImage]:
        """Wait for the answers about everything that was handed in.

        Args:
            wait: until the deadline; else only for what is on its way and comes within seconds.

        Returns:
            One result for each image, in order. What was not answered by the deadline is missing.
        """
        started = time.monotonic()
        deadline = self._deadline if wait else min(self._deadline, _CLOSE_SECONDS)
        pending, self._pending = self._pending, []
        results: list[ScoredImage] = []
        for count, score_future, detection_future in pending:
            left = deadline - (time.monotonic() - started)
            scores = _answers(score_future, left, [Score(None, "")] * count)
            left = deadline - (time.monotonic() - started)
            if detection_future is None:
                detections = [Detection(())] * count
            else:
                detections = _answers(detection_future, left, [Detection(None, "")] * count)
            results += [
                ScoredImage(
                    score.value,
                    detection.defects,
                    score.reason,
                    detection.reason,
                    score.fatal or detection.fatal,
                    score.parts,
                )
                for score, detection in zip(scores, detections, strict=True)
            ]
        self.waited = time.monotonic() - started
        return results

    def close(self) -> None:
        """Let go of models and connections; what does not close within seconds is left behind with a warning."""
        for source in (self._reward, self._detector, self._held_out_reward):
            if source is not None:
                closing = asyncio.run_coroutine_threadsafe(source.close(), self._loop)
                try:
                    closing.result(timeout=_CLOSE_SECONDS)
                except (TimeoutError, *_EXPECTED) as error:
                    log.warning("%s did not close: %s", source.name, error)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_CLOSE_SECONDS)


def check_failures(images: Sequence[ScoredImage], limit: float) -> dict[str, float]:
    """Stop a run with too many missing answers.

    Give it the images of all processes, in one order: then all processes go on, or all of them stop.

    Args:
        images: those of a rollout.
        limit: the share of images without an answer that is still allowed, 0..1.

    Returns:
        The shares of images without a reward and without a detection, by source.

    Raises:
        ModelError: one of the shares is over `limit`, or an answer says that no other one can be believed; the hint has
            the commonest reasons.
    """
    fatal = next((image.detector_reason or image.reward_reason for image in images if image.fatal), None)
    if fatal is not None:
        raise ModelError(
            f"no more answers can be had: {fatal}",
            item="sdg train boxflow",
            hint="Nothing was learned from this rollout. Mend it and run the command again to go on.",
        )
    reasons = {
        "base reward": [image.reward_reason for image in images if image.reward is None],
        "detector": [image.detector_reason for image in images if image.defects is None],
    }
    shares = {name: len(missing) / len(images) if images else 0.0 for name, missing in reasons.items()}
    worst = max(shares, key=lambda name: shares[name])
    if shares[worst] > limit:
        missing = reasons[worst]
        raise ModelError(
            f"the {worst} gave no answer for {len(missing)} of {len(images)} images ({100 * shares[worst]:.0f} %, "
            f"more than {100 * limit:.0f} %)",
            item="sdg train boxflow",
            hint=f"Reasons: {common_reasons(missing)}. Nothing was learned from them. Mend it and run the command "
            "again to go on, or raise max_failure_rate.",
        )
    return shares


def common_reasons(reasons: Sequence[str]) -> str:
    """Say why answers are missing.

    Args:
        reasons: one for each missing answer.

    Returns:
        The commonest, each with how often it was given.
    """
    return "; ".join(f"{text} ({number}×)" for text, number in Counter(reasons).most_common(_EXAMPLES))


async def _checked(
    ask: Callable[[Sequence[GeneratedImage]], Awaitable[list[ResultT]]], images: list[GeneratedImage]
) -> list[ResultT]:
    answers = await ask(images)
    if len(answers) != len(images):
        raise RuntimeError(f"{len(answers)} answers for {len(images)} images")
    return answers


def _answers(future: Future[list[ResultT]], timeout: float, missing: list[ResultT]) -> list[ResultT]:
    """A future's answers, or `missing` with the reason. Raises what no model, server or connection raises."""
    kind = type(missing[0]) if missing else None
    try:
        error = future.exception(timeout=max(timeout, 0.0))
    except TimeoutError:
        future.cancel()
        return [] if kind is None else [kind(None, "no answer by the deadline")] * len(missing)
    if error is None:
        return future.result()
    if not isinstance(error, _EXPECTED):
        raise error
    return [] if kind is None else [kind(None, f"{type(error).__name__}: {str(error)[:200]}")] * len(missing)
