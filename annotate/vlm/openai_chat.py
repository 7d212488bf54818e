"""Any server that speaks OpenAI's chat completions: vLLM, SGLang, hosted Gemini and GPT, `sdg serve detector`.

The key comes from the environment, lives in a `SecretStr`, and is in no record, log or error. The SDK's own retries are
off, because `RetryingClient` makes and counts the tries.
"""

from __future__ import annotations

import base64
import json
import math
import os
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import SecretStr

from annotate.vlm import structured
from annotate.vlm.contract import Answer, AskError, EncodedImage, Identity, Question
from annotate.vlm.families import codec_of, family_of, fit_image
from schemas.codecs import AnswerCodec
from schemas.geometry import ImageSize
from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.settings import VlmSettings

if TYPE_CHECKING:
    import openai

_AGAIN: Final = frozenset({408, 409, 425, 429})
_FATAL: Final = frozenset({401, 403, 404})
_RAW_LENGTH: Final = 20_000
_NO_KEY: Final = "none"


class OpenAIBackend:
    """Asks one model on one server."""

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
            },
        )
        self._client: openai.AsyncOpenAI | None = None
        try:
            import httpx2  # the SDK's own transport
            import openai as sdk
        except ImportError as error:
            raise MissingDependency("openai is not installed", hint="pip install 'sdg-data[annotate]'") from error
        self._sdk, self._response_type = sdk, httpx2.Response

    def codec(self, size: ImageSize) -> AnswerCodec:
        """See `Backend`."""
        return codec_of(self._family, size)

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """See `Backend`."""
        return fit_image(data, media_type, family=self._family, max_side=self._settings.max_side)

    async def ask(self, question: Question) -> Answer:
        """See `Backend`."""
        sdk = self._sdk
        started = time.monotonic()
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": self._messages(question),
            "temperature": self._settings.temperature,
            "max_tokens": question.max_tokens or self._settings.max_tokens,
        }
        if self._settings.structured:
            body["response_format"] = structured.response_format()
        try:
            # The SDK's way to a path by name: `chat.completions.create` first walks the whole body by its type hints,
            # which costs a third of all the time that a request takes here.
            response = await self._connected().post(
                "/chat/completions",
                cast_to=self._response_type,
                content=orjson.dumps(body),
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
        """See `Backend`."""
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
        image = question.image
        url = f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"
        text = f"{question.text}\n\n{structured.INSTRUCTION}" if self._settings.structured else question.text
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
        first = {"role": "user", "content": parts if question.image_first else parts[::-1]}
        return [first, *({"role": turn.role, "content": turn.text} for turn in question.more)]

    def _answer(self, body: str, seconds: float) -> Answer:
        """Read the answer here and not by the SDK, which takes any JSON for a completion."""
        try:
            value = json.loads(body)
            choice = value["choices"][0]
            message, finish = choice["message"], choice.get("finish_reason") or "stop"
            content, refusal = message.get("content"), message.get("refusal")
            usage = value.get("usage") or {}
            tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise AskError("bad-response", f"no chat completion ({error})", raw=body[:_RAW_LENGTH]) from error
        if isinstance(refusal, str) and refusal:
            raise AskError("refused", refusal[:500], raw=body[:_RAW_LENGTH])
        if finish == "content_filter":
            raise AskError("refused", "stopped by the server's content filter", raw=body[:_RAW_LENGTH])
        if content is None:
            content = ""
        if not isinstance(content, str) or not all(token is None or isinstance(token, int) for token in tokens):
            raise AskError("bad-response", "a completion that is no text", raw=body[:_RAW_LENGTH])
        return Answer(
            text=structured.as_text(content) if self._settings.structured else content,
            finish=str(finish),
            tokens_in=tokens[0],
            tokens_out=tokens[1],
            seconds=seconds,
            raw=content if self._settings.structured else None,
        )


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
