"""Any server that speaks OpenAI's chat completions: vLLM, SGLang, hosted Gemini and GPT, `sdg serve detector`.

The key comes from the environment, lives in a `SecretStr`, and is in no record, log or error. The SDK's own retries are
off, because `RetryingClient` makes and counts the tries.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
import pybase64
from pydantic import SecretStr

from annotate.vlm import structured
from annotate.vlm.contract import Answer, AskError, EncodedImage, Identity, Question
from annotate.vlm.families import codec_of, family_of, fit_image
from annotate.vlm.servers import parameters, server_of
from schemas.base import without_lone_surrogates
from schemas.codecs import AnswerCodec
from schemas.geometry import ImageSize
from sdg_data.chat_marks import without_marks
from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.settings import VlmSettings

if TYPE_CHECKING:
    import openai

_AGAIN: Final = frozenset({408, 409, 425, 429})
_FATAL: Final = frozenset({401, 403, 404})
_RAW_LENGTH: Final = 20_000
_NO_KEY: Final = "none"
_HERE: Final = f"image-{secrets.token_hex(16)}"
"""Stands for the image in a request's JSON until its bytes are put there; nobody else can know it."""

log = logging.getLogger(__name__)


class OpenAIBackend:
    """Asks one model on one server that speaks the OpenAI chat protocol."""

    local = False

    def __init__(self, settings: VlmSettings, *, environ: Mapping[str, str] | None = None) -> None:
        """Connect to nothing yet.

        Raises:
            ConfigError: The model or the key is missing.
            MissingDependency: The SDK is not installed.
        """
        if not settings.model:
            raise ConfigError("no model is named", item="openai", hint="--model NAME, as the server calls it.")
        self._settings = settings
        self._key = api_key(settings, os.environ if environ is None else environ)
        self._family = family_of(settings.model, settings.codec)
        self._server = server_of(settings)
        parameters(settings, settings.max_tokens)  # an error of the settings shows before anything is asked
        given = {"reasoning": settings.reasoning, "thinking_tokens": settings.thinking_tokens, "extra": settings.extra}
        self.identity = Identity(
            "openai",
            settings.model,
            settings.revision or "unknown",
            {
                "backend": "openai",
                "codec": self._family,
                "max_side": settings.max_side,
                "max_tokens": settings.max_tokens,
                "structured": settings.structured,
                "temperature": settings.temperature,
                **{name: value for name, value in given.items() if value not in ("", None, {})},
            },
        )
        self._answered_by: tuple[str, str] | None = None
        self._client: openai.AsyncOpenAI | None = None
        try:
            import httpx2  # the SDK's own transport
            import openai as sdk
        except ImportError as error:
            raise MissingDependency("openai is not installed", hint="pip install 'sdg-data[annotate]'") from error
        self._sdk, self._response_type = sdk, httpx2.Response

    def codec(self, size: ImageSize) -> AnswerCodec:
        """The codec of the family that the model belongs to."""
        return codec_of(self._family, size)

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """Encode an image in a size that the model's family takes, within the settings' `max_side`."""
        return fit_image(data, media_type, family=self._family, max_side=self._settings.max_side)

    async def ask(self, question: Question) -> Answer:
        """Send a question to the server as a chat completion; its errors become an `AskError` with a code."""
        sdk = self._sdk
        started = time.monotonic()
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": self._messages(question),
            **parameters(self._settings, question.max_tokens or self._settings.max_tokens),
        }
        if self._settings.structured:
            body["response_format"] = structured.response_format()
        try:
            # The SDK's way to a path by name: `chat.completions.create` first walks the whole body by its type hints,
            # which costs a third of all the time that a request takes here.
            response = await self._connected().post(
                "/chat/completions",
                cast_to=self._response_type,
                content=_with_image(orjson.dumps(body), question.image),
                options={"headers": {"content-type": "application/json"}},
            )
        except sdk.APIStatusError as error:
            raise _status_error(error.status_code, self._clean(error.response.text), error.response.headers) from None
        except sdk.APIConnectionError as error:
            reason = f"{type(error.__cause__).__name__}: {error.__cause__}" if error.__cause__ else str(error)
            raise AskError("connection", self._clean(reason), transient=True) from error
        except sdk.OpenAIError as error:
            raise AskError("bad-response", f"{type(error).__name__}: {error}"[:500]) from error
        return self._answer(self._clean(response.text), time.monotonic() - started)

    async def close(self) -> None:
        """Close the connections to the server, if any were opened."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _connected(self) -> openai.AsyncOpenAI:
        """The client, made on the loop that uses it."""
        if self._client is None:
            self._client = self._sdk.AsyncOpenAI(
                api_key=self._key.get_secret_value(),
                base_url=self._settings.base_url or None,
                max_retries=0,
                # `RetryingClient` has the deadline; this only ends a connection that was forgotten.
                timeout=self._settings.deadline + 60,
            )
        return self._client

    def _clean(self, text: str) -> str:
        """The text without the key, in case a server repeats it in its reply."""
        key = self._key.get_secret_value()
        return text.replace(key, "***") if len(key) > len(_NO_KEY) else text

    def _messages(self, question: Question) -> list[Any]:
        text = _sendable(question.text)
        if self._settings.structured:
            text = f"{text}\n\n{structured.INSTRUCTION}"
        parts = [{"type": "image_url", "image_url": {"url": _HERE}}, {"type": "text", "text": text}]
        first = {"role": "user", "content": parts if question.image_first else parts[::-1]}
        return [first, *({"role": turn.role, "content": _sendable(turn.text)} for turn in question.more)]

    def _check_who_answered(self, model: str, fingerprint: str, *, raw: str) -> None:
        """Remember the model behind the first reply; raises AskError for a reply of another one."""
        now = (model, fingerprint if self._server.own else "")
        if self._answered_by is None:
            self._answered_by = now
            if model and model.rpartition("/")[2].lower() != self._settings.model.rpartition("/")[2].lower():
                log.warning("asked for %s, the server answers as %s", self._settings.model, model)
        elif now != self._answered_by:
            before = " ".join(part for part in self._answered_by if part)
            raise AskError(
                "other-model",
                f"another model answers now: {' '.join(part for part in now if part)}, before it was {before}",
                raw=raw,
                fatal=True,
            )

    def _answer(self, body: str, seconds: float) -> Answer:
        """Read the answer here and not by the SDK, which takes any JSON for a completion."""
        try:
            value = json.loads(body)
            choice, *others = value["choices"]
            message, finish = choice["message"], choice.get("finish_reason") or "stop"
            content, refusal = message.get("content"), message.get("refusal")
            usage = value.get("usage") or {}
            tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
            answered_by = (str(value.get("model") or ""), str(value.get("system_fingerprint") or ""))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise AskError("bad-response", f"no chat completion ({error})", raw=body[:_RAW_LENGTH]) from error
        if others:
            raise AskError(
                "bad-response", f"{1 + len(others)} choices, where one was asked for", raw=body[:_RAW_LENGTH]
            )
        self._check_who_answered(*answered_by, raw=body[:_RAW_LENGTH])
        if isinstance(refusal, str) and refusal:
            raise AskError("refused", refusal[:500], raw=body[:_RAW_LENGTH])
        if finish == "content_filter":
            raise AskError("refused", "stopped by the server's content filter", raw=body[:_RAW_LENGTH])
        if content is None:
            content = ""
        if not isinstance(content, str) or not all(token is None or isinstance(token, int) for token in tokens):
            raise AskError("bad-response", "a completion that is no text", raw=body[:_RAW_LENGTH])
        if finish == "length" and not content.strip():
            empty = AskError(
                "length-without-answer",
                f"all {tokens[1] or ''} tokens went by without an answer: a model that thinks needs more room "
                "(thinking_tokens), or less effort (reasoning)",
                raw=body[:_RAW_LENGTH],
            )
            empty.tokens_in, empty.tokens_out = tokens
            raise empty
        return Answer(
            text=structured.as_text(content) if self._settings.structured else content,
            finish=str(finish),
            tokens_in=tokens[0],
            tokens_out=tokens[1],
            seconds=seconds,
            raw=content if self._settings.structured else None,
        )


def _sendable(text: str) -> str:
    """A text as it can be sent: no special tokens, no halves of characters (which no JSON of theirs can hold)."""
    return without_marks(without_lone_surrogates(text))


def _with_image(frame: bytes, image: EncodedImage) -> bytes:
    """A request's JSON with the image in its place, put together without copying the image through Python strings."""
    before, _, after = frame.partition(_HERE.encode())
    return b"".join((before, f"data:{image.media_type};base64,".encode(), pybase64.b64encode(image.data), after))


