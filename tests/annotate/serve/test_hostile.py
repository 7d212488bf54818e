"""The detector's server and whoever means it no good: every request gets an answer that says what was wrong with it."""

import asyncio
import base64
import contextlib
import io
import json
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image
from pydantic import SecretStr

from annotate.serve.admission import Admission, is_this_machine
from annotate.serve.app import make_app
from annotate.serve.chat import MAX_TEXT
from annotate.serve.connections import configuration
from annotate.serve.served import Served
from annotate.vlm.contract import Answer, AskError, EncodedImage, Question
from annotate.vlm.local import LocalBackend
from schemas.geometry import ImageSize
from sdg_data.prompt_templates import DETECT, load_template
from sdg_data.settings import VlmSettings
from tests.annotate import tiny_vlm
from tests.annotate.fake_backend import FakeBackend
from tests.annotate.serve.odd_requests import FINE, attack, draw, free_port, serve, wait_for
from tests.annotate.serve.test_serve import CONFIG, URL, chat
from tests.annotate.support import CLEAN, Home, picture


def app_of(backend: Any = None, home: Home | None = None, token: str | None = None) -> FastAPI:
    served = Served(
        backend or FakeBackend(lambda asked: [CLEAN]), load_template(DETECT), 200, 0.0,
        home.store if home else None, home.blobs if home else None,
    )  # fmt: skip
    return make_app(served, token=SecretStr(token) if token else None)


def client_of(app: Any, host: str = "127.0.0.1:9090") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


def post(app: Any, path: str, body: bytes, **headers: str) -> httpx.Response:
    async def go() -> httpx.Response:
        async with client_of(app) as client:
            return await client.post(path, content=body, headers={"content-type": "application/json", **headers})

    return asyncio.run(go())


def ask(app: Any, text: str, url: str = URL) -> httpx.Response:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    body = {"messages": [{"role": "user", "content": parts}]}
    return post(app, "/v1/chat/completions", json.dumps(body).encode())


def data_url(width: int, height: int) -> str:
    """A PNG whose header claims a size; its pixels are a few bytes."""
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def test_a_text_beyond_all_bounds_is_refused() -> None:
    backend = FakeBackend(lambda asked: [CLEAN])
    assert ask(app_of(backend), "x" * MAX_TEXT).status_code == 200
    reply = ask(app_of(backend), "x" * (MAX_TEXT + 1))
    assert (reply.status_code, reply.json()["error"]["message"]) == (
        400, f"{MAX_TEXT + 1} characters of text, more than the {MAX_TEXT} that are read",
    )  # fmt: skip
    tasks = [{"data": {"image": URL, "prompt": "x" * (MAX_TEXT + 1)}}]
    predicted = post(app_of(backend), "/predict", json.dumps({"tasks": tasks, "label_config": CONFIG}).encode())
    assert "characters" in predicted.json()["results"][0]["error"]
    assert len(backend.asked) == 1


def test_a_picture_too_large_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend(lambda asked: [CLEAN])
    monkeypatch.setattr(backend, "prepare", lambda *_: pytest.fail("decoded"))
    reply = ask(app_of(backend), "what?", data_url(13_000, 13_000))
    assert reply.status_code == 400
    assert "13000x13000 are more pixels than the 40000000" in reply.json()["error"]["message"]


def test_pictures_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend(lambda asked: [CLEAN])
    prepare, at_once, most = backend.prepare, 0, 0

    def watched(data: bytes, media_type: str) -> EncodedImage:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            return prepare(data, media_type)
        finally:
            at_once -= 1

    monkeypatch.setattr(backend, "prepare", watched)

    async def go() -> list[int]:
        async with client_of(app_of(backend)) as client:
            replies = await asyncio.gather(*(client.post("/v1/chat/completions", json=chat()) for _ in range(8)))
        return [reply.status_code for reply in replies]

    assert asyncio.run(go()) == [200] * 8
    assert most == 1


