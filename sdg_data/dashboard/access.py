"""Who may see the dashboards: HTTP Basic over every address, pictures and downloads included."""

import os
import secrets
from dataclasses import dataclass
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sdg_data.errors import ConfigError
from sdg_data.http_basic import basic_credentials

USER, PASSWORD = "SDG_DASHBOARD_USER", "SDG_DASHBOARD_PASSWORD"
UNAUTHORIZED = "Log in with the user and password of this dashboard."


@dataclass(frozen=True)
class Login:
    """The name and password of the one user who may see the dashboards."""

    user: str
    password: str

    def accepts(self, header: str) -> bool:
        """Whether an `Authorization` header names this user; compared in constant time."""
        credentials = basic_credentials(header)
        if credentials is None:
            return False
        expected = f"{self.user}:{self.password}".encode()
        return secrets.compare_digest(":".join(credentials).encode(), expected)


def login_from(environ: Any = os.environ) -> Login | None:
    """The login that the environment sets; None where it sets none.

    Raises:
        ConfigError: Only one of user and password is set.
    """
    user, password = environ.get(USER, ""), environ.get(PASSWORD, "")
    if bool(user) != bool(password):
        raise ConfigError(
            "a login needs a user and a password",
            item="sdg dashboard",
            hint=f"Set both {USER} and {PASSWORD}, or neither.",
        )
    return Login(user, password) if user else None


class Access:
    """ASGI middleware: requires the login, where there is one, for every request and websocket."""

    def __init__(self, app: ASGIApp, login: Login | None = None) -> None:
        self._app = app
        self._login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 (close a websocket) without the login, else pass the request on."""
        if self._login is not None and scope["type"] in ("http", "websocket"):
            headers = {name.lower(): value for name, value in scope["headers"]}
            if not self._login.accepts(headers.get(b"authorization", b"").decode("latin-1")):
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1008})
                    return
                challenge = {"WWW-Authenticate": 'Basic realm="sdg-data", charset="UTF-8"'}
                refusal = PlainTextResponse(UNAUTHORIZED, status_code=401, headers=challenge)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)
