"""What the known servers of OpenAI's chat completions take, and by which name: a table with its sources.

Where a server is told by the address alone it is found by its host; every other address is somebody's own server, which
takes what vLLM, SGLang, llama.cpp and Ollama take alike. `server` in a config file names a row.

`max_tokens` of the settings bounds the answer. A model that thinks first spends the same limit on its thoughts, so for
those the limit that is sent is larger by `thinking_tokens`. All of these servers take `response_format` with a JSON
Schema, so that structured output needs no name of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from sdg_data.errors import ConfigError
from sdg_data.settings import VlmSettings
from sdg_data.web_addresses import without_secrets

THINKING_TOKENS: Final = 16_384
"""The room for thoughts of a model that thinks, unless the settings say otherwise."""
_RESERVED: Final = frozenset({"model", "messages", "n", "stream", "response_format"})


@dataclass(frozen=True)
class ChatServer:
    """A kind of server. `source` is where its parameters are documented."""

    name: str
    source: str
    hosts: tuple[str, ...] = ()
    limit_field: str = "max_tokens"
    """What the bound of an answer is called."""
    thinking: str = ""
    """The models that think, their tokens counted against the bound: a regular expression of their names."""
    thinking_temperature: bool = True
    """Whether those take a temperature."""
    own: bool = False
    """Somebody's own server: its fingerprint is the state of its model, which hosted ones change as they please."""
    files: bool = False
    """Whether it opens an image by a file:// address that has no ending, as blobs have none."""


SERVERS: Final = (
    ChatServer(
        "openai",
        "https://platform.openai.com/docs/api-reference/chat/create",
        hosts=("api.openai.com", "openai.azure.com"),
        limit_field="max_completion_tokens",
        thinking=r"(gpt-[5-9](?!.*-chat)|o[1-9])",
        thinking_temperature=False,
    ),
    ChatServer(
        "gemini",
        "https://ai.google.dev/gemini-api/docs/openai",
        hosts=("generativelanguage.googleapis.com", "aiplatform.googleapis.com"),
        thinking=r"gemini-(2\.5|[3-9])",
    ),
    ChatServer("openrouter", "https://openrouter.ai/docs/api-reference/parameters", hosts=("openrouter.ai",)),
    ChatServer("vllm", "https://docs.vllm.ai/en/latest/features/multimodal_inputs.html", own=True, files=True),
    ChatServer("sglang", "https://docs.sglang.ai/basic_usage/openai_api_completions.html", own=True),
    ChatServer("llama.cpp", "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md", own=True),
    ChatServer("ollama", "https://github.com/ollama/ollama/blob/main/docs/openai.md", own=True),
)
HOSTED: Final = "https://api.openai.com/v1"
OWN: Final = ChatServer("own", "docs/prelabel.md", own=True)
"""A server that is none of these, such as `sdg serve detector`."""


def addresses(settings: VlmSettings, environ: Mapping[str, str]) -> list[str]:
    """The servers' addresses: those of `base_url`, else of the variable OPENAI_BASE_URL, else OpenAI's own.

    Raises:
        ConfigError: One of them is no http:// or https:// address.
    """
    given = (settings.base_url or environ.get("OPENAI_BASE_URL") or HOSTED).split()
    for address in given:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "is no address of a server",
                item=without_secrets(address),
                hint="It is of the form http://host:8000/v1; several by spaces.",
            )
    return given


def server_of(settings: VlmSettings) -> ChatServer:
    """The row of a server: the one that is named, else by the host of its address.

    Raises:
        ConfigError: There is no row of that name.
    """
    if settings.server:
        for server in (*SERVERS, OWN):
            if server.name == settings.server:
                return server
        names = ", ".join(server.name for server in (*SERVERS, OWN))
        raise ConfigError(f"there is no server {settings.server!r}", hint=f"It is one of {names}.")
    host = urlsplit(addresses(settings, {})[0]).hostname or ""
    for server in SERVERS:
        if any(host == known or host.endswith(("." + known, "-" + known)) for known in server.hosts):
            return server
    return OWN


def thinking_tokens(settings: VlmSettings) -> int:
    """The room for thoughts on top of an answer's `max_tokens`; 0 for a model that answers straight away."""
    if settings.backend != "openai":
        return 0
    if settings.thinking_tokens is not None:
        return settings.thinking_tokens
    return THINKING_TOKENS if _thinks(server_of(settings), settings.model) else 0


def parameters(settings: VlmSettings, limit: int) -> dict[str, Any]:
    """The fields of a request that bound and steer an answer, as the server takes them.

    Args:
        settings: The model's.
        limit: Tokens of the answer, without the thoughts.

    Returns:
        Field -> value, `extra` of the settings last.

    Raises:
        ConfigError: `extra` names a field that is not for it to set.
    """
    server = server_of(settings)
    reserved = sorted(_RESERVED & settings.extra.keys())
    if reserved:
        raise ConfigError(f"`extra` cannot set {', '.join(reserved)}", hint="Those fields are this client's own.")
    fields: dict[str, Any] = {server.limit_field: limit + thinking_tokens(settings)}
    if server.thinking_temperature or not _thinks(server, settings.model):
        fields["temperature"] = settings.temperature
    if settings.reasoning:
        fields["reasoning_effort"] = settings.reasoning
    if settings.thinking_tokens is not None and server.name == "gemini" and not settings.reasoning:
        budget = {"thinking_budget": settings.thinking_tokens}
        fields["extra_body"] = {"google": {"thinking_config": budget}}
    return fields | settings.extra


def _thinks(server: ChatServer, model: str) -> bool:
    name = model.lower().rpartition("/")[2]
    return bool(server.thinking) and re.match(server.thinking, name) is not None