def test_a_question_that_fails_takes_no_neighbour_with_it(tmp_path: Path) -> None:
    model = tiny_vlm.save_qwen3(tmp_path / "qwen3")  # reads 4096 tokens, a byte each
    local = LocalBackend(VlmSettings(backend="transformers", model=str(model), device="cpu", max_tokens=4))
    local.load()
    long = Question("x" * 5000, picture(), "c")
    beyond = Question("x" * 500_000, picture(), "c")
    narrow = Question("x", EncodedImage(picture(1000, 2).data, "image/png", ImageSize(width=1000, height=2)), "c")
    results = local.generate([Question("one", picture(), "c"), long, beyond, narrow, Question("two", picture(), "c")])
    assert [getattr(result, "code", "answered") for result in results] == [
        "answered", "too-long", "too-long", "model-error", "answered",
    ]  # fmt: skip
    assert isinstance(results[0], Answer)
    assert isinstance(results[1], AskError)
    assert results[1].message == "5025 tokens, for a model that reads 4096"
    reply = ask(app_of(FakeBackend(lambda asked: [AskError("too-long", "9 tokens")])), "x")
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "too-long: 9 tokens")


def test_the_host_must_be_this_machine_unless_a_token_keeps_others_out() -> None:
    async def status(app: Any, host: str) -> int:
        async with client_of(app, host) as client:
            return (await client.get("/health")).status_code

    for host in ("evil.example.net", "127.0.0.1.evil.example.net:9090", "192.0.2.7:9090"):
        assert asyncio.run(status(app_of(), host)) == 400
        assert asyncio.run(status(app_of(token="sesame"), host)) == 200
    for host in ("localhost", "127.0.0.1:9090", "[::1]:9090"):
        assert asyncio.run(status(app_of(), host)) == 200
    assert not is_this_machine("")


def test_bytes_that_wait_are_bounded() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await inside.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def go() -> list[int]:
        nonlocal inside
        inside = asyncio.Event()
        admission = Admission(app, any_host=False, max_body=100, max_buffered=150)
        async with client_of(admission) as client:
            first = asyncio.create_task(client.post("/", content=b"x" * 90))
            await asyncio.sleep(0)
            while not admission._buffered:
                await asyncio.sleep(0)
            statuses = [(await client.post("/", content=b"x" * size)).status_code for size in (101, 90)]
            inside.set()
            statuses.append((await first).status_code)
            return [*statuses, (await client.post("/", content=b"x" * 90)).status_code, admission._buffered]

    inside = asyncio.Event()
    assert asyncio.run(go()) == [413, 503, 200, 200, 0]


def test_a_body_that_never_ends_is_not_waited_for() -> None:
    sent: list[dict[str, Any]] = []

    async def go() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions", "raw_path": b"", "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-length", b"9")], "asgi": {"version": "3.0"},
            "http_version": "1.1", "scheme": "http", "server": ("localhost", 1), "client": ("localhost", 2),
        }  # fmt: skip
        await Admission(app_of(), any_host=False, body_seconds=0.0)(scope, receive, send)

    asyncio.run(go())
    assert sent[0]["status"] == 408


@contextlib.asynccontextmanager
async def listening(app: Any, **bounds: Any) -> AsyncIterator[int]:
    """A server on this event loop; its port."""
    server = uvicorn.Server(configuration(app, **bounds))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await running


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


