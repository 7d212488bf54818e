"""What a chat server's reply says: a completion as our client needs it, or the reason why there is none.

Servers agree on the outline of OpenAI's protocol and differ in the rest. So the forms that are met are read here: text
in parts, thoughts in a field of their own, an error under status 200, a filter's verdict as a status, waiting times in
the body. What is none of these is `bad-response`.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from annotate.vlm.contract import AskError

_AGAIN: Final = frozenset({408, 409, 425, 429})
_FATAL: Final = frozenset({401, 402, 403, 404})
_NO_MONEY: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""OpenAI's words in a 429 or 400 that no waiting mends."""
_FILTERED: Final = frozenset(
    {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "data_inspection_failed"}
)
"""What Azure, OpenAI and DashScope call a question that their filter stopped; it is a 400."""
_STOPPED: Final = ("content_filter", "safety", "prohibited_content", "recitation", "blocklist", "spii", "image_safety")
_CUT: Final = ("length", "max_tokens", "model_length", "max_output_tokens")
RAW_LENGTH: Final = 20_000
"""The characters of a reply that a failure keeps."""
_DATED: Final = re.compile(r"[-@:](?:20\d\d-?[01]\d-?[0-3]\d)$")


@dataclass(frozen=True)
class Completion:
    """A chat completion. `finish` is "stop", "length", "filtered" or the server's own word."""

    text: str
    thoughts: str
    refusal: str
    finish: str
    tokens_in: int | None
    tokens_out: int | None
    model: str
    fingerprint: str


