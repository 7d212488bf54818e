"""What the figures of known rewards mean: scale, usual range, version and source of each.

Names are used for different numbers elsewhere: flow_grpo divides PickScore by 26 and CLIPScore by 30, Pref-GRPO leaves
out PickScore's logit scale. A figure without its scale says nothing, so that what reports a reward says this too: the
log of a training, `/rewards` of `sdg serve rewards`, the table in docs/rewards.md.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True)
class RewardFacts:
    """What a reward's figures mean. `low` and `high` are what images usually get, not bounds."""

    name: str
    scale: str
    low: float
    high: float
    version: str
    source: str

    def __str__(self) -> str:
        return f"{self.scale}, usually {self.low:g} to {self.high:g} ({self.version}; {self.source})"

    def as_json(self) -> dict[str, Any]:
        """The facts as a table of JSON."""
        return asdict(self)


FACTS: Final = (
    RewardFacts(
        "pickscore", "exp(logit scale) · cos", 18, 24, "PickScore_v1, CLIP-H, 77 tokens", "yuvalkirstain/PickScore_v1"
    ),
    RewardFacts("clip", "100 · max(cos, 0)", 15, 40, "CLIP-L/14", "openai/clip-vit-large-patch14"),
    RewardFacts("mps", "100 · cos under the overall condition", 5, 15, "MPS overall, CLIP-H", "RE-N-Y/mpsv1"),
    RewardFacts("hpsv2", "cos", 0.2, 0.35, "HPSv2.1, open_clip H-14", "RE-N-Y/hpsv21"),
    RewardFacts(
        "imagereward", "(logit − .16717) / 1.03334", -2, 2, "ImageReward-v1.0, BLIP-L, 35 tokens", "RE-N-Y/ImageReward"
    ),
    RewardFacts("aesthetic", "rating of 1 to 10", 4, 7, "LAION aesthetic, CLIP-L/14", "RE-N-Y/laion-aesthetic"),
    RewardFacts("vqascore", "P(yes), 0 to 1", 0, 1, "clip-flant5-xxl", "RE-N-Y/clip-t5-xxl"),
    RewardFacts("hpsv3", "μ of a Gaussian, its σ left out", -5, 15, "HPSv3, Qwen2-VL-7B", "RE-N-Y/hpsv3"),
    RewardFacts(
        "judge",
        "(.8·alignment + .1·coherence + .1·style) / 5, each 1 to 5",
        0.2,
        1,
        "UnifiedReward-2.0's answer form",
        "arXiv 2606.06113, section 5",
    ),
    RewardFacts("palette", "0 to 1", 0, 1, "the mini world's", "trainers.rewards.mini"),
    RewardFacts("oracle", "−Σ importance / 100", -5, 0, "the mini world's", "trainers.rewards.mini"),
)
"""Rewards whose figures are known, in the order of the table in the documentation."""

_ALIASES: Final = {
    "pick": "pickscore",
    "clipscore": "clip",
    "hpsv21": "hpsv2",
    "hpsv2.1": "hpsv2",
    "hps": "hpsv2",
    "aestheticscore": "aesthetic",
    "laionaesthetic": "aesthetic",
    "vqa": "vqascore",
}
"""Other names, in small letters and without what stands between their parts."""


def facts_of(name: str) -> RewardFacts | None:
    """The facts about a reward, by the name that it has in settings or at a server; None where it is not known."""
    name = re.sub(r"[-_ ]", "", name.lower())
    name = _ALIASES.get(name, name)
    return next((facts for facts in FACTS if facts.name == name), None)


def odd_scale(facts: RewardFacts, mean: float) -> str:
    """Whether a mean cannot be of the scale that a name stands for: PickScore ÷ 26 is another number.

    Args:
        facts: what the name stands for.
        mean: of many images.

    Returns:
        What to say; empty where it may be right: within the usual range, or its whole width away from it.
    """
    width = facts.high - facts.low
    if facts.low - width <= mean <= facts.high + width:
        return ""
    return (
        f"the mean of {facts.name} is {mean:.4g}, and it is usually {facts.low:g} to {facts.high:g}: "
        "is it divided by something, or another version?"
    )
