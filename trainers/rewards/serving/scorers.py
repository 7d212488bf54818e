"""What the process of a reward can run: the rewards of this project, and the table of all names.

A scorer is made from its options (a table of JSON) and called with pictures, arrays (height, width, 3) of uint8, and
prompts; it returns a number, a table of numbers, or a text that says why there is none, for each. Its `version` is
shown beside its figures. One of your own is a function in a file: `scorer = "my_scorer.py:make"`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from generators.images import GeneratedImage
from trainers.rewards.contract import Pixels
from trainers.rewards.serving.imscore_scorers import MODELS
from trainers.rewards.settings import RewardSettings, make_base

_IMSCORE: Final = f"{Path(__file__).with_name('imscore_scorers.py')}:ImscoreScorer"
_OURS: Final = "trainers.rewards.serving.scorers:OwnScorer"
_PICK: Final = {"model": "yuvalkirstain/PickScore_v1", "processor": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"}

BUILT_IN: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "pickscore": (_OURS, {"kind": "pick", **_PICK}),
    "clip": (_OURS, {"kind": "clip", "model": "openai/clip-vit-large-patch14"}),
    "palette": (_OURS, {"kind": "palette"}),
    "oracle": (_OURS, {"kind": "oracle"}),
    **{name: (_IMSCORE, {"reward": name}) for name in MODELS if name != "pickscore"},
    "imscore-pickscore": (_IMSCORE, {"reward": "pickscore"}),
}
"""Name -> the scorer, and its options."""


class OwnScorer:
    """A base reward of this project (`trainers.rewards.settings.REWARDS`), in its own process."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Load its model; `options` are those of `RewardSettings`."""
        settings = RewardSettings.model_validate(options)
        self._reward = make_base(settings)
        self._loop = asyncio.new_event_loop()
        if load := getattr(self._reward, "load", None):
            load()
        self.version = f"{settings.model or settings.kind}{'@' + settings.revision if settings.revision else ''}"

    def __call__(self, images: Sequence[Pixels], prompts: Sequence[str]) -> list[dict[str, float | None] | str]:
        """A table with one number for each picture, or the reason why there is none."""
        pictures = [GeneratedImage(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        scores = self._loop.run_until_complete(self._reward.score(pictures))
        return [{"": score.value} if score.value is not None else score.reason for score in scores]
