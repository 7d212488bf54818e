"""Several base rewards as one: a weighted sum, which is missing where any of its parts is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from generators.images import GeneratedImage
from trainers.rewards.contract import BaseReward, Score


class WeightedSum:
    """Σ weight·reward; a score's `parts` are the rewards' values by name."""

    def __init__(self, rewards: Sequence[tuple[BaseReward, float]]) -> None:
        """Make a sum of (reward, weight).

        Raises:
            ValueError: no rewards.
        """
        if not rewards:
            raise ValueError("a sum of no rewards")
        self._rewards = tuple(rewards)
        self.name = " + ".join(f"{weight:g}·{reward.name}" for reward, weight in rewards)

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        """Score images by all rewards at the same time, and add each image's scores by their weights."""
        columns = await asyncio.gather(*(reward.score(images) for reward, _ in self._rewards))
        return [self._sum(scores) for scores in zip(*columns, strict=True)]

    async def close(self) -> None:
        """Close every reward of the sum."""
        for reward, _ in self._rewards:
            await reward.close()

    def _sum(self, scores: Sequence[Score]) -> Score:
        total = 0.0
        parts: dict[str, float] = {}
        for (reward, weight), score in zip(self._rewards, scores, strict=True):
            if score.value is None:
                return Score(None, f"{reward.name}: {score.reason}", fatal=score.fatal)
            total += weight * score.value
            parts[reward.name] = score.value
        return Score(total, parts=parts)
