"""What the routes of the server share: the model, its question and its home, and how a request is read and answered."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final

from fastapi import HTTPException

from annotate.vlm.batching import QueueFull
from annotate.vlm.contract import Answer, AskError, Backend, EncodedImage, Question
from sdg_data.blobs import Blobs
from sdg_data.picture.formats import read_header
from sdg_data.prompt_templates import Template
from sdg_data.store.connection import Store

MOST_PIXELS: Final = 40_000_000
"""The largest picture that is decoded for a request, by its header."""
_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]+);base64,(.*)", re.DOTALL)


@dataclass(frozen=True)
class Served:
    """A detector with its limits. Without `store` and `blobs`, images come in requests only."""

    backend: Backend
    template: Template
    max_tokens: int
    temperature: float
    store: Store | None = None
    blobs: Blobs | None = None
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Pictures are decoded one at a time: each may take hundreds of megabytes for a moment."""

    @property
    def about(self) -> dict[str, object]:
        """What `GET /health` says about the model: its name, the state of its weights, its template and settings."""
        identity = self.backend.identity
        return {
            "model": identity.model,
            "revision": identity.revision,
            "template": self.template.id,
            "template_sha256": self.template.sha256,
            "settings": identity.settings,
            "version": version("sdg-data"),
        }


async def answered(backend: Backend, question: Question) -> Answer:
    """Ask the model.

    Raises:
        HTTPException: 503 where the queue is full or memory runs out, 400 for a question that is longer than the model
            reads, 422 for one that cannot be answered.
    """
    try:
        return await backend.ask(question)
    except QueueFull as error:
        raise HTTPException(503, f"too many requests: {error}", {"retry-after": "1"}) from error
    except AskError as error:
        status = {"out-of-memory": 503, "too-long": 400}.get(error.code, 422)
        raise HTTPException(status, f"{error.code}: {error.message}") from error


async def prepared(served: Served, data: bytes, media_type: str) -> EncodedImage:
    """A picture as the model is sent it, decoded when its turn comes.

    Raises:
        ValueError: The bytes are no picture, one that the model does not take, or one of more than `MOST_PIXELS`.
    """
    header = read_header(data)
    pixels = header.stored_width * header.stored_height
    if pixels > MOST_PIXELS:
        raise ValueError(f"{header.width}x{header.height} are more pixels than the {MOST_PIXELS} that are read")
    async with served.decoding:
        return await asyncio.to_thread(served.backend.prepare, data, media_type)


async def image_of_url(served: Served, url: str) -> EncodedImage:
    """The image in a data URL. Nothing is fetched: a server that fetches what it is told opens its network.

    Raises:
        HTTPException: 400 where it is no data URL, or its bytes are no image.
    """
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise HTTPException(400, "images come as data URLs (data:image/png;base64,...); no other URL is fetched")
    try:
        data = base64.b64decode(match[2], validate=True)
        return await prepared(served, data, match[1])
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f"the image cannot be read: {error}") from error
