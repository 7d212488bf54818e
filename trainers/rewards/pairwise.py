"""A base reward from comparisons: each image's win rate within the group of its prompt (Pref-GRPO, arXiv 2508.20751).

Scores of single images differ little within a group, and dividing by their spread turns noise into advantages; a judge
that sees two images beside each other need not have a scale. Compared with the paper's code:

- Both orders of a pair are asked, so a judge that prefers a place prefers nobody: such a pair is a draw. A pair of
  which one order has no answer counts for nothing, because the other order alone is biased.
- A tie is a tie only where the judge may say so and does. An answer that cannot be read is missing.
- n·log₂(n) questions a group at the most: Swiss rounds pair images of about equal success that have not met. Strengths
  are fitted to all results (Bradley–Terry), and the reward is the expected win rate against the other images.

An image about which no pair was answered has no reward. A group has to come whole, in one batch.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from generators.images import GeneratedImage
from sdg_data.metrics.preference import log_strengths
from trainers.rewards.contract import Score

_PRIOR: Final = 0.1
"""Wins that every image of a group is given over every other: an image that won always has no greatest likelihood."""


@dataclass(frozen=True)
class JudgedPair:
    """A judge's answer: the first image's share of the win (1, 0, or ½ for a tie); None with a reason where missing."""

    first: float | None
    reason: str = ""
    fatal: bool = False


class PairJudge(Protocol):
    """Interface of a judge of two images of one prompt."""

    name: str

    async def compare(self, first: GeneratedImage, second: GeneratedImage) -> JudgedPair:
        """Say which of two images is better."""

    async def close(self) -> None:
        """Close connections."""


class PairwiseReward:
    """Win rates by a judge of pairs. `asked` counts its questions."""

    def __init__(self, judge: PairJudge) -> None:
        """`judge`: who compares."""
        self.name = f"pairwise:{judge.name}"
        self._judge = judge
        self.asked = 0

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        """Score the images of each prompt by their comparisons with each other; groups are compared side by side."""
        groups: dict[str, list[int]] = {}
        for place, image in enumerate(images):
            groups.setdefault(image.prompt, []).append(place)
        scores: list[Score] = [Score(None, "was not compared")] * len(images)
        tournaments = [self._group([images[place] for place in places]) for places in groups.values()]
        for places, group in zip(groups.values(), await asyncio.gather(*tournaments), strict=True):
            for place, score in zip(places, group, strict=True):
                scores[place] = score
        return scores

    async def close(self) -> None:
        """Close the judge."""
        await self._judge.close()

    async def _group(self, images: Sequence[GeneratedImage]) -> list[Score]:
        n = len(images)
        if n < 2:
            return [Score(None, "no other image of its prompt to compare with")] * n
        wins: NDArray[np.float64] = np.zeros((n, n))
        met: set[tuple[int, int]] = set()
        reasons: list[str] = [""] * n
        order = seeding(images)
        left = budget(n)
        while left >= 2 and not any(reason.startswith("fatal: ") for reason in reasons):
            points = wins.sum(axis=1) - wins.sum(axis=0)
            pairs = swiss_pairs(points.tolist(), met, order)[: left // 2]
            if not pairs:
                break
            met |= {(min(pair), max(pair)) for pair in pairs}
            left -= 2 * len(pairs)
            answers = await asyncio.gather(*(self._both_orders(images[i], images[j]) for i, j in pairs))
            for (i, j), (share, reason) in zip(pairs, answers, strict=True):
                if share is None:
                    reasons[i] = reasons[j] = reason
                else:
                    wins[i, j] += share
                    wins[j, i] += 2 - share
        return _rates(wins, reasons)

    async def _both_orders(self, a: GeneratedImage, b: GeneratedImage) -> tuple[float | None, str]:
        """How often `a` won in the two orders, 0 to 2; None where one of them has no answer."""
        self.asked += 2
        forward, backward = await asyncio.gather(self._judge.compare(a, b), self._judge.compare(b, a))
        for answer in (forward, backward):
            if answer.first is None:
                return None, ("fatal: " if answer.fatal else "") + (answer.reason or "no answer")
        assert forward.first is not None
        assert backward.first is not None
        return forward.first + 1 - backward.first, ""


def budget(n: int) -> int:
    """The most questions about a group of n images: n·log₂(n), or both orders of every pair where that is less."""
    return max(2, min(math.floor(n * math.log2(n)), n * (n - 1)))


def seeding(images: Sequence[GeneratedImage]) -> list[int]:
    """The order in which equal images are paired: by their pixels, so that a place in the group says nothing."""
    return sorted(range(len(images)), key=lambda k: hashlib.sha256(images[k].pixels.tobytes()).digest())


def swiss_pairs(points: Sequence[float], met: set[tuple[int, int]], order: Sequence[int]) -> list[tuple[int, int]]:
    """The pairs of a Swiss round: neighbours by points that have not met.

    Args:
        points: Of each image.
        met: Pairs (smaller, larger) that were compared.
        order: Every image once; the earlier one comes first among equal points.

    Returns:
        Pairs in which no image is twice. Where images are left that have all met, fewer pairs.
    """
    place = {image: k for k, image in enumerate(order)}
    waiting = sorted(order, key=lambda image: (-points[image], place[image]))
    pairs = []
    while waiting:
        first = waiting.pop(0)
        partner = next((second for second in waiting if (min(first, second), max(first, second)) not in met), None)
        if partner is not None:
            waiting.remove(partner)
            pairs.append((first, partner))
    return pairs


def _rates(wins: NDArray[np.float64], reasons: Sequence[str]) -> list[Score]:
    """Expected win rates from the results, by the strengths of those images that were compared."""
    games = wins.sum(axis=1) + wins.sum(axis=0)
    known = np.flatnonzero(games > 0)
    scores = []
    rates = expected_win_rates(wins[np.ix_(known, known)]) if len(known) > 1 else None
    for k in range(len(wins)):
        if rates is None or games[k] == 0:
            reason = reasons[k] or "no other image was compared"
            scores.append(Score(None, reason.removeprefix("fatal: "), fatal=reason.startswith("fatal: ")))
            continue
        value = float(rates[int(np.flatnonzero(known == k)[0])])
        scores.append(Score(value, parts={"win_rate": value, "comparisons": float(games[k])}))
    return scores


def expected_win_rates(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each image's mean probability of winning against another one, by Bradley–Terry strengths.

    Args:
        wins: (n, n), wins[i, j] how often i beat j; a tie is half a win for both.

    Returns:
        (n,) from 0 to 1, of mean ½.

    Raises:
        ValueError: There are fewer than two images.
    """
    n = len(wins)
    if n < 2:
        raise ValueError("a win rate needs another image")
    strengths = log_strengths(wins + _PRIOR * (1 - np.eye(n)))
    assert strengths is not None  # with the prior, everybody beat everybody
    won = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    rates: NDArray[np.float64] = (won.sum(axis=1) - 0.5) / (n - 1)
    return rates
