"""The HTTP server of rewards: POST /score, GET /rewards, GET /health (the wire is that of `trainers.rewards.wire`).

A picture that cannot be read, a reward that died, hung or gave no finite number: an error at its place in `errors`, and
no result. Nothing else of the request is touched by it. Bodies are bounded before they are read (`annotate.serve.
admission`); pictures are decoded a batch at a time.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, SecretStr

from annotate.serve.application import bare_application
from sdg_data.picture import PictureError, decode_pixels
from trainers.rewards.contract import Pixels
from trainers.rewards.serving.process import RewardProcess

MOST_REQUESTS = 4096
"""Pictures of one body."""


class PromptedPicture(BaseModel):
    """A prompt and its picture."""

    text: str
    image_b64: str | None = None


class ScoreItem(BaseModel):
    """What is asked about one picture, that of the last turn."""

    history: list[PromptedPicture]
    required_rewards: list[str]


class ScoreBody(BaseModel):
    """The body of a request."""

    requests: list[ScoreItem]


def make_app(
    rewards: Mapping[str, RewardProcess], *, token: SecretStr | None = None, max_body: int, max_buffered: int
) -> FastAPI:
    """The application.

    Args:
        rewards: processes by name; they are started and stopped elsewhere.
        token: that clients must send; None: none.
        max_body: bytes of a request.
        max_buffered: bytes of all requests that are being read or answered.

    Returns:
        The application.
    """

    app = bare_application("rewards", token=token, malformed_status=422, max_body=max_body, max_buffered=max_buffered)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        well = all(reward.state == "ready" for reward in rewards.values())
        return {
            "status": "ok" if well else "degraded",
            "rewards": {name: about(reward) for name, reward in rewards.items()},
        }

    @app.get("/rewards")
    async def names() -> dict[str, Any]:
        return {"rewards": list(rewards), "facts": {name: facts(reward) for name, reward in rewards.items()}}

    @app.post("/score")
    async def score(body: ScoreBody) -> dict[str, Any]:
        if len(body.requests) > MOST_REQUESTS:
            raise HTTPException(413, f"more than {MOST_REQUESTS} requests in one body")
        unknown = sorted({name for item in body.requests for name in item.required_rewards} - rewards.keys())
        if unknown:
            raise HTTPException(400, f"unknown reward: {', '.join(unknown)[:200]}. available: {', '.join(rewards)}")
        results: list[dict[str, dict[str, float]]] = [{} for _ in body.requests]
        errors: list[dict[str, str]] = [{} for _ in body.requests]
        asked = {
            name: [place for place, item in enumerate(body.requests) if name in item.required_rewards]
            for name in rewards
        }
        work = [
            _score(rewards[name], body.requests, places, results, errors) for name, places in asked.items() if places
        ]
        await asyncio.gather(*work)
        return {"results": results, "errors": errors}

    return app


def about(reward: RewardProcess) -> dict[str, Any]:
    """How a reward is, for /health."""
    values = {"state": reward.state, "version": reward.version, "waiting": reward.waiting, "answered": reward.answered}
    return {**values, "restarted": reward.restarted, **({"reason": reward.reason} if reward.reason else {})}


def facts(reward: RewardProcess) -> dict[str, Any]:
    """What a reward's figures mean, as far as it is known, with the version that runs."""
    known = reward.settings.facts
    return {**({} if known is None else known.as_json()), "running": reward.version}


async def _score(
    reward: RewardProcess,
    items: Sequence[ScoreItem],
    places: Sequence[int],
    results: list[dict[str, dict[str, float]]],
    errors: list[dict[str, str]],
) -> None:
    """Score the pictures at some places by one reward, and write down numbers and errors there."""
    size = reward.settings.batch_size
    for start in range(0, len(places), size):
        batch = [(place, items[place]) for place in places[start : start + size]]
        pictures = await asyncio.to_thread(_pictures, [item for _, item in batch])
        good = [
            (place, item, picture)
            for (place, item), picture in zip(batch, pictures, strict=True)
            if not isinstance(picture, str)
        ]
        for (place, _), picture in zip(batch, pictures, strict=True):
            if isinstance(picture, str):
                errors[place][reward.name] = picture
        if not good:
            continue
        scores = await reward.score([picture for _, _, picture in good], [item.history[-1].text for _, item, _ in good])
        for (place, _, _), score in zip(good, scores, strict=True):
            if isinstance(score, str):
                errors[place][reward.name] = score
                continue
            numbers = {name or reward.name: value for name, value in score.items()}
            if numbers and all(value is not None for value in numbers.values()):
                results[place][reward.name] = {name: value for name, value in numbers.items() if value is not None}
            else:
                errors[place][reward.name] = "no finite number"


def _pictures(items: Sequence[ScoreItem]) -> list[Pixels | str]:
    return [_picture(item) for item in items]


def _picture(item: ScoreItem) -> Pixels | str:
    """The pixels of an item's picture, or why there are none."""
    if not item.history or item.history[-1].image_b64 is None:
        return "no picture in the last turn of history"
    try:
        data = base64.b64decode(item.history[-1].image_b64, validate=True)
        return decode_pixels(data)
    except PictureError as error:
        return f"no picture: {error}"
    except (binascii.Error, ValueError) as error:
        return f"no base64 of a picture ({str(error)[:80]})"
