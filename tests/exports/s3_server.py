"""An S3 server on loopback that can lose object PUTs. A program: prints its port, serves until its stdin closes.

`PUT /-/faults` with `{"share": 0.5, "down_after": null, "seed": 1}` sets what happens from then on; `GET` says what
did. A lost PUT is, by luck: refused with 500; cut, the connection reset after half of the body; or forgotten, stored
with the reply never sent. `down_after`: after so many object PUTs every further one is refused.
"""

import io
import json
import os
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

REFUSAL = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>We lost it.</Message></Error>"


class Faulty:
    """moto's S3 with the faults in front of it."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app, self._lock = app, threading.Lock()
        self._set({"share": 0.0, "down_after": None, "seed": 0})

    def _set(self, wanted: dict[str, Any]) -> None:
        self._share, self._down_after = wanted["share"], wanted["down_after"]
        self._rng = random.Random(wanted["seed"])
        self.seen = {"puts": 0, "refused": 0, "cut": 0, "forgotten": 0}

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path, length = environ["PATH_INFO"], int(environ.get("CONTENT_LENGTH") or 0)
        if path == "/-/faults":
            if environ["REQUEST_METHOD"] == "PUT":
                self._set(json.loads(environ["wsgi.input"].read(length)))
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self.seen).encode()]
        if environ["REQUEST_METHOD"] != "PUT" or path.strip("/").count("/") == 0:  # a bucket's own PUT never fails
            return self._app(environ, start)
        fate = self._fate()
        if fate == "cut":
            environ["wsgi.input"].read(length // 2)
            self._reset(environ)
        body = environ["wsgi.input"].read(length)
        if fate == "refused":
            start("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [REFUSAL]
        environ["wsgi.input"] = io.BytesIO(body)
        answer = self._app(environ, start)
        if fate == "forgotten":
            b"".join(answer)
            self._reset(environ)
        return answer

    def _fate(self) -> str:
        with self._lock:
            self.seen["puts"] += 1
            if self._down_after is not None and self.seen["puts"] > self._down_after:
                fate = "refused"
            elif self._rng.random() < self._share:
                fate = self._rng.choice(["refused", "cut", "forgotten"])
            else:
                return "stored"
            self.seen[fate] += 1
            return fate

    @staticmethod
    def _reset(environ: dict[str, Any]) -> None:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError


def main() -> None:
    """Serve on a free port until stdin closes, which it does when the parent ends, however it ends."""
    server = make_server(
        "127.0.0.1",
        0,
        Faulty(DomainDispatcherApplication(create_backend_app)),
        threaded=True,
        request_handler=MotoRequestHandler,
    )

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
