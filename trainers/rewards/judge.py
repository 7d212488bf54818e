"""A vision-language model as base reward, over OpenAI's protocol: three axes from 1 to 5, as UnifiedReward-2.0 states.

    R = (0.8·Alignment + 0.1·Coherence + 0.1·Style) / 5          (arXiv 2606.06113, section 5)

The answer must have each of the three lines once, with a number from 1 to 5 and nothing else on the line. Any other
answer gives no score. The question's wording is ours; a model that was trained with another one gets it by `template`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from annotate.vlm.contract import Answer, Backend, EncodedImage, Question
from generators.images import GeneratedImage
from sdg_data.errors import ConfigError
from trainers.rewards.contract import BaseReward, Score
from trainers.rewards.settings import RewardSettings, check_address
from trainers.rewards.vlm_client import VlmClient, deadline_of

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
    """Read a judge's answer.

    Returns:
        The weighted reward with the axes as its parts, or no value and what is wrong with the answer.
    """
    scores: dict[str, float] = {}
    for match in _LINE.finditer(text):
        axis, number = match[1].lower(), match[2]
        if axis in scores:
            return Score(None, f"{axis} is there twice")
        if not _NUMBER.fullmatch(number) or float(number) > 5:
            return Score(None, f"{axis} is {number[:20]!r}, no number from 1 to 5")
        scores[axis] = float(number)
    missing = [axis for axis in WEIGHTS if axis not in scores]
    if missing:
        return Score(None, f"no score for {', '.join(missing)}")
    return Score(sum(WEIGHTS[axis] * value for axis, value in scores.items()) / 5, parts=scores)


class Judge(VlmClient[Score]):
    """A judge behind a backend, asked for the three axes of each image."""

    kind = "judge"

    def __init__(self, backend: Backend, *, template: str = TEMPLATE, **options: Any) -> None:
        """Prepare a judge.

        Args:
            backend: the model.
            template: the question, with `{prompt}` where the caption goes.
            options: those of `VlmClient`.
        """
        super().__init__(backend, **options)
        self._template = template

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        """Ask the judge about each image; a failed or unreadable answer is a score without a value."""
        return await self.ask_all(images)

    def question(self, image: GeneratedImage, encoded: EncodedImage) -> Question:
        """The judge's question about an image: the template with the image's prompt filled in."""
        return Question(text=self._template.replace("{prompt}", image.prompt), image=encoded, prompt=image.prompt)

    def read(self, answer: Answer, encoded: EncodedImage) -> Score:
        """The reward of an answer that was not cut off."""
        return self.missing("the answer was cut off") if answer.hit_length else parse_judgement(answer.text)

    def missing(self, reason: str) -> Score:
        """A score whose `value` is None, with the reason for the missing answer."""
        return Score(None, reason)


def question_of(path: str, default: str) -> str:
    """The question of a file, or the default where no file is named.

    Args:
        path: The file's; empty: none.
        default: The question that is asked then.

    Returns:
        The question, with `{prompt}` in it.

    Raises:
        ConfigError: The file cannot be read, or has no `{prompt}`.
    """
    if not path:
        return default
    try:
        question = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read it ({error.strerror})", item=path) from error
    if "{prompt}" not in question:
        raise ConfigError("the question has no {prompt}", item=path)
    return question


def make_judge(settings: RewardSettings) -> BaseReward:
    """The judge that `vlm` names, with the question of the file `template`.

    Args:
        settings: the reward's.

    Returns:
        The judge; nothing is asked yet.

    Raises:
        ConfigError: no `vlm`, an unknown backend, or a question that cannot be read or has no `{prompt}`.
    """
    from annotate.vlm.registry import make_backend

    if settings.vlm is None:
        raise ConfigError("the reward 'judge' needs `vlm`", hint="Its backend, model and base_url, as in [prelabel].")
    template = question_of(settings.template, TEMPLATE)
    check_address(settings.vlm, "judge")
    backend = make_backend(settings.vlm)
    return Judge(
        backend,
        template=template,
        concurrency=settings.vlm.concurrency,
        **deadline_of(backend, settings.vlm),
    )
