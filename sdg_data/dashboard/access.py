"""Who may see the dashboards: HTTP Basic over every address, pictures and downloads included."""

import base64
import binascii
import os
import secrets
from dataclasses import dataclass
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sdg_data.errors import ConfigError

USER, PASSWORD = "SDG_DASHBOARD_USER", "SDG_DASHBOARD_PASSWORD"


@dataclass(frozen=True)
class Login:
    """The one user."""

    user: str
    password: str

    def fits(self, header: str) -> bool:
        """Whether an Authorization header names this user; compared in constant time."""
        kind, _, coded = header.partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            given = base64.b64decode(coded, validate=True)
        except binascii.Error:
            return False
        return secrets.compare_digest(given, f"{self.user}:{self.password}".encode())


def login_from(environ: Any = os.environ) -> Login | None:
    """The login in the environment; None where there is none. ConfigError for half of one."""
    user, password = environ.get(USER, ""), environ.get(PASSWORD, "")
    if bool(user) != bool(password):
        raise ConfigError(f"{USER} and {PASSWORD} go together", item="sdg dashboard")
    return Login(user, password) if user else None


class Access:
    """ASGI middleware: asks for the login, where there is one, before anything else is reached."""

    def __init__(self, app: ASGIApp, login: Login | None = None) -> None:
        self._app = app
        self._login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass."""
        if self._login is not None and scope["type"] in ("http", "websocket"):
            headers = {name.lower(): value for name, value in scope["headers"]}
            if not self._login.fits(headers.get(b"authorization", b"").decode("latin-1")):
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1008})
                    return
                asked = {"WWW-Authenticate": 'Basic realm="sdg-data", charset="UTF-8"'}
                await PlainTextResponse("who are you?", status_code=401, headers=asked)(scope, receive, send)
                return
        await self._app(scope, receive, send)
