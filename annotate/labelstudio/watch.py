"""Pulling whenever something changes: at once when Label Studio's webhook says so, and by the clock in any case.

The webhook is only a hint. Label Studio calls it inside an annotator's request and waits for at most a second, so it is
answered at once. Its body is read and thrown away: all that a call can cause is that somebody looks at the server
sooner. Requests without the secret are ignored. A hint that is lost is made up for by the clock, and a false one finds
nothing to pull.
"""

from __future__ import annotations

import contextlib
import hmac
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from annotate.labelstudio.client import ServerError, Unavailable
from annotate.labelstudio.missing import NotBelieved
from annotate.labelstudio.project import SECRET_HEADER
from annotate.labelstudio.pull import PullSummary
from sdg_data.console import say
from sdg_data.errors import StoreLocked

HOST = "127.0.0.1"
PATH = "/hint"
MAX_BODY = 1 << 20
SOCKET_SECONDS = 2.0


def webhook_url(port: int) -> str:
    """The address that Label Studio is told to call."""
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
        """Set the hint, if the secret is right."""
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
        # Read the body and drop it: a caller whose body is not read would see a broken connection.
        length = self.headers.get("Content-Length", "0")
        left = min(int(length) if length.isdigit() else 0, MAX_BODY)
        with contextlib.suppress(OSError):
            while left > 0 and (chunk := self.rfile.read(min(left, 65536))):
                left -= len(chunk)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a caller chooses what would stand in the log."""


@contextlib.contextmanager
def listening(port: int, secret: str, hint: threading.Event) -> Iterator[int]:
    """Listen on loopback for the length of the block, and set `hint` at every call with the secret.

    Args:
        port: Where to listen; 0: any free port.
        secret: What callers send in the header `SECRET_HEADER`.
        hint: Is set, and never cleared here.

    Yields:
        The port.

    Raises:
        ValueError: The secret is empty.
        OSError: The port is taken.
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


# --- the loop

GATHER_SECONDS = 1.0
"""Hints come in bursts: one pull serves all that come within this many seconds."""


def watch(
    pull: Callable[[], PullSummary],
    hint: threading.Event,
    stop: threading.Event,
    *,
    poll_seconds: float,
    gather_seconds: float = GATHER_SECONDS,
    after: Callable[[PullSummary], None] | None = None,
) -> int:
    """Pull until `stop` is set. A server that does not answer is tried again, with a line on the console.

    Args:
        pull: Pulls once.
        hint: Set from outside when something changed.
        stop: Set from outside to end; set `hint` after it, or the end waits for the next pull.
        poll_seconds: How long to wait for a hint before pulling anyway.
        gather_seconds: How long after a hint to wait for more of them.
        after: Is told what each pull brought.

    Returns:
        How many pulls succeeded.

    Raises:
        ServerError: The server refuses a request, which trying again will not change.
    """
    pulls = 0
    refused = ""
    while not stop.is_set():
        hint.clear()  # before the pull: what comes while it runs is a reason for another
        try:
            summary = pull()
        except NotBelieved as error:
            if error.message != refused:
                say(f"{error.message}: {error.hint}")
            refused = error.message
        except (Unavailable, StoreLocked) as error:
            say(f"not now: {error.message}; trying again in {poll_seconds:g} s")
        except ServerError as error:
            if error.status is not None and error.status < 500:
                raise
            say(f"not now: {error.message}; trying again in {poll_seconds:g} s")
        else:
            pulls += 1
            if after is not None:
                after(summary)
        if hint.wait(poll_seconds) and not stop.is_set():
            stop.wait(gather_seconds)
    return pulls
