"""Chat completions over HTTP, for images of megabytes: what a request costs here is little more than its way out.

The image is put into the request's JSON as it goes to the socket, in base64 and piece by piece: no second copy of it is
ever whole, and no other request waits for longer than a piece takes. Connections are kept and used again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import pybase64
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from pydantic import SecretStr
from yarl import URL

from annotate.vlm.contract import AskError
from sdg_data.web_addresses import below, without_secrets

IMAGE_PLACE: Final = f"image-{secrets.token_hex(16)}"
"""Stands for the image's bytes in a request's JSON; nobody else can know it."""
_PIECE: Final = 3 * 65_536
"""Bytes encoded at a time: a multiple of three, so that the encoded pieces are those of the whole."""


@dataclass(frozen=True)
class Reply:
    """A server's answer: the status, the headers by their names in small letters, and the body as text."""

    status: int
    headers: Mapping[str, str]
    text: str


class _Body(Payload):
    """A request's JSON, with an image's bytes in base64 in their place."""

    def __init__(self, frame: bytes, image: bytes) -> None:
        super().__init__(frame, content_type="application/json")
        self._before, _, self._after = frame.partition(IMAGE_PLACE.encode())
        self._image = image if self._after else b""
        self._size = len(self._before) + 4 * -(-len(self._image) // 3) + len(self._after)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text."""
        image = pybase64.b64encode(self._image)
        return b"".join((self._before, image, self._after)).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write it; may be called again, after a redirect."""
        await writer.write(self._before)
        image = memoryview(self._image)
        for start in range(0, len(image), _PIECE):
            await writer.write(pybase64.b64encode(image[start : start + _PIECE]))
        if self._after:
            await writer.write(self._after)


class ChatTransport:
    """Posts requests to chat servers; bound to the event loop that it is first used on."""

    def __init__(self, key: SecretStr | None, *, timeout: float) -> None:
        """Connect to nothing yet.

        Args:
            key: What the servers ask for; None: nothing is sent.
            timeout: Seconds after which a request counts as forgotten.
        """
        self._key, self._timeout = key, timeout
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[str, _Proxy] = {}

    async def post(self, address: str, frame: bytes, image: bytes) -> Reply:
        """Ask for a completion.

        Args:
            address: The server's, such as `http://gpu7:8000/v1`.
            frame: The request's JSON; where `IMAGE_PLACE` stands in it, the image goes.
            image: Its bytes, as they are in its file.

        Returns:
            What the server said, whatever its status.

        Raises:
            AskError: There was no answer, or not all of it.
        """
        return await self._send("POST", address, "chat/completions", _Body(frame, image))

    async def models(self, address: str) -> Reply:
        """Ask a server what it serves; AskError where there is no answer."""
        return await self._send("GET", address, "models", None)

    async def close(self) -> None:
        """Close all connections to the server."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send(self, method: str, address: str, path: str, body: Payload | None) -> Reply:
        headers = {}
        if self._key is not None and not urlsplit(address).username:
            headers["authorization"] = f"Bearer {self._key.get_secret_value()}"
        url = below(address, path)
        if address not in self._proxies:
            self._proxies[address] = _proxy_of(address)
        through = self._proxies[address]
        try:
            async with self._connected().request(
                method, url, data=body, headers=headers, proxy=through.url, proxy_auth=through.auth
            ) as response:
                text = (await response.read()).decode(errors="replace")
                received = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status, received, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AskError("connection", without_secrets(f"{type(error).__name__}: {error}"), transient=True) from error

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # `RetryingClient` bounds how many are under way
                timeout=aiohttp.ClientTimeout(total=self._timeout),
            )
        return self._session


@dataclass(frozen=True)
class _Proxy:
    """What stands between us and a server, and who we are to it; None: nothing."""

    url: URL | None = None
    auth: aiohttp.BasicAuth | None = None


def _proxy_of(address: str) -> _Proxy:
    """The proxy that the environment names for an address (HTTP_PROXY, HTTPS_PROXY, NO_PROXY).

    aiohttp's own `trust_env` asks anew for every request, twice on another thread. It also sends what ~/.netrc says of
    the host, and ends in an error where there is a key as well.

    Raises:
        AskError: The environment names something else than a proxy that speaks HTTP.
    """
    parts = urlsplit(address)
    named = getproxies().get(parts.scheme, "")
    if not named or not parts.hostname or proxy_bypass(parts.hostname):
        return _Proxy()
    try:
        url = URL(named)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        where = f"{parts.scheme.upper()}_PROXY"
        raise AskError("connection", f"the environment's {where} names no proxy that speaks HTTP", fatal=True)
    # aiohttp 3 sends `proxy_headers` by CONNECT alone, not to a server without TLS.
    return _Proxy(url.with_user(None), aiohttp.BasicAuth.from_url(url))
