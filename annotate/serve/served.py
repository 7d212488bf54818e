"""What the routes of the server share: the model, its question and its home, and how a request is read and answered."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from dataclasses import dataclass
from importlib.metadata import version

from fastapi import HTTPException

from annotate.vlm.batching import QueueFull
from annotate.vlm.contract import Answer, AskError, Backend, EncodedImage, Question
from sdg_data.blobs import Blobs
from sdg_data.prompt_templates import Template
from sdg_data.store.connection import Store

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
        HTTPException: 503 where the queue is full or memory runs out, 422 for a question that cannot be answered.
    """
    try:
        return await backend.ask(question)
    except QueueFull as error:
        raise HTTPException(503, f"too many requests: {error}", {"retry-after": "1"}) from error
    except AskError as error:
        status = 503 if error.code == "out-of-memory" else 422
        raise HTTPException(status, f"{error.code}: {error.message}") from error


async def image_of_url(backend: Backend, url: str) -> EncodedImage:
    """The image in a data URL. Nothing is fetched: a server that fetches what it is told opens its network.

    Raises:
        HTTPException: 400 where it is no data URL, or its bytes are no image.
    """
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise HTTPException(400, "images come as data URLs (data:image/png;base64,...); no other URL is fetched")
    try:
        data = base64.b64decode(match[2], validate=True)
        return await asyncio.to_thread(backend.prepare, data, match[1])
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f"the image cannot be read: {error}") from error
