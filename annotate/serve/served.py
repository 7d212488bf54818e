"""What the routes of the server share: the model, its question and its home, and how a request is read and answered."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final, TypeVar

from fastapi import HTTPException
from pydantic import BaseModel, ValidationError

from annotate.vlm.batching import QueueFull
from annotate.vlm.contract import Answer, AskError, Backend, EncodedImage, Question
from sdg_data.blobs import Blobs
from sdg_data.picture.formats import read_header
from sdg_data.prompt_templates import Template
from sdg_data.store.connection import Store

MOST_PIXELS: Final = 40_000_000
"""The largest picture that is decoded for a request, by its header."""
MOST_VALUES: Final = 100_000
"""The most values in a body of JSON: a hundred times what the largest of our own requests has."""
SMALL_BODY: Final = 4 * 2**20
"""Bytes of a body, or characters of an image's URL, that do not wait for larger ones."""
SMALL_PICTURE: Final = 2**21
"""Pixels of a picture that does not wait for larger ones."""
_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]{1,100});base64,")

BodyT = TypeVar("BodyT", bound=BaseModel)


@dataclass(frozen=True)
class Served:
    """A detector with its limits. Without `store` and `blobs`, images come in requests only."""

    backend: Backend
    template: Template
    max_tokens: int
    temperature: float
    store: Store | None = None
    blobs: Blobs | None = None
    small: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Bodies are read and pictures decoded one at a time, since each may take hundreds of megabytes for a moment; small
    ones go by the large ones."""

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
    """Ask the model, and turn its refusals into HTTP errors.

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


def _turn(served: Served, size: int, limit: int) -> asyncio.Semaphore:
    return served.small if size <= limit else served.large


async def read_body(served: Served, body: bytes, kind: type[BodyT]) -> BodyT:
    """A request's body as a record.

    Raises:
        HTTPException: 400 where it is no JSON, has too many values, or is no such record.
    """
    # What a value of JSON takes as an object is a hundred times its bytes. Strings may hold these signs too.
    values = sum(body.count(sign) for sign in (b"[", b"{", b","))
    if values > MOST_VALUES:
        raise HTTPException(400, f"the body has more than {MOST_VALUES} values")
    async with _turn(served, len(body), SMALL_BODY):
        return await asyncio.to_thread(_read_body, body, kind)


def _read_body(body: bytes, kind: type[BodyT]) -> BodyT:
    try:
        return kind.model_validate(json.loads(body))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()[:5]]
        raise HTTPException(400, "; ".join(lines)[:2000]) from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is no JSON: {error}"[:2000]) from error


async def prepared(served: Served, data: bytes, media_type: str) -> EncodedImage:
    """A picture as the model is sent it, decoded when its turn comes.

    Raises:
        ValueError: The bytes are no picture, one that the model does not take, or one of more than `MOST_PIXELS`.
    """
    header = read_header(data)
    pixels = header.stored_width * header.stored_height
    if pixels > MOST_PIXELS:
        raise ValueError(f"{header.width}x{header.height} are more pixels than the {MOST_PIXELS} that are read")
    async with _turn(served, pixels, SMALL_PICTURE):
        return await asyncio.to_thread(served.backend.prepare, data, media_type)


async def image_of_url(served: Served, url: str) -> EncodedImage:
    """The image in a data URL. Nothing is fetched: a server that fetches what it is told opens its network.

    Raises:
        HTTPException: 400 where it is no data URL, or its bytes are no image.
    """
    match = _DATA_URL.match(url)
    if match is None:
        raise HTTPException(400, "images come as data URLs (data:image/png;base64,...); no other URL is fetched")
    try:
        async with _turn(served, len(url), SMALL_BODY):
            data = await asyncio.to_thread(base64.b64decode, url[match.end() :], validate=True)
        return await prepared(served, data, match[1])
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f"the image cannot be read: {error}") from error
