"""The connections of a server of a model: those on which nothing is asked are bounded in number and in time.

uvicorn keeps a connection whose request never comes for as long as the client likes, and each holds a file descriptor:
a thousand of them, and nobody else is let in. Here the oldest one makes room, and none waits for longer than
`HEAD_SECONDS`. How long a body may take is a matter of `admission`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sdg_data.console import say
from sdg_data.listening import leave, was_not_cut_off

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MOST_WAITING: Final = 256
"""Connections at a time on which no request is being answered."""
HEAD_SECONDS: Final = 30.0
"""How long one may take from its beginning, or from its last answer, to the end of the next request's head."""


def configuration(app: ASGIApp, *, most: int = MOST_WAITING, seconds: float = HEAD_SECONDS) -> uvicorn.Config:
    """How uvicorn serves an application of ours: bounded, quiet, and ended at once where it is told to end.

    Args:
        app: The application.
        most: Connections at a time on which no request is being answered; beyond that the oldest is closed.
        seconds: How long such a connection may go on.
    """

    class BoundedProtocol(H11Protocol):
        """One connection; it stands in `waiting` while no request is being answered on it."""

        waiting: ClassVar[dict[BoundedProtocol, asyncio.TimerHandle]] = {}

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._note()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._leave()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._note()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._note()

        def send_400_response(self, msg: str) -> None:
            """Say that a request is malformed; where an answer has begun already, there is nothing to say it with."""
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                super().send_400_response(msg)
            else:
                self.transport.close()

        def _note(self) -> None:
            cycle: Any = self.cycle
            if self.transport.is_closing() or not (cycle is None or cycle.response_complete):
                self._leave()
            elif self not in self.waiting:
                self.waiting[self] = self.loop.call_later(seconds, self._end)
                if len(self.waiting) > most:
                    next(iter(self.waiting))._end()

        def _leave(self) -> None:
            timer = self.waiting.pop(self, None)
            if timer is not None:
                timer.cancel()

        def _end(self) -> None:
            self._leave()
            self.transport.abort()

    config = uvicorn.Config(app, http=BoundedProtocol, ws="none", log_level="warning", timeout_graceful_shutdown=0)
    logging.getLogger("uvicorn.error").addFilter(was_not_cut_off)
    return config


def run(app: ASGIApp, listener: socket.socket, computing: Callable[[], bool]) -> None:
    """Serve until a signal comes; a batch that the model is at work on then is not waited for.

    Args:
        app: The application.
        listener: Where it listens.
        computing: Whether the model is at work. Its thread would hold the process for as long as the batch takes.
    """
    try:
        uvicorn.Server(configuration(app)).run(sockets=[listener])  # Ctrl-C comes out of it as KeyboardInterrupt
    finally:
        if computing():
            say("ended; the answers under way are dropped")
            leave()
