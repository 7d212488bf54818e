"""The wire of reward servers: the form of POST /score, as UniRL's reward service speaks it.

    {"requests": [{"history": [{"text": PROMPT, "image_b64": IMAGE}], "required_rewards": [NAME]}]}
    {"results": [{NAME: {METRIC: NUMBER}}], "errors": [{NAME: TEXT}]}

(Tencent-Hunyuan/UniRL, unirl-reward-service/reward_service/schemas.py.) A result and an error belong to the request at
the same place. A number that is null, NaN, infinite, text or not there is a missing answer, never 0; so is one that an
error stands beside.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from typing import Any

from generators.images import GeneratedImage
from trainers.rewards.contract import Score

MOST_REASON = 300
"""Characters of a server's own words that are kept."""


def score_request(images: Sequence[GeneratedImage], reward: str) -> bytes:
    """The body of a request that asks for one reward of each image; pixels are sent as they are, in PNG."""
    requests = [
        {
            "history": [{"text": image.prompt, "image_b64": base64.b64encode(image.png()).decode()}],
            "required_rewards": [reward],
            "metadata": None,
        }
        for image in images
    ]
    return json.dumps({"requests": requests}).encode()


def read_scores(body: str, count: int, reward: str, metric: str = "") -> list[Score]:
    """Read a server's answer.

    Args:
        body: the answer's body.
        count: how many images were asked about.
        reward: the reward's name at the server.
        metric: the number that counts, of several; "": the one that has the reward's name, or the only one.

    Returns:
        One score for each image, without a value and with a reason where there is no number that can be believed.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return [Score(None, "the answer is no JSON")] * count
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list):
        return [Score(None, "the answer has no list of results")] * count
    if len(results) != count:  # nobody can say which one is missing
        return [Score(None, f"{len(results)} results for {count} images")] * count
    errors = answer.get("errors")
    if not isinstance(errors, list) or len(errors) != count:
        errors = [{}] * count
    return [_score(result, error, reward, metric or reward) for result, error in zip(results, errors, strict=True)]


def number_of(value: Any) -> float | None:
    """A number that can be believed; None for everything else: null, NaN, infinity, text, true."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _score(result: Any, error: Any, reward: str, metric: str) -> Score:
    if isinstance(error, dict) and reward in error:
        return Score(None, " ".join(str(error[reward]).split())[:MOST_REASON] or "an error without a word")
    table = result.get(reward) if isinstance(result, dict) else None
    if not isinstance(table, dict) or not table:
        return Score(None, f"no numbers of {reward}")
    if metric not in table:
        if metric != reward or len(table) > 1:
            return Score(None, f"no number {metric} of {reward}; there are {', '.join(map(str, table))}"[:MOST_REASON])
        metric = next(iter(table))
    value = number_of(table[metric])
    if value is None:
        return Score(None, f"{reward} is {str(table[metric])[:40]!r}, no finite number")
    numbers = {name: number_of(other) for name, other in table.items()}
    parts = {name: number for name, number in numbers.items() if number is not None} if len(table) > 1 else {}
    return Score(value, parts=parts)
