"""OpenAI's chat completions, as far as a detector needs them: one image, text, no streaming, one choice.

The client writes the whole question (`sdg_data.prompt_templates`; GET /health says which template the model was trained
with). A field that cannot be honoured is refused with 400, never ignored.
"""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from annotate.serve.served import Served, answered, image_of_url, read_body
from annotate.vlm.contract import Question, Turn
from schemas.base import without_lone_surrogates

MAX_TEXT: Final = 65_536
"""The longest conversation, in characters: ten times what the longest of our own questions takes."""
_MOST_MESSAGES: Final = 64
_MOST_PARTS: Final = 8


class _Url(BaseModel):
    url: str


class _Part(BaseModel):
    type: Literal["text", "image_url"]
    text: str = ""
    image_url: _Url | None = None


class _Message(BaseModel):
    role: Literal["user", "assistant"]
    content: str | Annotated[list[_Part], Field(max_length=_MOST_PARTS)]


class ChatRequest(BaseModel):
    """The fields of a request that have a meaning here; others are refused by name."""

    model_config = ConfigDict(extra="forbid")

    model: str = ""
    messages: list[_Message] = Field(min_length=1, max_length=_MOST_MESSAGES)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = None
    n: Literal[1] = 1
    stream: Literal[False] = False
    user: str | None = None


def chat_router(served: Served) -> APIRouter:
    """Make the routes under `/v1` by which an OpenAI client asks the served model."""
    router = APIRouter(prefix="/v1")
    backend = served.backend

    @router.get("/models")
    async def models() -> dict[str, Any]:
        entry = {"id": backend.identity.model, "object": "model", "created": 0, "owned_by": "sdg-data"}
        return {"object": "list", "data": [entry]}

    @router.post("/chat/completions")
    async def completions(request: Request) -> dict[str, Any]:
        completion = await read_body(served, await request.body(), ChatRequest)
        if completion.temperature is not None and completion.temperature != served.temperature:
            raise HTTPException(400, f"this server answers with temperature {served.temperature:g}, not another")
        limit = completion.max_completion_tokens or completion.max_tokens or served.max_tokens
        text, url, image_first, more = _conversation(completion.messages)
        length = len(text) + sum(len(turn.text) for turn in more)
        if length > MAX_TEXT:
            raise HTTPException(400, f"{length} characters of text, more than the {MAX_TEXT} that are read")
        question = Question(
            text=text,
            image=await image_of_url(served, url),
            prompt="",
            image_first=image_first,
            more=more,
            max_tokens=min(limit, served.max_tokens),
        )
        answer = await answered(backend, question)
        tokens_in, tokens_out = answer.tokens_in or 0, answer.tokens_out or 0
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": backend.identity.model,
            "system_fingerprint": f"{backend.identity.revision}:{served.template.sha256[:12]}",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": without_lone_surrogates(answer.text)},
                    "finish_reason": answer.finish,
                }
            ],
            "usage": {
                "prompt_tokens": tokens_in,
                "completion_tokens": tokens_out,
                "total_tokens": tokens_in + tokens_out,
            },
        }

    return router


def _conversation(messages: list[_Message]) -> tuple[str, str, bool, tuple[Turn, ...]]:
    """(text, the image's URL, whether the image stands first, later turns). HTTPException 400 for anything else."""
    first, later = messages[0], messages[1:]
    parts = first.content if isinstance(first.content, list) else []
    texts = [part.text for part in parts if part.type == "text"]
    urls = [part.image_url.url for part in parts if part.type == "image_url" and part.image_url is not None]
    if first.role != "user" or len(texts) != 1 or len(urls) != 1 or len(parts) != 2:
        raise HTTPException(400, "the first message is a user's, of one image_url part and one text part")
    turns = []
    for index, message in enumerate(later):
        if not isinstance(message.content, str) or message.role != ("user" if index % 2 else "assistant"):
            raise HTTPException(400, "later messages are text, assistant and user in turn")
        turns.append(Turn(message.role, without_lone_surrogates(message.content)))
    if len(turns) % 2:
        raise HTTPException(400, "the last message is a user's")
    return without_lone_surrogates(texts[0]), urls[0], parts[0].type == "image_url", tuple(turns)
