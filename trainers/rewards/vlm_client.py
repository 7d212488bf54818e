"""Asking a vision-language model about generated images: what the detector and the judge have in common.

The model is any backend of `annotate.vlm`, in this process or behind a server. Retries, the number of questions at a
time and the deadline are those of `annotate.vlm.retrying`.
"""

from __future__ import annotations

import abc
import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from annotate.vlm.contract import Answer, AskError, Backend, EncodedImage, Question
from annotate.vlm.retrying import RetryingClient, RetryPolicy
from generators.images import GeneratedImage
from sdg_data.settings import VlmSettings
from trainers.rewards.contract import Detection, Score

ResultT = TypeVar("ResultT", Score, Detection)


class VlmClient(abc.ABC, Generic[ResultT]):
    """Asks a backend one question about each image. A subclass says which question, and how its answer is read."""

    kind: str
    """In front of the model's name in `name`."""

    def __init__(
        self,
        backend: Backend,
        *,
        concurrency: int = 32,
        deadline: float | None = 120.0,
        policy: RetryPolicy | None = None,
    ) -> None:
        """Prepare a client; the connection is made when it is first used.

        Args:
            backend: the model.
            concurrency: questions that are on their way at the same time.
            deadline: seconds for an image with its retries; None for a model in this process.
            policy: how often and how long is retried.
        """
        self.name = f"{self.kind}:{backend.identity.model}"
        self._backend = backend
        self._concurrency, self._deadline, self._policy = concurrency, deadline, policy
        self._client: RetryingClient | None = None

    @abc.abstractmethod
    def question(self, image: GeneratedImage, encoded: EncodedImage) -> Question:
        """The question about an image; `encoded` is the image as the backend takes it."""

    @abc.abstractmethod
    def read(self, answer: Answer, encoded: EncodedImage) -> ResultT:
        """Read the model's answer; an unreadable one gives what `missing` gives."""

    @abc.abstractmethod
    def missing(self, reason: str) -> ResultT:
        """The result of an image that has no answer; `reason` says why there is none."""

    async def close(self) -> None:
        """Let go of the backend's connections or model."""
        await self._backend.close()

    async def ask_all(self, images: Sequence[GeneratedImage]) -> list[ResultT]:
        """Ask about images, all at a time as far as `concurrency` allows.

        Returns:
            One result for each image, in their order.
        """
        if self._client is None:  # bound to the event loop that it is first used on
            self._client = RetryingClient(
                self._backend, concurrency=self._concurrency, deadline=self._deadline, policy=self._policy
            )
        return list(await asyncio.gather(*(self._ask(self._client, image) for image in images)))

    async def _ask(self, client: RetryingClient, image: GeneratedImage) -> ResultT:
        try:
            encoded = self._backend.prepare(image.png(), "image/png")
        except ValueError as error:
            return self.missing(f"bad-image: {error}")
        try:
            answer = await client.ask(self.question(image, encoded))
        except AskError as error:
            missing = self.missing(f"{error.code}: {error.message}")
            return dataclasses.replace(missing, fatal=error.fatal)
        return self.read(answer, encoded)


def deadline_of(backend: Backend, settings: VlmSettings) -> dict[str, Any]:
    """The `deadline` of a client by the settings: a model in this process has none."""
    return {"deadline": None if backend.local else settings.deadline}