def read_completion(body: str) -> Completion:
    """Read a reply of status 200.

    Args:
        body: Its text.

    Returns:
        The completion.

    Raises:
        AskError: It is none, or an error that came under that status.
    """
    raw = body[:RAW_LENGTH]
    try:
        value = json.loads(body.lstrip("\ufeff"))
        error = _error_in(value)
        if error is not None:
            raise _stated_error(error, raw)
        choice, *others = value["choices"]
        message, finish = choice.get("message") or {}, choice.get("finish_reason") or "stop"
        usage = value.get("usage") or {}
        completion = Completion(
            text=_text(message.get("content")),
            thoughts=_text(message.get("reasoning_content") or message.get("reasoning")),
            refusal=_text(message.get("refusal")),
            finish=_finish(str(finish)),
            tokens_in=_tokens(usage.get("prompt_tokens")),
            tokens_out=_tokens(usage.get("completion_tokens")),
            model=str(value.get("model") or ""),
            fingerprint=str(value.get("system_fingerprint") or ""),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        streams = "it streams, which was not asked for" if body.lstrip().startswith("data:") else error
        raise AskError("bad-response", f"no chat completion ({streams})", raw=raw) from error
    if others:
        raise AskError("bad-response", f"{1 + len(others)} choices, where one was asked for", raw=raw)
    return completion


def status_error(status: int, body: str, headers: Mapping[str, str]) -> AskError:
    """The error of a reply by its status, and by what its body says of it.

    Args:
        status: 400 or more.
        body: The reply's text.
        headers: Its headers, by their names in small letters.
    """
    error = _error_of(body)
    words = {str(word).lower() for word in (error.get("code"), error.get("type"), _inner(error).get("code")) if word}
    message, raw = f"HTTP {status}: {' '.join(body.split())[:300]}", body[:RAW_LENGTH]
    if words & _NO_MONEY:
        return AskError(f"http-{status}", message, raw=raw, fatal=True)
    # A 403 with reasons is OpenRouter's for a question that its moderation stopped.
    if words & _FILTERED or (status == 403 and _metadata(error).get("reasons")):
        return AskError("refused", message, raw=raw)
    code = {429: "rate-limited", 400: "bad-request", 413: "bad-request", 422: "bad-request"}.get(
        status, f"http-{status}"
    )
    again = status in _AGAIN or status >= 500
    return AskError(
        "server-error" if status >= 500 else code,
        message,
        raw=raw,
        transient=again,
        fatal=status in _FATAL,
        retry_after=retry_after(headers, error) if again else None,
    )


def retry_after(
    headers: Mapping[str, str], error: Mapping[str, Any] | None = None, *, now: float | None = None
) -> float | None:
    """The seconds that a server asks to wait: by `Retry-After`, by OpenAI's header in ms, or in Google's error.

    Args:
        headers: By their names in small letters.
        error: The reply's `error`.
        now: Seconds since 1970, in tests.

    Returns:
        The seconds, or None where it says nothing readable.
    """
    text = headers.get("retry-after", "").strip()
    if text:
        try:
            seconds = float(text)
        except ValueError:
            try:
                moment = parsedate_to_datetime(text).timestamp()
            except (ValueError, TypeError, OverflowError):
                return None
            seconds = moment - (time.time() if now is None else now)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    waits = [(headers.get("retry-after-ms", ""), 1000.0), *((delay, 1.0) for delay in _delays(error or {}))]
    for stated, unit in waits:
        if re.fullmatch(r"\d{1,12}(?:\.\d{1,12})?", stated):
            return float(stated) / unit
    return None


def is_name_of(answering: str, asked: str) -> bool:
    """Whether a server's name for its model is the one asked for: a provider in front or a snapshot's date may be more.

    Args:
        answering: The name in its reply, such as `openai/gpt-5.4-2026-03-01`.
        asked: The name in the request, such as `gpt-5.4`.
    """
    answering, asked = (name.rpartition("/")[2].lower() for name in (answering, asked))
    return answering == asked or _DATED.sub("", answering) == asked


def _error_in(value: Any) -> Any:
    """The error in a reply of status 200, in place of an answer or in its choice; None where there is none."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return None
    choices = value.get("choices")
    if not choices:
        return value.get("error")
    first = choices[0] if isinstance(choices, list) else None
    return first.get("error") if isinstance(first, dict) else None


def _stated_error(error: Any, raw: str) -> AskError:
    """The AskError of an error that came under status 200; its code is often the status that was meant."""
    code = error.get("code") if isinstance(error, dict) else None
    status = int(code) if isinstance(code, int | str) and str(code).isdecimal() else 0
    if 400 <= status < 600:
        return status_error(status, json.dumps({"error": error}), {})
    return AskError("bad-response", f"an error in place of an answer: {str(error)[:300]}", raw=raw)


def _error_of(body: str) -> dict[str, Any]:
    """The `error` of a reply, empty where its text has none."""
    if not body.lstrip().startswith(("{", "[")):
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, list) and value:  # Google's
        value = value[0]
    error = value.get("error") if isinstance(value, dict) else None
    return error if isinstance(error, dict) else {}


def _inner(error: Mapping[str, Any]) -> dict[str, Any]:
    inner = error.get("innererror")
    return inner if isinstance(inner, dict) else {}


def _metadata(error: Mapping[str, Any]) -> dict[str, Any]:
    metadata = error.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _delays(error: Mapping[str, Any]) -> Iterator[str]:
    """The waiting times in a Google error's details, in seconds, as they are written but for the unit."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else []:
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str):
            yield delay.removesuffix("s")


def _text(content: Any) -> str:
    """A message's text: a string, or the texts of a list of parts, thoughts left out; TypeError for anything else."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise TypeError("a completion that is no text")
    texts = []
    for part in content:
        kind = part.get("type", "text")
        if kind in ("text", "output_text"):
            texts.append(_text(part["text"]))
        elif kind not in ("thinking", "reasoning", "redacted_thinking"):
            raise TypeError(f"a part of type {str(kind)[:40]!r}, which is no text")
    return "".join(texts)


def _tokens(count: Any) -> int | None:
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, int | float) or count < 0 or count != int(count):
        raise TypeError(f"{str(count)[:40]} tokens")
    return int(count)


def _finish(word: str) -> str:
    lower = word.lower()
    if lower in _CUT:
        return "length"
    return "filtered" if lower.startswith(_STOPPED) else word
