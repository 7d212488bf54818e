"""A proxy in front of a real server that does to requests what networks and servers do, by a seeded schedule."""

import contextlib
import http.client
import random
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("error before", "error after", "dropped before", "dropped after", "stalled")


class FaultyProxy(ThreadingHTTPServer):
    """`share` of the requests fail, each in one of the ways of `FAULTS`. `seen` counts what was done."""

    daemon_threads = True

    def __init__(self, target: str, *, seed: int, share: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target)
        self.share = share
        self.seen: Counter[str] = Counter()
        self._draw = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self) -> str:
        with self._lock:
            drawn = self._draw.choice(FAULTS) if self._draw.random() < self.share else "none"
            self.seen[drawn] += 1
            return drawn

    def handle_error(self, request: object, client_address: object) -> None:
        """Callers that hang up are what this is about."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultyProxy
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        fault = self.server.fault()
        if fault == "dropped before":
            self.close_connection = True
            return
        if fault == "error before":
            self._reply(500, b"no")
            return
        target = self.server.target
        upstream = http.client.HTTPConnection(str(target.hostname), target.port or 80, timeout=120)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            upstream.request(self.command, self.path, body=body, headers=kept)
            answer = upstream.getresponse()
            content = answer.read()
        except OSError:
            self._reply(502, b"no server")
            return
        finally:
            upstream.close()
        if fault == "dropped after":
            self.close_connection = True
        elif fault == "error after":
            self._reply(502, b"no")
        elif fault == "stalled":
            with contextlib.suppress(OSError):
                self.rfile.read(1)  # until the caller loses patience and hangs up
            self.close_connection = True
        else:
            headers = {name: value for name, value in answer.getheaders() if name.lower() in ("content-type", "date")}
            self._reply(answer.status, content, headers)

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def do_PATCH(self) -> None:
        self._pass_on()

    def do_DELETE(self) -> None:
        self._pass_on()

    def _reply(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def faulty(target: str, *, seed: int, share: float = 0.2) -> Iterator[FaultyProxy]:
    """A running proxy in front of `target`."""
    proxy = FaultyProxy(target, seed=seed, share=share)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
