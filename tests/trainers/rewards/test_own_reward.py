"""A reward from outside comes in through the registry that ours come in through."""

import asyncio

import numpy as np
import pytest

from generators.images import GeneratedImage
from sdg_data.errors import ConfigError
from trainers.boxflow.config import changed
from trainers.boxflow.recipes import mini
from trainers.rewards.settings import REWARDS, make_reward


def test_a_reward_is_a_module_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"rewards.base": [{"kind": "sharpness", "weight": 2.0}, {"kind": "palette", "weight": 0.5}]}
    with pytest.raises(ConfigError, match=r"there is no 'sharpness'; there are clip, pick, scorer, judge"):
        changed(mini(), asked)
    monkeypatch.setitem(REWARDS, "sharpness", "tests.trainers.rewards.own_reward:make")
    reward = make_reward(changed(mini(), asked).rewards.base)
    assert reward.name == "2·sharpness + 0.5·palette"
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    [score] = asyncio.run(reward.score([GeneratedImage(stripes, "a small red circle on a grey background")]))
    assert score.parts["sharpness"] == 1.0
    assert score.value == pytest.approx(2 + 0.5 * score.parts["palette"])
