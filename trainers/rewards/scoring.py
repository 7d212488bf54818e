"""Rewards and detections of a rollout, asked for while the next images are still being sampled; failing closed.

What does not come in time, dies or is malformed is missing (`None`), with its reason. Too much of that stops the run:
`check_failures`, over the answers of all processes together, so that all decide alike.
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
from schemas.defect import Defect
from sdg_data.errors import ModelError, SdgError
from trainers.rewards.contract import BaseReward, Detection, Detector, Score, Shot

log = logging.getLogger(__name__)

Answer = TypeVar("Answer", Score, Detection)

# What a model, a server or a connection may raise; anything else is a bug of ours and ends the run.
_EXPECTED: Final = (SdgError, AskError, OSError, RuntimeError, ValueError, TimeoutError)
_EXAMPLES: Final = 3


@dataclass(frozen=True)
class Assessed:
    """What is known of an image: `reward` and `defects` are None where they are missing. Small, and pickles."""

    reward: float | None
    defects: tuple[Defect, ...] | None
    reward_reason: str = ""
    detector_reason: str = ""
    parts: dict[str, float] = field(default_factory=dict)


class Scoring:
    """Asks a base reward and a detector (None: none is needed) on a loop of its own, beside the sampling."""

    def __init__(
        self, reward: BaseReward, detector: Detector | None, *, deadline: float, guard: BaseReward | None = None
    ) -> None:
        """`deadline`: seconds that `collect` waits after the last image was handed in. `guard`: see `submit`."""
        self._reward, self._detector, self._guard, self._deadline = reward, detector, guard, deadline
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scoring", daemon=True)
        self._thread.start()
        self._pending: list[tuple[int, Future[list[Score]], Future[list[Detection]] | None]] = []
        self.waited = 0.0

    def submit(self, shots: Sequence[Shot], *, by_guard: bool = False) -> None:
        """Hand images in; returns at once. `by_guard`: scored by the guard instead of the reward, if there is one."""
        shots = list(shots)
        reward = self._guard if by_guard and self._guard is not None else self._reward
        scores = asyncio.run_coroutine_threadsafe(_checked(reward.score, shots), self._loop)
        found = None
        if self._detector is not None:
            found = asyncio.run_coroutine_threadsafe(_checked(self._detector.detect, shots), self._loop)
        self._pending.append((len(shots), scores, found))

    def collect(self) -> list[Assessed]:
        """All that was handed in, in order. What is not answered by the deadline is missing."""
        started = time.monotonic()
        pending, self._pending = self._pending, []
        result: list[Assessed] = []
        for count, scores, found in pending:
            left = self._deadline - (time.monotonic() - started)
            values = _taken(scores, left, [Score(None, "")] * count)
            left = self._deadline - (time.monotonic() - started)
            defects = [Detection(())] * count if found is None else _taken(found, left, [Detection(None, "")] * count)
            result += [
                Assessed(score.value, one.defects, score.reason, one.reason, score.parts)
                for score, one in zip(values, defects, strict=True)
            ]
        self.waited = time.monotonic() - started
        return result

    def close(self) -> None:
        """Let go of models and connections, as far as they answer."""
        for source in (self._reward, self._detector, self._guard):
            if source is not None:
                closing = asyncio.run_coroutine_threadsafe(source.close(), self._loop)
                try:
                    closing.result(timeout=5)
                except (TimeoutError, *_EXPECTED) as error:
                    log.warning("%s did not close: %s", source.name, error)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)


async def _checked(ask: Callable[[Sequence[Shot]], Awaitable[list[Answer]]], shots: list[Shot]) -> list[Answer]:
    answers = await ask(shots)
    if len(answers) != len(shots):
        raise RuntimeError(f"{len(answers)} answers for {len(shots)} images")
    return answers


def _taken(future: Future[list[Answer]], timeout: float, missing: list[Answer]) -> list[Answer]:
    """Its answers; `missing` with the reason where there are none. Raises what is not to be expected."""
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


def check_failures(assessed: Sequence[Assessed], limit: float) -> dict[str, float]:
    """The shares of images without a reward and without a detection.

    Raises ModelError where one of them is over `limit`, with the commonest reasons. Give it the images of all
    processes, in one order, and all of them end alike.
    """
    shares = {}
    for name, reasons in (
        ("base reward", [one.reward_reason for one in assessed if one.reward is None]),
        ("detector", [one.detector_reason for one in assessed if one.defects is None]),
    ):
        share = len(reasons) / len(assessed) if assessed else 0.0
        shares[name] = share
        if share > limit:
            common = "; ".join(f"{text} ({number}×)" for text, number in Counter(reasons).most_common(_EXAMPLES))
            raise ModelError(
                f"the {name} gave no answer for {len(reasons)} of {len(assessed)} images ({100 * share:.0f} %, "
                f"more than {100 * limit:.0f} %)",
                item="sdg train boxflow",
                hint=f"Reasons: {common}. Nothing was learned from them. Mend it and run the command again to go on, "
                "or raise max_failure_rate.",
            )
    return shares
