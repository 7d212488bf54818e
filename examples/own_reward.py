"""A reward of your own for BoxFlow-GRPO: any function of an image and its prompt.

    python examples/own_reward.py --out runs/own --prompts train.txt --held-out test.txt --dry-run

All other options are those of `sdg train boxflow`. This one likes images with much contrast.
"""

import sys
from collections.abc import Sequence

from sdg_data import cli
from trainers.rewards.contract import GeneratedImage, Score
from trainers.rewards.settings import REWARDS, RewardSettings


class ContrastReward:
    """The standard deviation of an image's brightness, 0 to 1: larger is better; the scale is the reward's own."""

    name = "contrast"

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        """One for each. A reward that cannot answer says `Score(None, reason)`: nothing is learned from that image."""
        return [Score(float(image.pixels.mean(axis=2).std()) / 127.5) for image in images]

    async def close(self) -> None:
        """Nothing to let go of. A reward with a model or a connection closes it here."""


def make(settings: RewardSettings) -> ContrastReward:
    """`settings` has the keys of the table below: `model`, `device`, `batch_size` …"""
    return ContrastReward()


if __name__ == "__main__":
    REWARDS["contrast"] = "own_reward:make"
    base = '[{"kind": "contrast", "weight": 1.0}]'
    sys.exit(cli.run(["train", "boxflow", "--set", f"rewards.base={base}", *sys.argv[1:]]))
