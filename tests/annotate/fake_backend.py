"""A backend that answers by a script, for tests of everything that asks models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from annotate.vlm.contract import Answer, AskError, EncodedImage, Identity, Question
from annotate.vlm.families import codec_of, fit_image
from schemas.codecs import AnswerCodec
from schemas.geometry import ImageSize

Step = Answer | AskError | str
"""What happens at one request: an answer (a string is one), or a failure."""


class FakeBackend:
    """Answers what a script says: for each question the steps in their order, and then the last one again and again.

    `script` is one list for all, or a function of the question. `asked` holds every request, in order. With `gate`, an
    answer is given only once the gate is open, so that tests hold calls in flight without a clock.
    """

    local = False

    def __init__(
        self,
        script: Sequence[Step] | Callable[[Question], Sequence[Step]],
        *,
        family: str = "qwen3-vl",
        max_side: int = 1024,
        model: str = "fake",
        gate: Callable[[], asyncio.Event] | None = None,
    ) -> None:
        self._script = script
        self._family, self._max_side, self._gate = family, max_side, gate
        self.identity = Identity("fake", model, "1", {"backend": "fake", "codec": family, "max_side": max_side})
        self.asked: list[Question] = []
        self.at_once = 0
        self.most_at_once = 0
        self.closed = False

    def codec(self, size: ImageSize) -> AnswerCodec:
        """The codec of the model family that this backend was told to imitate."""
        return codec_of(self._family, size)

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """Encode an image as the imitated family takes it, at most `max_side` pixels on its longer side."""
        return fit_image(data, media_type, family=self._family, max_side=self._max_side)

    async def ask(self, question: Question) -> Answer:
        """Note the question, and give the next step of the script: an answer, or an error that is raised."""
        earlier = sum(request == question for request in self.asked)
        self.asked.append(question)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await (self._gate().wait() if self._gate is not None else asyncio.sleep(0))
            steps = self._script(question) if callable(self._script) else self._script
            step = steps[min(earlier, len(steps) - 1)]
            if isinstance(step, AskError):
                raise AskError(
                    step.code,
                    step.message,
                    raw=step.raw,
                    transient=step.transient,
                    fatal=step.fatal,
                    retry_after=step.retry_after,
                )
            return Answer(step, tokens_in=100, tokens_out=10) if isinstance(step, str) else step
        finally:
            self.at_once -= 1

    async def close(self) -> None:
        """Note that the backend was closed; tests look at `closed`."""
        self.closed = True
