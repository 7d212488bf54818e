"""The webhook's receiving end: a hint that something changed, and nothing else.

Label Studio calls it inside its annotator's request and waits for at most a second, so it answers at once. The body is
never read as anything: whatever it says, all that happens is that somebody looks at the server sooner. Whoever does not
know the secret is not even that.
"""

from __future__ import annotations

import contextlib
import hmac
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from annotate.labelstudio.project import SECRET_HEADER

HOST = "127.0.0.1"
PATH = "/hint"
MAX_BODY = 1 << 20
SOCKET_SECONDS = 2.0


def webhook_url(port: int) -> str:
    """What is told to Label Studio."""
    return f"http://{HOST}:{port}{PATH}"


class _Hints(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, secret: str, hint: threading.Event) -> None:
        self.secret = secret.encode()
        self.hint = hint
        super().__init__((HOST, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that hangs up or stalls is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: _Hints
    timeout = SOCKET_SECONDS
    server_version = "sdg"
    sys_version = ""

    def do_POST(self) -> None:
        """Say that something changed, if the secret is right."""
        given = (self.headers.get(SECRET_HEADER) or "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, self.server.secret):
            self._answer(403)
        elif self.path != PATH:
            self._answer(404)
        else:
            self.server.hint.set()
            self._answer(204)

    def _answer(self, status: int) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        # Read what was sent, to no end: a caller whose body is refused halfway would see a broken connection.
        length = self.headers.get("Content-Length", "0")
        left = min(int(length) if length.isdigit() else 0, MAX_BODY)
        with contextlib.suppress(OSError):
            while left > 0 and (chunk := self.rfile.read(min(left, 65536))):
                left -= len(chunk)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a caller chooses what would stand in the log."""


@contextlib.contextmanager
def listening(port: int, secret: str, hint: threading.Event) -> Iterator[int]:
    """Set `hint` at every call with the secret, for the length of the block; gives the port (0: any free one).

    ValueError for an empty secret, OSError where the port is taken.
    """
    if not secret:
        raise ValueError("a webhook needs a secret")
    server = _Hints(port, secret, hint)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
