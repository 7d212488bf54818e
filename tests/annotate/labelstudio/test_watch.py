"""The webhook's end is told that something changed, by whoever knows the secret, and nothing else."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest

from annotate.labelstudio.client import Unavailable
from annotate.labelstudio.project import SECRET_HEADER
from annotate.labelstudio.pull import PullSummary
from annotate.labelstudio.watch import PATH, listening, watch

SECRET = "s" * 64


class End:
    def __init__(self, port: int, hint: threading.Event) -> None:
        self.url, self.port, self.hint = f"http://127.0.0.1:{port}{PATH}", port, hint


@pytest.fixture
def end() -> Iterator[End]:
    hint = threading.Event()
    with listening(0, SECRET, hint) as port:
        yield End(port, hint)


def test_with_the_secret_it_is_a_hint(end: End) -> None:
    answer = httpx.post(end.url, json={"action": "ANNOTATION_CREATED"}, headers={SECRET_HEADER: SECRET})
    assert answer.status_code == 204
    assert end.hint.is_set()


@pytest.mark.parametrize("secret", [None, "", "s" * 63, "t" * 64, "ü" * 64])
def test_without_it_it_is_nothing(end: End, secret: str | None) -> None:
    headers = {} if secret is None else {SECRET_HEADER.encode(): secret.encode()}
    assert httpx.post(end.url, content=b"{}", headers=headers).status_code == 403
    assert not end.hint.is_set()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff\x00", json.dumps({"url": "http://169.254.169.254/", "path": "../../x"}).encode(),
        b"[" * 100_000, b"x" * 3_000_000,
    ],
)  # fmt: skip
def test_the_body_is_never_looked_at(end: End, body: bytes) -> None:
    answer = httpx.post(end.url, content=body, headers={SECRET_HEADER: SECRET})
    assert (answer.status_code, answer.content) == (204, b"")


def test_other_paths_and_methods_are_refused(end: End) -> None:
    headers = {SECRET_HEADER: SECRET}
    assert httpx.post(end.url + "/../../etc", headers=headers).status_code == 404
    assert httpx.get(end.url, headers=headers).status_code == 501
    assert not end.hint.is_set()


def test_a_caller_that_stalls_keeps_nobody_else_waiting(end: End) -> None:
    stalled = [socket.create_connection(("127.0.0.1", end.port)) for _ in range(20)]
    try:
        for connection in stalled:
            connection.sendall(b"POST /hint HTTP/1.1\r\nContent-Length: 1000000\r\n")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: httpx.post(end.url, headers={SECRET_HEADER: SECRET}), range(20)))
        assert {answer.status_code for answer in answers} == {204}
    finally:
        for connection in stalled:
            connection.close()


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="secret"), listening(0, "", threading.Event()):
        pass


def test_watching_pulls_at_hints_by_the_clock_and_through_outages() -> None:
    hint, stop = threading.Event(), threading.Event()
    calls: list[str] = []

    def pull() -> PullSummary:
        calls.append("pull")
        if len(calls) == 2:
            raise Unavailable("away")
        if len(calls) == 3:
            hint.set()  # as a webhook during the pull: there must be another one
        if len(calls) == 5:
            stop.set()
        return PullSummary()

    assert watch(pull, hint, stop, poll_seconds=0.01, gather_seconds=0.0) == 4
    assert len(calls) == 5
