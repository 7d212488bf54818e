"""A base reward behind a server that speaks POST /score: UniRL's reward service, or `sdg serve rewards`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from generators.images import GeneratedImage
from sdg_data.errors import ConfigError
from trainers.rewards.contract import BaseReward, Score
from trainers.rewards.facts import facts_of
from trainers.rewards.server_client import ServerReward, server_of
from trainers.rewards.settings import RewardServer, RewardSettings
from trainers.rewards.wire import read_scores, score_request


class WireReward(ServerReward):
    """One reward of such a server."""

    content_type = "application/json"
    path = "/score"

    def __init__(self, server: RewardServer, **options: Any) -> None:
        """Connect to nothing yet; `options` are those of `ServerReward`."""
        super().__init__(server.label(), server, facts=facts_of(server.reward), **options)

    def body(self, images: Sequence[GeneratedImage]) -> bytes:
        """The request about images, in the wire's form."""
        return score_request(images, self._server.reward)

    def read(self, answer: bytes, count: int) -> list[Score]:
        """One score for each of `count` images."""
        return read_scores(answer.decode(errors="replace"), count, self._server.reward, self._server.metric)


def make_wire(settings: RewardSettings) -> BaseReward:
    """The reward that `server` names.

    Args:
        settings: the reward's.

    Returns:
        The reward; nothing is asked yet. What `server_of` raises comes through.

    Raises:
        ConfigError: no reward of the server is named.
    """
    server = server_of(settings)
    if not server.reward:
        raise ConfigError("which reward of the server?", hint='"reward": "pickscore", as its /rewards calls it.')
    return WireReward(server, batch_size=settings.batch_size)
