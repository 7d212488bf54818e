"""The contract of all backends: a question about an image, and its answer or the reason why there is none.

A backend answers one question, or raises an `AskError`. It does not retry, wait or count, which
`annotate.vlm.retrying.RetryingClient` does for all of them, nor judge an answer, which `schemas.answer` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from schemas.codecs import AnswerCodec
from schemas.geometry import ImageSize
from schemas.records import AnnotatedDefect


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as it is sent to a model: encoded bytes, their media type, and its size in pixels.

    `path` is a file that holds these bytes, where there is one on this machine.
    """

    data: bytes
    media_type: str
    size: ImageSize
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A later message of a conversation; `role` is "user" or "assistant"."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """One image and what is asked about it.

    `prompt` is the image's prompt, which also stands in `text`; only backends that read no text use it. The same holds
    for `known`, the defects that an enrichment is about. `more` continues the conversation after the first answer.
    """

    text: str
    image: EncodedImage
    prompt: str
    image_first: bool = True
    more: tuple[Turn, ...] = ()
    known: tuple[AnnotatedDefect, ...] | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer. `finish` is "stop", "length" or the server's own word; `requests` counts the tries.

    `text` is what `schemas.answer` reads. `raw` is what the server sent, where that is something else (structured
    output).
    """

    text: str
    finish: str = "stop"
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float | None = None
    requests: int = 1
    raw: str | None = None

    @property
    def hit_length(self) -> bool:
        """Whether the answer was cut off because generation reached its limit of tokens."""
        return self.finish == "length"


class AskError(Exception):
    """The reason why a question has no answer.

    `code` is the reason that is recorded: timeout, connection, rate-limited, server-error, http-NNN, bad-request,
    bad-response, refused, out-of-memory, model-error, too-long, length-without-answer, other-model. `transient`: asking
    again may help; `fatal`: no other question will be answered either. `retry_after` in seconds, as the server asked.
    `raw` is what came, if anything did; `tokens_in` and `tokens_out` what the server counted.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        raw: str | None = None,
        transient: bool = False,
        fatal: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.raw = raw
        self.transient = transient
        self.fatal = fatal
        self.retry_after = retry_after
        self.requests = 1
        self.seconds: float | None = None
        self.tokens_in: int | None = None
        self.tokens_out: int | None = None


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens read and written."""

    per_million_in: float
    per_million_out: float

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """The cost of so many tokens of questions and of answers, in US dollars."""
        return (tokens_in * self.per_million_in + tokens_out * self.per_million_out) / 1_000_000


@dataclass(frozen=True)
class Identity:
    """The key that answers are filed under: backend, model, revision, and all settings that shape an answer.

    `template` is the one that the model was trained with, None where it was trained for none in particular.
    """

    backend: str
    model: str
    revision: str
    settings: dict[str, Any] = field(default_factory=dict)
    template: str | None = None


class Backend(Protocol):
    """A way to ask a model. `local`: the model is on this machine, so that waiting for it is no time-out."""

    identity: Identity
    local: bool

    def codec(self, size: ImageSize) -> AnswerCodec:
        """How the model writes boxes on a image of this size (as sent)."""

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """An image as the model expects it.

        Raises:
            ValueError: The bytes are no image.
        """

    async def ask(self, question: Question) -> Answer:
        """Ask the model one question.

        Raises:
            AskError: There is no answer.
        """

    async def close(self) -> None:
        """Close connections, end threads and free the memory of models."""
