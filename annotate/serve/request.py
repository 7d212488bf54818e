"""One question from a request, and what its failure is in HTTP."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re

from fastapi import HTTPException

from annotate.vlm.batching import QueueFull
from annotate.vlm.contract import Answer, AskError, Backend, EncodedImage, Question

_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]+);base64,(.*)", re.DOTALL)


async def answered(backend: Backend, question: Question) -> Answer:
    """The answer. Raises HTTPException: 503 where the queue is full, 422 for a question that cannot be answered."""
    try:
        return await backend.ask(question)
    except QueueFull as error:
        raise HTTPException(503, f"too many requests: {error}", {"retry-after": "1"}) from error
    except AskError as error:
        status = 503 if error.code == "out-of-memory" else 422
        raise HTTPException(status, f"{error.code}: {error.message}") from error


async def image_of_url(backend: Backend, url: str) -> EncodedImage:
    """The image in a data URL. Nothing is fetched: a server that fetches what it is told opens its network.

    Raises HTTPException 400.
    """
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise HTTPException(400, "images come as data URLs (data:image/png;base64,...); no other URL is fetched")
    try:
        data = base64.b64decode(match[2], validate=True)
        return await asyncio.to_thread(backend.prepare, data, match[1])
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f"the image cannot be read: {error}") from error