async def connected(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def is_healthy(port: int) -> bool:
    reader, writer = await connected(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    line = await reader.readline()
    writer.close()
    return line == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("begun", [b"", b"POS", HEAD, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /"])
def test_the_oldest_of_many_connections_without_a_request_makes_room(begun: bytes) -> None:
    async def go() -> None:
        async with listening(app_of(), most=3) as port:
            held = [await connected(port, begun) for _ in range(4)]
            assert b"HTTP/1.1 4" not in await held[0][0].read()  # to its end
            assert await is_healthy(port)
            for _, writer in held:
                writer.close()

    asyncio.run(go())


@pytest.mark.parametrize("begun", [b"", HEAD])
def test_a_request_whose_head_never_ends_is_not_waited_for(begun: bytes) -> None:
    async def go() -> None:
        async with listening(app_of(), seconds=0.05) as port:
            reader, writer = await connected(port, begun)
            assert await reader.read() == b""
            writer.close()
            assert await is_healthy(port)

    asyncio.run(go())


def test_a_connection_on_which_an_answer_is_made_is_not_one_that_waits() -> None:
    opened = asyncio.Event()
    backend = FakeBackend(lambda asked: [CLEAN], gate=lambda: opened)

    async def go() -> bytes:
        async with listening(app_of(backend), most=1, seconds=0.05) as port:
            body = json.dumps(chat()).encode()
            reader, writer = await connected(port, HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            while not backend.at_once:
                await asyncio.sleep(0)
            for _ in range(3):  # each is closed when its time is up
                idle, other = await connected(port, b"")
                assert await idle.read() == b""
                other.close()
            opened.set()
            line = await reader.readline()
            writer.close()
            return line

    assert asyncio.run(go()) == b"HTTP/1.1 200 OK\r\n"


def test_the_oldest_of_many_bodies_on_their_way_makes_room() -> None:
    async def go() -> list[bytes]:
        app = Admission(app_of(), any_host=False, most_arriving=3)
        async with listening(app) as port:
            held = [await connected(port, HEAD + b"Content-Length: 9\r\n\r\n{") for _ in range(4)]
            line = await held[0][0].readline()
            held[1][1].write(b"       }")
            answered = await held[1][0].readline()
            assert await is_healthy(port)
            for _, writer in held:
                writer.close()
            return [line, answered]

    assert asyncio.run(go()) == [b"HTTP/1.1 408 Request Timeout\r\n", b"HTTP/1.1 400 Bad Request\r\n"]


@pytest.mark.parametrize("rest", [b"zz\r\n", b"-1\r\n", b"5\r\nabcdefgh"])
@pytest.mark.parametrize("host", [b"localhost", b"evil.example.net"])
def test_what_is_no_http_leaves_no_traceback(host: bytes, rest: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Before the answer, or after one (a foreign host is refused before the body comes)."""

    async def go() -> None:
        async with listening(app_of()) as port:
            head = HEAD.replace(b"localhost", host) + b"Transfer-Encoding: chunked\r\n\r\n"
            reader, writer = await connected(port, head if host != b"localhost" else head + rest)
            assert await reader.readline() == b"HTTP/1.1 400 Bad Request\r\n"
            if host != b"localhost":
                writer.write(rest)
            await reader.read()
            writer.close()
            assert await is_healthy(port)

    asyncio.run(go())
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("header", ["Basic \xff", "Basic /w==", "Bearer \xff", "Bearer", "\xff", "Basic OnNlc2FtZQ"])
def test_odd_credentials_are_wrong_ones(header: str) -> None:
    async def go() -> int:
        async with client_of(app_of(token="sesame")) as client:
            request = client.build_request("POST", "/predict", content=b"{}")
            request.headers = httpx.Headers([*request.headers.raw, (b"authorization", header.encode("latin-1"))])
            return (await client.send(request)).status_code

    assert asyncio.run(go()) == 401


def test_halves_of_characters_are_no_error_of_the_server(make_home: Callable[[int], Home]) -> None:
    app = app_of(home=make_home(1))
    half = "\ud800"
    body = {"tasks": [{"data": {"image_id": half}}, {"data": {"image": URL, "prompt": half}}], "label_config": CONFIG}
    predicted = post(app, "/predict", json.dumps(body).encode())
    assert predicted.status_code == 200
    assert "there is no image" in predicted.json()["results"][0]["error"]
    assert predicted.json()["results"][1]["result"] == []
    assert ask(app, half).status_code == 200
    for odd in ({"tasks": half}, {"tasks": [], half: 1, "label_config": 5}, {"tasks": [], "label_config": f"<{half}"}):
        assert post(app, "/predict", json.dumps(odd).encode()).status_code == 400
    strange = post(app, "/v1/chat/completions", json.dumps({"messages": [], half: half}).encode())
    assert strange.status_code == 400


@pytest.mark.parametrize("count", [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_odd_requests_get_an_answer_each(count: int) -> None:
    app = app_of()
    rng = random.Random(7)

    async def go() -> Counter[tuple[str, int]]:
        seen: Counter[tuple[str, int]] = Counter()
        async with client_of(app) as client:
            for _ in range(count):
                kind, asked = draw(rng, whole=True)
                reply = await client.request(asked.method, asked.path, content=asked.body, headers=asked.headers)
                seen[kind, reply.status_code] += 1
        return seen

    seen = asyncio.run(go())
    assert {status for _, status in seen} <= FINE, seen
    assert sum(seen.values()) == count
    for wanted in (200, 400):
        assert sum(number for (_, status), number in seen.items() if status == wanted) > count / 20


def test_values_are_counted_before_they_are_made() -> None:
    many = b"[" + b"{}," * 60_000 + b"{}]"
    for path in ("/predict", "/v1/chat/completions"):
        reply = post(app_of(), path, many)
        assert reply.status_code == 400
        assert "more than 100000 values" in reply.json()["error"]["message"]


def test_small_requests_do_not_wait_for_large_ones() -> None:
    async def go() -> int:
        served = Served(FakeBackend(lambda asked: [CLEAN]), load_template(DETECT), 200, 0.0)
        async with served.large, client_of(make_app(served)) as client:
            return (await client.post("/v1/chat/completions", json=chat())).status_code

    assert asyncio.run(go()) == 200


def test_a_long_request_leaves_room_for_others(make_home: Callable[[int], Home]) -> None:
    opened = asyncio.Event()
    backend = FakeBackend(lambda asked: [CLEAN], gate=lambda: opened)

    async def go() -> tuple[int, int, int]:
        async with client_of(app_of(backend)) as client:
            tasks = [{"data": {"image": URL, "prompt": "c"}}] * 40
            long = asyncio.create_task(client.post("/predict", json={"tasks": tasks, "label_config": CONFIG}))
            while backend.at_once < 4:
                await asyncio.sleep(0)
            opened.set()
            reply = await long
        return reply.status_code, len(reply.json()["results"]), backend.most_at_once

    assert asyncio.run(go()) == (200, 40, 4)


@pytest.mark.slow
@pytest.mark.parametrize("count", [300, 10_000])
def test_a_real_server_survives_odd_bytes(count: int, tmp_path: Path) -> None:
    """`python -m tests.annotate.serve.odd_requests` runs the same, and says how long others waited."""
    port = free_port()
    server = serve(port, tmp_path / "log")
    try:
        seen = asyncio.run(attack(port, server.pid, count, 3, 4, crowd=400))
    finally:
        server.kill()
        server.wait()
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8", errors="replace")
    assert seen["wrong"] == []
    assert seen["requests"] == count
    assert seen["memory_above_the_model_mb"] < 2048


_STUCK = """
import threading
from annotate.vlm import local
from sdg_data.cli import run

def stuck(self, questions):
    print("computing", flush=True)
    threading.Event().wait()

local.LocalBackend.generate = stuck
run(["--home", "/nonexistent", "serve", "detector", "--backend", "mini", "--port", "{port}"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_a_server_whose_model_is_at_work(number: int, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    line = [sys.executable, "-c", _STUCK.replace("{port}", str(port))]
    with log.open("wb") as errors, subprocess.Popen(line, stdout=subprocess.PIPE, stderr=errors) as server:
        try:
            wait_for(port, server)
            with socket.create_connection(("127.0.0.1", port)) as client:
                body = json.dumps(chat()).encode()
                head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + body)
                assert server.stdout is not None
                assert server.stdout.readline() == b"computing\n"
                server.send_signal(number)
                server.wait(60)
        finally:
            server.kill()
    said = log.read_text(encoding="utf-8")
    assert "Cancel 1 running task(s)" in said
    assert "Traceback" not in said
