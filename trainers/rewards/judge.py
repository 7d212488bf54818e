"""A vision-language model as base reward, over OpenAI's protocol: three axes from 1 to 5, as UnifiedReward-2.0 states.

    R = (0.8·Alignment + 0.1·Coherence + 0.1·Style) / 5          (arXiv 2606.06113, section 5)

The answer must have each of the three lines once, with a number from 1 to 5 and nothing else on the line. Anything else
is no score. The question's wording is ours; a model that was trained with another one gets it by `template`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Final

from annotate.vlm.contract import AskError, Backend, Question
from annotate.vlm.retrying import RetryingClient, RetryPolicy
from trainers.rewards.contract import Score, Shot

WEIGHTS: Final[Mapping[str, float]] = {"alignment": 0.8, "coherence": 0.1, "style": 0.1}
TEMPLATE: Final = """\
You see an image that was generated from a text caption. Judge it on three axes, each from 1 (bad) to 5 (perfect):
- Alignment: does the image show what the caption says?
- Coherence: is it free of glitches, distortions and impossible parts?
- Style: is it pleasing to look at, whatever the caption?

Answer with these three lines, a number in the place of each letter:
Alignment Score (1-5): X
Coherence Score (1-5): Y
Style Score (1-5): Z

Caption: [{prompt}]"""

_LINE: Final = re.compile(
    r"^[ \t*#-]*(Alignment|Coherence|Style) Score \(1-5\)\**:[ \t*]*(\S+?)\**[ \t]*$", re.MULTILINE
)
_NUMBER: Final = re.compile(r"[1-5](?:\.\d{1,4})?")


def parse_judgement(text: str) -> Score:
    """The reward of an answer, or None and what is wrong with it. Never raises for a `str`."""
    found: dict[str, float] = {}
    for match in _LINE.finditer(text):
        axis, number = match[1].lower(), match[2]
        if axis in found:
            return Score(None, f"{axis} is there twice")
        if not _NUMBER.fullmatch(number) or float(number) > 5:
            return Score(None, f"{axis} is {number[:20]!r}, no number from 1 to 5")
        found[axis] = float(number)
    missing = [axis for axis in WEIGHTS if axis not in found]
    if missing:
        return Score(None, f"no score for {', '.join(missing)}")
    return Score(sum(WEIGHTS[axis] * value for axis, value in found.items()) / 5, parts=found)


class Judge:
    """Asks a model for the three axes of each image."""

    def __init__(
        self,
        backend: Backend,
        *,
        template: str = TEMPLATE,
        concurrency: int = 32,
        deadline: float | None = 120.0,
        policy: RetryPolicy | None = None,
    ) -> None:
        """`template` has `{prompt}` where the caption goes. `deadline` in seconds, for an image with its retries."""
        self.name = f"judge:{backend.identity.model}"
        self._backend, self._template = backend, template
        self._concurrency, self._deadline, self._policy = concurrency, deadline, policy
        self._client: RetryingClient | None = None

    async def score(self, shots: Sequence[Shot]) -> list[Score]:
        """See `BaseReward`."""
        if self._client is None:  # bound to the loop that it is first used on
            self._client = RetryingClient(
                self._backend, concurrency=self._concurrency, deadline=self._deadline, policy=self._policy
            )
        return list(await asyncio.gather(*(self._one(self._client, shot) for shot in shots)))

    async def close(self) -> None:
        """See `BaseReward`."""
        await self._backend.close()

    async def _one(self, client: RetryingClient, shot: Shot) -> Score:
        picture = self._backend.prepare(shot.png(), "image/png")
        text = self._template.replace("{prompt}", shot.prompt)
        try:
            answer = await client.ask(Question(text=text, image=picture, prompt=shot.prompt))
        except AskError as error:
            return Score(None, f"{error.code}: {error.message}")
        if answer.hit_length:
            return Score(None, "the answer was cut off")
        return parse_judgement(answer.text)
