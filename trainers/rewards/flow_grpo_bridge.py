"""A base reward behind a server of flow_grpo's kind, which speaks pickles over HTTP: a bridge, on loopback, by consent.

    {"images": [JPEG], "prompts": [TEXT], "metadata": [{}]}   ->   {"outputs": [NUMBER]} or {"scores": [NUMBER]}

(yifan123/flow_grpo, flow_grpo/rewards.py: deqa, unifiedreward; verl-omni's http_scorer.) Whoever reads a pickle with
`pickle.loads` runs what is in it. The answer is read here by `pickle_reader`, which runs nothing. The server reads ours
with `pickle.loads`, so that it must stay on this machine: whoever reaches its port owns its process. JPEG is that of
flow_grpo's own clients (Pillow's quality of 75), so that figures are comparable with theirs.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from generators.images import GeneratedImage
from sdg_data.errors import ConfigError
from sdg_data.json_values import finite_number
from sdg_data.listening import is_loopback
from sdg_data.web_addresses import without_secrets
from trainers.rewards.contract import BaseReward, Score
from trainers.rewards.facts import facts_of
from trainers.rewards.pickle_reader import UnsafePickle, read_pickle
from trainers.rewards.server_client import ServerReward, server_of
from trainers.rewards.settings import RewardServer, RewardSettings
from trainers.rewards.wire import stated_error

_KEYS: Final = ("outputs", "scores")
_QUALITY: Final = 75


class FlowGrpoReward(ServerReward):
    """The reward of such a server."""

    content_type = "application/octet-stream"
    path = ""

    def __init__(self, server: RewardServer, **options: Any) -> None:
        """Connect to nothing yet; `options` are those of `ServerReward`."""
        super().__init__(server.label(), server, facts=facts_of(server.reward), **options)

    def body(self, images: Sequence[GeneratedImage]) -> bytes:
        """The request about images: a pickle of bytes and text."""
        request = {
            "images": [_jpeg(image) for image in images],
            "prompts": [image.prompt for image in images],
            "metadata": [{} for _ in images],
        }
        return pickle.dumps(request, protocol=4)

    def read(self, answer: bytes, count: int) -> list[Score]:
        """One score for each of `count` images; a pickle of anything but plain data is no answer."""
        try:
            value = read_pickle(answer)
        except UnsafePickle as error:
            return [Score(None, f"the answer is refused: {error}")] * count
        return read_outputs(value, count, self._server.metric)


def read_outputs(value: Any, count: int, key: str = "") -> list[Score]:
    """The scores in a server's answer.

    Args:
        value: the answer.
        count: how many images were asked about.
        key: where the numbers are; "": under `outputs` or `scores`.

    Returns:
        One score for each image.
    """
    if isinstance(value, dict) and (words := stated_error(value)):
        return [Score(None, words)] * count
    keys = [key] if key else [name for name in _KEYS if isinstance(value, dict) and name in value]
    if not isinstance(value, dict) or len(keys) != 1 or keys[0] not in value:
        return [Score(None, f"the answer has no {key or 'outputs or scores'}")] * count
    numbers = value[keys[0]]
    if isinstance(numbers, np.ndarray):
        numbers = numbers.tolist()
    if not isinstance(numbers, list | tuple):
        return [Score(None, f"{keys[0]} is no list")] * count
    if len(numbers) != count:  # nobody can say which one is missing
        return [Score(None, f"{len(numbers)} {keys[0]} for {count} images")] * count
    scores = []
    for number in numbers:
        known = finite_number(number)
        scores.append(Score(known) if known is not None else Score(None, f"{str(number)[:40]!r} is no finite number"))
    return scores


def make_flow_grpo(settings: RewardSettings) -> BaseReward:
    """The reward that `server` names.

    Args:
        settings: the reward's.

    Returns:
        The reward; nothing is asked yet. What `server_of` raises comes through.

    Raises:
        ConfigError: `accept_pickle` is not set, or the server is not on this machine.
    """
    server = server_of(settings)
    if not server.accept_pickle:
        raise ConfigError(
            "this server speaks pickles, which run programs where they are read",
            item=without_secrets(server.url),
            hint='"accept_pickle": true says that it is one of yours, on this machine. Its answers are read without '
            "running anything. Where it can be had, a server that speaks /score is better (docs/rewards.md).",
        )
    for address in server.urls():
        if not is_loopback(urlsplit(address).hostname or ""):
            raise ConfigError(
                "a server that speaks pickles is asked on this machine only",
                item=without_secrets(address),
                hint="http://127.0.0.1:PORT; from another machine: ssh -L PORT:127.0.0.1:PORT.",
            )
    return FlowGrpoReward(server, batch_size=settings.batch_size)


def _jpeg(image: GeneratedImage) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.pixels).save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue()