def api_key(settings: VlmSettings, environ: Mapping[str, str]) -> SecretStr:
    """The key from the environment; "none" for a server of one's own that asks for none.

    Raises:
        ConfigError: A hosted server (no `base_url`, or one by https) has no key.
    """
    key = environ.get(settings.api_key_env, "")
    if not key and (not settings.base_url or settings.base_url.startswith("https://")):
        raise ConfigError(
            "there is no key for the server",
            item=settings.base_url or "api.openai.com",
            hint=f"Put it into the environment variable {settings.api_key_env}, or name another one with api_key_env.",
        )
    return SecretStr(key or _NO_KEY)


def _status_error(status: int, body: str, headers: Mapping[str, str]) -> AskError:
    code = {429: "rate-limited", 400: "bad-request", 413: "bad-request", 422: "bad-request"}.get(
        status, f"http-{status}"
    )
    again = status in _AGAIN or status >= 500
    return AskError(
        "server-error" if status >= 500 else code,
        f"HTTP {status}: {' '.join(body.split())[:300]}",
        raw=body[:_RAW_LENGTH],
        transient=again,
        fatal=status in _FATAL,
        retry_after=retry_after(headers) if again else None,
    )


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """The seconds that a server asks to wait, as a number or a date; None where it says nothing readable."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text).timestamp()
        except (ValueError, TypeError, OverflowError):
            return None
        seconds = moment - (time.time() if now is None else now)
    return max(0.0, seconds) if math.isfinite(seconds) else None
