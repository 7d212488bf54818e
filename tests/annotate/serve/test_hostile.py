"""The detector's server and whoever means it no good: every request gets an answer that says what was wrong with it."""

import asyncio
import base64
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from pydantic import SecretStr

from annotate.serve.admission import Admission, is_this_machine
from annotate.serve.app import make_app
from annotate.serve.chat import MAX_TEXT
from annotate.serve.served import Served
from annotate.vlm.contract import Answer, AskError, EncodedImage, Question
from annotate.vlm.fake import FakeBackend
from annotate.vlm.local import LocalBackend
from schemas.geometry import ImageSize
from sdg_data.prompt_templates import DETECT, load_template
from sdg_data.settings import VlmSettings
from tests.annotate import tiny_vlm
from tests.annotate.serve.test_serve import CONFIG, URL, chat
from tests.annotate.support import CLEAN, Home, picture

FINE = {200, 400, 401, 404, 405, 408, 413, 422, 503}


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


def mutated(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """A value of JSON with something in it replaced, removed or repeated."""
    odd: list[Any] = [
        None, True, -1, 0, 1e308, 10**30, "", "\ud800", "\u0000", "x" * 3000, [], {}, [[]], [{}] * 40, {"": ""},
        "data:image/png;base64,AAAA", "data:image/png;base64,%%", "<a", "<|image_pad|>", URL,
    ]  # fmt: skip
    if rng.random() < 0.15 or depth > 6:
        return rng.choice(odd)
    if isinstance(value, dict):
        changed = {key: mutated(rng, inner, depth + 1) if rng.random() < 0.4 else inner for key, inner in value.items()}
        if changed and rng.random() < 0.2:
            changed.pop(rng.choice(list(changed)))
        if rng.random() < 0.1:
            changed[rng.choice(["n", "stream", "temperature", "max_tokens", "\ud800", "tasks", "id"])] = rng.choice(odd)
        return changed
    if isinstance(value, list):
        return [mutated(rng, inner, depth + 1) for inner in value] * rng.choice([0, 1, 1, 1, 2, 30])
    return value if rng.random() < 0.5 else rng.choice(odd)


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_requests_get_an_answer_each(make_home: Callable[[int], Home], count: int) -> None:
    home = make_home(1)
    app = app_of(home=home)
    image = next(iter(home.image_of.values())).id
    predict = {"tasks": [{"id": 1, "data": {"image_id": image, "prompt": "c", "image": URL}}], "label_config": CONFIG}
    rng = random.Random(7)

    async def go() -> dict[int, int]:
        seen: dict[int, int] = {}
        async with client_of(app) as client:
            for number in range(count):
                path, base = (("/v1/chat/completions", chat()), ("/predict", predict))[number % 2]
                body = json.dumps(mutated(rng, base)).encode()
                if rng.random() < 0.2:
                    at = rng.randrange(len(body))
                    body = body[:at] + bytes([rng.randrange(256)]) + body[at + rng.randrange(3) :]
                status = (
                    await client.post(path, content=body, headers={"content-type": "application/json"})
                ).status_code
                seen[status] = seen.get(status, 0) + 1
        return seen

    seen = asyncio.run(go())
    assert set(seen) <= FINE, seen
    assert sum(seen.values()) == count
    assert seen[200] > count / 20
    assert seen[400] > count / 20
