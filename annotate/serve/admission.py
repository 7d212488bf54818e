"""What the server lets in: hosts it is called by, and no more bytes at a time than it has room for.

A web page can make a browser call a server on this machine under a name of its own (DNS rebinding); where no token
keeps others out, the `Host` header must name this machine. A request counts with its length, from its first byte to its
answer: one that is too long gets 413, one too many 503, and one whose body does not arrive in time 408. So does the
oldest of too many whose bodies are on their way, so that slow clients cannot keep others out.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sdg_data.listening import is_loopback

MAX_BODY: Final = 32 * 2**20
"""The longest body of a request, in bytes."""
MAX_BUFFERED: Final = 256 * 2**20
"""The bytes of all requests that are being read or answered."""
BODY_SECONDS: Final = 60.0
"""How long a body may take to arrive."""
MOST_ARRIVING: Final = 128
"""Requests at a time whose bodies are on their way."""


class Admission:
    """ASGI middleware that turns requests away before they are read: foreign hosts, large bodies, too many at once."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        any_host: bool,
        max_body: int = MAX_BODY,
        max_buffered: int = MAX_BUFFERED,
        body_seconds: float = BODY_SECONDS,
        most_arriving: int = MOST_ARRIVING,
    ) -> None:
        """Let nothing in yet; `any_host`: do not look at the Host header."""
        self._app, self._any_host = app, any_host
        self._max_body, self._max_buffered, self._body_seconds = max_body, max_buffered, body_seconds
        self._buffered = 0
        self._most_arriving = most_arriving
        self._arriving: dict[_Body, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._any_host and not is_this_machine(headers.get("host", "")):
            await _refuse(400, "this server answers to the name of this machine only", scope, receive, send)
            return
        length = _length(headers, self._max_body)
        if length > self._max_body:
            await _refuse(413, f"a body of more than {self._max_body} bytes", scope, receive, send)
            return
        if length and self._buffered + length > self._max_buffered:
            await _refuse(503, "too much is being read already", scope, receive, send, {"retry-after": "1"})
            return
        self._buffered += length
        body = _Body(receive, self._body_seconds, self._arriving)
        if len(self._arriving) > self._most_arriving:
            next(iter(self._arriving)).give_up()
        started = False

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            with contextlib.suppress(ClientDisconnect):
                await self._app(scope, body.receive, send_noted)
            if body.late and not started:
                await _refuse(408, "the body did not arrive in time", scope, receive, send)
        finally:
            self._buffered -= length
            self._arriving.pop(body, None)


def is_this_machine(host: str) -> bool:
    """Whether a Host header (`localhost:9090`, `[::1]:9090`) names this machine."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.removeprefix("[").removesuffix("]")
    return is_loopback(name.lower())


def _length(headers: Headers, otherwise: int) -> int:
    """The length of a body as its headers say it; a body in chunks counts as the longest that is taken."""
    text = headers.get("content-length", "")
    if text.isascii() and text.isdigit():
        return int(text[:18])
    return otherwise if "transfer-encoding" in headers or text else 0


class _Body:
    """A request's body with a deadline; once it is there, `receive` waits as long as it takes (for the disconnect).

    It stands in `arriving` until then.
    """

    def __init__(self, receive: Receive, seconds: float, arriving: dict[_Body, None]) -> None:
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._waiting: asyncio.Timeout | None = None
        self._arriving = arriving
        self._arrived = self.late = False
        arriving[self] = None

    def give_up(self) -> None:
        """Let the deadline be now."""
        self._arriving.pop(self, None)
        self._deadline = asyncio.get_running_loop().time()
        if self._waiting is not None:
            self._waiting.reschedule(self._deadline)

    async def receive(self) -> Message:
        if self._arrived:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline) as self._waiting:
                message = await self._receive()
        except TimeoutError:
            self.late = True
            return {"type": "http.disconnect"}
        finally:
            self._waiting = None
        self._arrived = message["type"] != "http.request" or not message.get("more_body", False)
        if self._arrived:
            self._arriving.pop(self, None)
        return message


async def _refuse(
    status: int, message: str, scope: Scope, receive: Receive, send: Send, headers: dict[str, str] | None = None
) -> None:
    body: dict[str, Any] = {"error": {"message": message, "type": "error", "code": status}}
    await JSONResponse(body, status, headers)(scope, receive, send)
