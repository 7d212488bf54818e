"""A reward as somebody outside would write it: one module, made from the settings."""

from collections.abc import Sequence

from generators.images import GeneratedImage
from trainers.rewards.contract import Score
from trainers.rewards.settings import RewardSettings


class Sharpness:
    """The mean difference of neighbouring pixels, 0..1."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        return [
            Score(float(abs(image.pixels[:, 1:].astype(float) - image.pixels[:, :-1]).mean() / 255)) for image in images
        ]

    async def close(self) -> None:
        return


def make(settings: RewardSettings) -> Sharpness:
    return Sharpness(settings.model or "sharpness")
