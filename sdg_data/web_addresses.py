"""Addresses of servers: without their secrets where people read them, and with a path put in the right place.

A password stands in an address before the host (`https://me:word@host`), a key behind a question mark
(`?api_key=…`, `?sig=…`). Whatever shows or stores an address, or an error that may repeat one, goes through here.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

_USER: Final = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)
_QUERY: Final = re.compile(
    r"([?&;](?:[\w.~-]|%[0-9a-f]{2})*(?:key|token|secret|passw|pwd|auth|credential|sig|session)(?:[\w.~-]|%[0-9a-f]{2})*=)"
    r"[^&;#\s\"'<>]+",
    re.IGNORECASE,
)


def without_secrets(value: Any) -> Any:
    """A text, or a value of JSON, without the passwords and keys in the addresses that it holds.

    Returns:
        The value, `***` in each one's place.
    """
    if isinstance(value, dict):
        return {key: without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return _QUERY.sub(r"\1***", _USER.sub(r"\1***@", value)) if isinstance(value, str) else value


def below(address: str, path: str) -> str:
    """The address of a path under a server's: in front of the query, such as `?api-version=…`, where it has one.

    Args:
        address: The server's, with or without a slash at the end.
        path: Without a slash in front; "" is the address itself.
    """
    if not path:
        return address
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}"))
