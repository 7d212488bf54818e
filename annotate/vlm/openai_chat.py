"""Any server that speaks OpenAI's chat completions: vLLM, SGLang, hosted Gemini and GPT, `sdg serve detector`.

The key comes from the environment, lives in a `SecretStr`, and is in no record, log or error. `RetryingClient` makes
and counts the tries, `annotate.vlm.transport` sends. Where several addresses are given, `annotate.vlm.pool` says which
is asked next, so that a question that is tried again goes to another server.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson
from pydantic import SecretStr

from annotate.vlm import structured
from annotate.vlm.contract import Answer, AskError, EncodedImage, Identity, Question
from annotate.vlm.families import codec_of, family_of, fit_image
from annotate.vlm.pool import PoolTimes, ServerPool
from annotate.vlm.replies import RAW_LENGTH, Completion, is_name_of, read_completion, status_error
from annotate.vlm.servers import addresses, parameters, server_of
from schemas.answer.text import escape_trace
from schemas.base import without_lone_surrogates
from schemas.codecs import AnswerCodec
from schemas.geometry import ImageSize
from sdg_data.chat_marks import without_marks
from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.settings import VlmSettings
from sdg_data.web_addresses import without_secrets

_NO_KEY: Final = "none"

log = logging.getLogger(__name__)


class OpenAIBackend:
    """Asks one model on one server that speaks the OpenAI chat protocol."""

    local = False

    def __init__(
        self, settings: VlmSettings, *, environ: Mapping[str, str] | None = None, times: PoolTimes | None = None
    ) -> None:
        """Connect to nothing yet.

        Args:
            settings: The model, its servers, and how it is asked.
            environ: Stands in for the environment in tests.
            times: How long is waited for one of several servers.

        Raises:
            ConfigError: The model or the key is missing, or the settings ask for what the server does not take.
            MissingDependency: aiohttp is not installed.
        """
        if not settings.model:
            raise ConfigError("no model is named", item="openai", hint="--model NAME, as the server calls it.")
        environ = os.environ if environ is None else environ
        self._settings = settings
        self._key = api_key(settings, environ)
        self.pool = ServerPool(addresses(settings, environ), self._look, deadline=settings.deadline, times=times)
        self._family = family_of(settings.model, settings.codec)
        self._server = server_of(settings)
        parameters(settings, settings.max_tokens)  # an error of the settings shows before anything is asked
        if settings.send_images == "file" and not self._server.files:
            raise ConfigError(
                f"it is not known that the server {self._server.name!r} opens files",
                item=without_secrets(settings.base_url),
                hint='send_images = "file" needs a server on this machine that opens file:// addresses, and its name: '
                'server = "vllm", started with --allowed-local-media-path.',
            )
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
                **({"image": f"{settings.image_format}:{settings.image_quality}"} if settings.image_format else {}),
            },
        )
        self._answered_by: tuple[str, str] | None = None
        try:
            from annotate.vlm.transport import IMAGE_PLACE, ChatTransport
        except ImportError as error:
            raise MissingDependency(
                f"{error.name} is not installed", hint="pip install 'sdg-data[annotate]'"
            ) from error
        self._place = IMAGE_PLACE
        # `RetryingClient` has the deadline; the transport's only ends a connection that was forgotten.
        self._transport = ChatTransport(self._key, timeout=settings.deadline + 60)

    def codec(self, size: ImageSize) -> AnswerCodec:
        """The codec of the family that the model belongs to."""
        return codec_of(self._family, size)

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """Encode an image in a size that the model's family takes, within the settings' `max_side`.

        One that is sent as it is is not decoded: that was done when it was stored, and the server does it again.
        """
        return fit_image(
            data,
            media_type,
            family=self._family,
            max_side=self._settings.max_side,
            image_format=self._settings.image_format,
            quality=self._settings.image_quality,
            check=False,
        )

    async def ask(self, question: Question) -> Answer:
        """Send a question to the server as a chat completion; its errors become an `AskError` with a code."""
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": self._messages(question),
            **parameters(self._settings, question.max_tokens or self._settings.max_tokens),
        }
        if self._settings.structured:
            body["response_format"] = structured.response_format()
        frame = orjson.dumps(body)

        async def send(address: str) -> Answer:
            started = time.monotonic()
            reply = await self._transport.post(address, frame, question.image.data)
            text = self._clean(reply.text)
            if reply.status >= 400:
                raise status_error(reply.status, text, reply.headers)
            return self._answer(address, text, time.monotonic() - started)

        try:
            return await self.pool.ask(send)
        except AskError as error:
            error.message = self._clean(error.message)
            raise

    async def close(self) -> None:
        """Close the connections to the server, if any were opened."""
        await self.pool.close()
        await self._transport.close()

    async def _look(self, address: str) -> int:
        return (await self._transport.models(address)).status

    def _clean(self, text: str) -> str:
        """The text without the key, in case a server repeats it in its reply."""
        key = self._key.get_secret_value()
        return text.replace(key, "***") if len(key) > len(_NO_KEY) else text

    def _messages(self, question: Question) -> list[Any]:
        text = _sendable(question.text)
        if self._settings.structured:
            text = f"{text}\n\n{structured.INSTRUCTION}"
        parts = [{"type": "image_url", "image_url": {"url": self._url(question.image)}}, {"type": "text", "text": text}]
        first = {"role": "user", "content": parts if question.image_first else parts[::-1]}
        return [first, *({"role": turn.role, "content": _sendable(turn.text)} for turn in question.more)]

    def _url(self, image: EncodedImage) -> str:
        """Where the server finds an image: in the request, or in its file."""
        if self._settings.send_images == "file" and image.path is not None:
            return image.path.absolute().as_uri()
        return f"data:{image.media_type};base64,{self._place}"

    def _check_who_answered(self, address: str, model: str, fingerprint: str, *, raw: str) -> None:
        """Remember the model behind the first reply; raises AskError for a reply of another one, by any server."""
        now = (model, fingerprint if self._server.own else "")
        other_name = bool(model) and not is_name_of(model, self._settings.model)
        if self._answered_by is None and not (other_name and self.pool.several):
            self._answered_by = now
            if other_name:
                log.warning("asked for %s, the server answers as %s", self._settings.model, model)
        elif not self._is_known(*now):
            said = " ".join(part for part in now if part)
            before = " ".join(part for part in self._answered_by or () if part)
            known = f"before it was {before}" if before else f"asked for was {self._settings.model}"
            left = self.pool.several and self.pool.leave_out(address, f"it answers as {said}, {known}", called=model)
            if self._answered_by is None and not left and self.pool.all_called():
                self.pool.readmit()
                self._answered_by = now
                log.warning("asked for %s, all servers answer as %s", self._settings.model, model)
                return
            raise AskError(
                "other-model", f"another model answers now: {said}, {known}", raw=raw, transient=left, fatal=not left
            )

    def _is_known(self, model: str, fingerprint: str) -> bool:
        """Whether a reply is of the model that answered first. Its name and that of its snapshot are one model's."""
        if self._answered_by is None or fingerprint != self._answered_by[1]:
            return False
        before = self._answered_by[0]
        if is_name_of(model, before) or is_name_of(before, model):
            self._answered_by = (max(before, model, key=len), fingerprint)
            return True
        return False

    def _answer(self, address: str, body: str, seconds: float) -> Answer:
        """Read the answer here and not by the SDK, which takes any JSON for a completion."""
        raw = body[:RAW_LENGTH]
        completion = read_completion(body)
        self._check_who_answered(address, completion.model, completion.fingerprint, raw=raw)
        if completion.refusal:
            raise AskError("refused", completion.refusal[:500], raw=raw)
        if completion.finish == "filtered":
            raise AskError("refused", "stopped by the server's content filter", raw=raw)
        content = completion.text
        if completion.finish == "length" and not content.strip():
            empty = AskError(
                "length-without-answer",
                f"all {completion.tokens_out or ''} tokens went by without an answer: a model that thinks needs more "
                "room (thinking_tokens), or less effort (reasoning)",
                raw=raw,
            )
            empty.tokens_in, empty.tokens_out = completion.tokens_in, completion.tokens_out
            raise empty
        return Answer(
            text=structured.as_text(content) if self._settings.structured else self._whole(completion),
            finish=completion.finish,
            tokens_in=completion.tokens_in,
            tokens_out=completion.tokens_out,
            seconds=seconds,
            raw=content if self._settings.structured else None,
        )

    def _whole(self, completion: Completion) -> str:
        """What the model wrote: an own server may have put what stood in <think> into a field beside the answer."""
        text, thoughts = completion.text, completion.thoughts.strip()
        if self._server.own and thoughts and text.strip() and "think>" not in text:
            return f"<think>{escape_trace(thoughts)}</think>{text.lstrip()}"
        return text


def _sendable(text: str) -> str:
    """A text as it can be sent: no special tokens, no halves of characters (which no JSON of theirs can hold)."""
    return without_marks(without_lone_surrogates(text))


def api_key(settings: VlmSettings, environ: Mapping[str, str]) -> SecretStr:
    """The key from the environment; "none" for a server of one's own that asks for none.

    Raises:
        ConfigError: A hosted server (no `base_url`, or one by https) has no key.
    """
    key = environ.get(settings.api_key_env, "")
    if not key and (not settings.base_url or "https://" in settings.base_url):
        raise ConfigError(
            "there is no key for the server",
            item=without_secrets(settings.base_url) or "api.openai.com",
            hint=f"Put it into the environment variable {settings.api_key_env}, or name another one with api_key_env.",
        )
    return SecretStr(key or _NO_KEY)
