"""Whether a server of OpenAI's protocol answers, and has the model that it will be asked for."""

from __future__ import annotations

import base64
import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from sdg_data.errors import ExitCode
from sdg_data.preflight.findings import Finding
from sdg_data.settings import VlmSettings
from sdg_data.web_addresses import below, without_secrets

TIMEOUT: Final = 3.0
"""Seconds to wait for an answer."""
HOSTED: Final = "https://api.openai.com/v1"
"""Who is asked where no address is named."""
_MOST: Final = 1 << 20


def check_server(subject: str, settings: VlmSettings) -> list[Finding]:
    """Findings about a model behind one server or several: the key, each address, and whether it is served there.

    Args:
        subject: Who asks it.
        settings: Of the backend "openai".

    Returns:
        The findings, none with a password of an address.
    """
    given = (settings.base_url or os.environ.get("OPENAI_BASE_URL") or HOSTED).split()
    return [finding for address in given for finding in _check_address(subject, settings, address)]


def _check_address(subject: str, settings: VlmSettings, address: str) -> list[Finding]:
    try:
        url, user = without_user(address)
    except ValueError as error:
        fix = "base_url is http://HOST:PORT/v1, or with https."
        return [Finding(subject, "address", f"base_url is no address ({error})", False, fix, ExitCode.CONFIG)]
    key, shown = os.environ.get(settings.api_key_env, ""), without_secrets(url)
    findings = []
    if url.startswith(HOSTED) and not key:
        findings.append(
            Finding(
                subject,
                "key",
                f"{settings.api_key_env} is not set",
                False,
                f"export {settings.api_key_env}=…, or name your own server: base_url.",
                ExitCode.CONFIG,
            )
        )
    try:
        status, served = _models(url, user, key)
    except http.client.RemoteDisconnected:
        state = f"{shown} takes connections, and does not say what it serves"
        return [*findings, Finding(subject, "address", state, None)]
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        findings.append(
            Finding(
                subject,
                "address",
                f"{shown} does not answer ({without_secrets(str(reason)) or type(error).__name__})",
                False,
                "Start the server, or name where it is: base_url.",
            )
        )
        return findings
    if status in (401, 403):
        findings.append(
            Finding(
                subject,
                "address",
                f"{shown} answers, and refuses the key ({status})",
                False,
                f"Is the key in {settings.api_key_env} the server's?",
                ExitCode.CONFIG,
            )
        )
    elif served is not None and settings.model not in served:
        state = f"{shown} serves {', '.join(served[:5]) or 'no model'}, not {settings.model}"
        # No fault: some servers take any name, or know it by an alias.
        fix = "If it refuses the name: name one that it serves, or start it with --served-model-name."
        findings.append(Finding(subject, "address", state, None, fix))
    else:
        known = "" if served is None else f", and serves {settings.model}"
        findings.append(Finding(subject, "address", f"{shown} answers{known}"))
    return findings


def _models(url: str, user: str | None, key: str) -> tuple[int, list[str] | None]:
    """The status of GET /models, and the names in its answer; None where it lists none as OpenAI does."""
    request = request_for(url, "models", user, key)
    # Not through a proxy of the environment, which a local server is not behind.
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            return int(answer.status), _names(answer.read(_MOST))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None


def request_for(url: str, path: str, user: str | None, key: str = "") -> urllib.request.Request:
    """A request to a path of a server.

    Args:
        url: The server's address without a user, which urllib takes for a part of the host.
        path: As `sdg_data.web_addresses.below` takes it.
        user: User and password, as `without_user` gives them; the key is not sent then.
        key: A bearer's token; "": none.
    """
    request = urllib.request.Request(below(url, path), headers={"User-Agent": "sdg-data"})
    if user is not None:
        request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    elif key:
        request.add_header("Authorization", f"Bearer {key}")
    return request


def _names(body: bytes) -> list[str] | None:
    try:
        values: Any = json.loads(body)
        return [str(entry["id"]) for entry in values["data"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def without_user(url: str) -> tuple[str, str | None]:
    """An address without its user and password, and these as they stand for basic authentication.

    Raises:
        ValueError: It is no address of a web server.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or (parts.port or 1) < 1:
        raise ValueError("neither http:// nor https:// with a host")
    if parts.username is None:
        return url, None
    host = parts.netloc.rpartition("@")[2]
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return urlunsplit(parts._replace(netloc=host)), user
