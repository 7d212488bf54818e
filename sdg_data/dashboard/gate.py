"""What may reach the dashboards at all: their own addresses, under this machine's names, in a shape that they can read.

Gradio serves much that these pages have no use for: uploads of any size, files, proxies, a code editor. The gate lets
through what the pages ask for and answers the rest itself, so a route that a newer gradio adds is closed until somebody
opens it here.

`Gate` looks at names, addresses and methods, `Calls` at what a page's function is called with. Between them comes the
login.

The Host header has to name this server. A page elsewhere could otherwise point its own name at this machine and read
the dashboards in the visitor's browser (DNS rebinding). That needs a name, so an address in digits is always right.
"""

import ipaddress
import re
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 1 << 20
"""Of a request's body. The largest that a page sends is a list of selected images."""
_READ = ("GET", "HEAD")
_FILES = re.compile(
    r"/(static|assets)/[\w./-]{1,200}|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)/?"
    r"|/gradio_api/(info|startup-events|app_id|theme\.css)/?|/gradio_api/heartbeat/[0-9A-Za-z]{1,64}"
)
_STREAM = "/gradio_api/queue/data"
_EVENTS = ("/gradio_api/run/predict", "/gradio_api/queue/join")
_SESSION = re.compile(r"[0-9A-Za-z]{1,64}\Z")
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # gradio's page has scripts in it, and makes functions
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Gate:
    """ASGI middleware: refuses what the pages do not ask for, and puts the security headers on every answer.

    Args:
        app: The dashboards.
        paths: The addresses of the pages, with their slash, and of the routes (`/data/`) by their beginning.
        hosts: Names that the server has beside localhost, this machine's name and addresses in digits.
    """

    def __init__(self, app: ASGIApp, paths: Iterable[str], hosts: Collection[str] = ()) -> None:
        self._app = app
        pages = {path for path in paths if not _is_folder(path)}
        self._pages = pages | {f"{path}/" for path in pages if path != "/"}
        self._folders = tuple(path for path in paths if _is_folder(path))
        self._hosts = {name.lower() for name in ("localhost", socket.gethostname(), socket.getfqdn(), *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or say why not; a websocket is closed, as the pages use none."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or self._app
        if scope["path"] in self._pages or _is_file(scope["path"]):
            # A page reads its address in the browser. Gradio would take `page` and `deep_link` for names of its own.
            scope = {**scope, "query_string": b""}
        await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        host = headers.get("host", "")
        if not self._is_ours(host):
            return PlainTextResponse(
                "This server is not known by that name. `sdg dashboard --allow-host NAME` adds one.", status_code=421
            )
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host.lower():
            return PlainTextResponse("Only the dashboards' own pages may ask.", status_code=403)
        allowed: tuple[str, ...] = _READ
        if path in _EVENTS:
            allowed = ("POST",)
        elif path == _STREAM:
            query = scope.get("query_string", b"").decode("latin-1")
            if not any(_SESSION.match(part[13:]) for part in query.split("&") if part.startswith("session_hash=")):
                return PlainTextResponse("session_hash is missing", status_code=400)
            allowed = ("GET",)
        elif not (path in self._pages or path.startswith(self._folders) or _is_file(path)):
            return PlainTextResponse("There is no such page.", status_code=404)
        if method not in allowed:
            return PlainTextResponse(
                f"{method} is not allowed here.", status_code=405, headers={"Allow": ", ".join(allowed)}
            )
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name.lower() in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class Calls:
    """ASGI middleware: passes on calls of the pages' functions that gradio can read, and refuses others.

    Args:
        app: The dashboards.
        events: By number, the kinds of gradio's components that each of the pages' functions reads.
    """

    def __init__(self, app: ASGIApp, events: Mapping[int, Sequence[str]]) -> None:
        self._app = app
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413, 400 or 422 to a call that cannot be read, else pass the request on."""
        if scope["type"] != "http" or scope["path"] not in _EVENTS:
            await self._app(scope, receive, send)
            return
        body = await _whole(receive)
        refusal = self._refusal(body)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, _again(body or b"", receive), _wrong_values_are_no_fault(send))

    def _refusal(self, body: bytes | None) -> PlainTextResponse | None:
        """Why a call of one of the pages' functions cannot be passed on; gradio would end in an error of its own."""
        if body is None:
            return PlainTextResponse(f"A request has {MOST_BYTES:,} bytes at the most.", status_code=413)
        try:
            call = orjson.loads(body)  # refuses lone surrogates, NaN and numbers that no float holds
        except orjson.JSONDecodeError as error:
            return PlainTextResponse(f"This is no JSON: {error}", status_code=400)
        number = call.get("fn_index") if isinstance(call, dict) else None
        values = call.get("data") if isinstance(call, dict) else None
        if type(number) is not int or number not in self._events or not isinstance(values, list):
            return PlainTextResponse("This is no call of a function of these pages.", status_code=422)
        session = call.get("session_hash")
        if not isinstance(session, str) or not _SESSION.match(session):
            return PlainTextResponse("session_hash is missing", status_code=422)
        kinds = self._events[number]
        if len(values) != len(kinds) or not all(map(_is_value_of, kinds, values)):
            return PlainTextResponse(f"This function reads: {', '.join(kinds) or 'nothing'}.", status_code=422)
        odd = call.keys() - {"data", "fn_index", "session_hash", "event_data", "trigger_id", "event_id"}
        if odd or not _fits(call):
            return PlainTextResponse("This is no call of a function of these pages.", status_code=422)
        return None


def _fits(call: Mapping[str, Any]) -> bool:
    """Whether what stands beside the values has gradio's types."""
    trigger, event = call.get("trigger_id"), call.get("event_id")
    return (trigger is None or type(trigger) is int) and (event is None or isinstance(event, str))


def _is_value_of(kind: str, value: Any) -> bool:
    """Whether a component of this kind can have this value; those that are neither numbers nor boxes hold text."""
    if value is None:
        return True
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, bool if kind == "checkbox" else str)


def _is_file(path: str) -> bool:
    return _FILES.fullmatch(path) is not None and ".." not in path


def _is_folder(path: str) -> bool:
    return path.endswith("/") and path != "/"


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


async def _whole(receive: Receive) -> bytes | None:
    """A request's body, None where it is larger than `MOST_BYTES`; the rest is not read then."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            return None
        more = message.get("more_body", False)
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, then what comes after it."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _wrong_values_are_no_fault(send: Send) -> Send:
    """A `send` that makes 422 of gradio's 500 for a value that its control does not have.

    Gradio answers 500 to every error and gives a reason only for those that it raised on purpose; an error without
    a reason is one of ours, and stays 500.
    """
    start: Message | None = None

    async def send_judged(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start" and message["status"] == 500:
            start = message
            return
        if start is not None and message["type"] == "http.response.body":
            if b'"error":null' not in message.get("body", b""):
                start["status"] = 422
            await send(start)
            start = None
        await send(message)

    return send_judged
