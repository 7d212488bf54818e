"""The wire of reward servers: the form of POST /score, as UniRL's reward service speaks it.

    {"requests": [{"history": [{"text": PROMPT, "image_b64": IMAGE}], "required_rewards": [NAME]}]}
    {"results": [{NAME: {METRIC: NUMBER}}], "errors": [{NAME: TEXT}]}

(Tencent-Hunyuan/UniRL, unirl-reward-service/reward_service/schemas.py.) A result and an error belong to the request at
the same place. A number that is null, NaN, infinite, text or not there is a missing answer, never 0; so is one that an
error stands beside, in whatever form: a server in trouble likes to fill its results with zeros.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from generators.images import GeneratedImage
from sdg_data.json_values import finite_number
from trainers.rewards.contract import Score

_WHOLE = ("error", "detail")
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
    errors = answer.get("errors") or [None] * count
    words = stated_error(answer)
    if not words and (not isinstance(errors, list) or len(errors) != count):
        words = f"errors that belong to no image: {_one_line(errors)}"  # nobody can say which one they are about
    if words:
        return [Score(None, words)] * count
    return [_score(result, error, reward, metric or reward) for result, error in zip(results, errors, strict=True)]


def stated_error(answer: Mapping[str, Any]) -> str:
    """What an answer says of an error as a whole, beside whatever numbers it has; "" where it says nothing."""
    words = next((answer[key] for key in _WHOLE if answer.get(key)), None)
    return "" if words is None else _one_line(words)


def _one_line(words: Any) -> str:
    return " ".join(str("" if words is None else words).split())[:MOST_REASON] or "an error without a word"


def _score(result: Any, error: Any, reward: str, metric: str) -> Score:
    if error:  # one reward was asked for: whatever is said here is about it
        return Score(None, _one_line(error[reward] if isinstance(error, dict) and reward in error else error))
    table = result.get(reward) if isinstance(result, dict) else None
    if not isinstance(table, dict) or not table:
        return Score(None, f"no numbers of {reward}")
    if metric not in table:
        if metric != reward or len(table) > 1:
            return Score(None, f"no number {metric} of {reward}; there are {', '.join(map(str, table))}"[:MOST_REASON])
        metric = next(iter(table))
    value = finite_number(table[metric])
    if value is None:
        return Score(None, f"{reward} is {str(table[metric])[:40]!r}, no finite number")
    numbers = {name: finite_number(other) for name, other in table.items()}
    parts = {name: number for name, number in numbers.items() if number is not None} if len(table) > 1 else {}
    return Score(value, parts=parts)
