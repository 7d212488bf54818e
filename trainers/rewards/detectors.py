"""Detectors of defects: any model that `annotate.vlm` can ask, here or behind `sdg serve detector`.

Only an answer in the strict form counts. One that had to be mended, cut off or refused is none: a repair may drop the
box that was cut off, and a missing box is a reward.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from annotate.machine.prelabel import ask_about
from annotate.vlm.contract import AskError, Backend
from annotate.vlm.retrying import RetryingClient, RetryPolicy
from schemas.answer.parse import Outcome, parse_answer
from sdg_data.prompt_templates import Template
from trainers.rewards.contract import Detection, Shot


class VlmDetector:
    """Asks a backend about each image, with the question it was trained with."""

    def __init__(
        self,
        backend: Backend,
        template: Template,
        *,
        concurrency: int = 32,
        deadline: float | None = 120.0,
        policy: RetryPolicy | None = None,
    ) -> None:
        """`deadline` in seconds, for an image with its retries; None for a model in this process."""
        self.name = f"detector:{backend.identity.model}"
        self._backend, self._template = backend, template
        self._concurrency, self._deadline, self._policy = concurrency, deadline, policy
        self._client: RetryingClient | None = None

    async def detect(self, shots: Sequence[Shot]) -> list[Detection]:
        """See `Detector`."""
        if self._client is None:  # bound to the loop that it is first used on
            self._client = RetryingClient(
                self._backend, concurrency=self._concurrency, deadline=self._deadline, policy=self._policy
            )
        return list(await asyncio.gather(*(self._one(self._client, shot) for shot in shots)))

    async def close(self) -> None:
        """See `Detector`."""
        await self._backend.close()

    async def _one(self, client: RetryingClient, shot: Shot) -> Detection:
        picture = self._backend.prepare(shot.png(), "image/png")
        try:
            answer = await client.ask(ask_about(self._backend, self._template, shot.prompt, picture))
        except AskError as error:
            return Detection(None, f"{error.code}: {error.message}")
        parsed = parse_answer(answer.text, codec=self._backend.codec(picture.size), hit_length=answer.hit_length)
        if parsed.outcome is not Outcome.PARSED or parsed.defects is None:
            why = str(parsed.reason) if parsed.reason else "needs repair"
            return Detection(None, f"malformed: {why}")
        return Detection(parsed.defects)
