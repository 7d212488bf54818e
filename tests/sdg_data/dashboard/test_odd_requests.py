"""Odd requests to every route: never an error of the server, and nothing is taken in."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("gradio")

from starlette.testclient import TestClient

from sdg_data.dashboard.app import PAGES, make_app
from sdg_data.dashboard.gate import HEADERS, MOST_BYTES
from sdg_data.dashboard.page import all_figures
from tests.sdg_data.dashboard.conftest import HOSTILE, Filled

ODD_TEXTS = (
    "", "0", "-1", "1", "99999999999999999999999", "1e400", "NaN", "-inf", "0x10", "1.5", " ", "null", "true", "[]",
    "{}", "a\x00b", "\ud800", "\udfff\ud800", "\U0001f600", "\u202e", "' OR 1=1 --", "%", "_", "../../etc/passwd",
    HOSTILE, "gold", "prelabel:vlm", "annotator:zed", "people", "detector", "artifact", "clean", "major", "train",
    "paper", "release", "f" * 64, "a" * 32, "z" * 5000, "2026-11-28", "2026-13-45", "9999-12-31T23:59:59", "100",
    "101", "desc", "images", "round-1,round-2", "=1+1", "\r\nX: y", "sana", "flux2",
)  # fmt: skip
NAMES = (
    "image", "page", "sort", "model", "split", "state", "type", "subtype", "tier", "text", "gt", "pred", "other",
    "protocol", "said", "annotator", "mode", "since", "until", "failure", "least", "most", "agreement", "list", "x",
    "", "session_hash", "what", "by",
)  # fmt: skip
ROUTES = (
    "/", "/browse", "/agreement", "/evaluate", "/health", "/config", "/theme.css", "/favicon.ico", "/robots.txt",
    "/manifest.json", "/monitoring", "/monitoring/summary", "/pwa_icon", "/pwa_icon/1000000", "/logout", "/login",
    "/openapi.json", "/docs", "/gradio_api/info", "/gradio_api/startup-events", "/gradio_api/app_id",
    "/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/queue/join", "/gradio_api/queue/data",
    "/gradio_api/run/predict", "/gradio_api/api/predict", "/gradio_api/call/predict", "/gradio_api/call/v2/predict",
    "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/component_server", "/gradio_api/stream/x",
    "/gradio_api/process_recording", "/gradio_api/vibe-code/", "/gradio_api/run-history/connect",
    "/gradio_api/file=/etc/passwd", "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/openapi.json",
    "/gradio_api/deep_link", "/dev/reload", "/gradio_api/user", "/gradio_api/token", "/svelte/x", "/static/x",
    "/assets/x", "/static/", "/assets/..%2f..%2fconfig.py", "/assets/a%00b", "/nothing", "//", "/browse/",
    "/browse/x", "/blob/", "/data/",
)  # fmt: skip
FOLDERS = ("/blob/", "/data/", "/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat2/")


def quote(value: str) -> str:
    from urllib.parse import quote as percent

    return percent(value.encode("utf-8", "surrogatepass"), safe="")


def odd_requests(seed: int, number: int, events: dict[int, int], blobs: list[str]) -> Iterator[dict[str, Any]]:
    """Arguments of `TestClient.request`."""
    rng = random.Random(seed)
    figures = list(all_figures(PAGES))
    for _ in range(number):
        query = "&".join(
            f"{quote(rng.choice(NAMES))}={quote(rng.choice(ODD_TEXTS))}" for _ in range(rng.choice((0, 1, 3, 6)))
        )
        method = rng.choice(("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"))
        kind = rng.randrange(5)
        body: bytes | None = None
        if kind == 0:
            path = f"/data/{rng.choice(figures)}.{rng.choice(('csv', 'json', 'json', 'exe', ''))}"
            method = "GET"
            known = f"gt=gold&pred={rng.choice(('prelabel%3Avlm', 'annotator%3Azed', 'gold'))}"
            query = rng.choice((query, f"{known}&{query}", f"{query}&{known}"))
        elif kind == 1:
            path = rng.choice(FOLDERS) + quote(rng.choice((*ODD_TEXTS, *blobs)))
        elif kind == 2:
            path = rng.choice(ROUTES)
        else:
            method, path = (
                "POST",
                rng.choice(("/gradio_api/run/predict", "/gradio_api/run/predict", "/gradio_api/queue/join")),
            )
            body = odd_call(rng, events)
        if path == "/gradio_api/queue/data":
            query = query.replace("session_hash", "session")  # a stream has no end
        if body is None and method not in ("GET", "HEAD"):
            body = rng.choice((b"", b"{}", b"\xff\xfe", b"x" * 100, b'{"data":[]}'))
        headers = {
            "content-type": rng.choice(("application/json", "multipart/form-data; boundary=x", "text/plain", ""))
        }
        if kind > 2 and rng.random() < 0.8:
            headers = {"content-type": "application/json"}
        yield {"method": method, "url": path + (f"?{query}" if query else ""), "content": body, "headers": headers}


def odd_call(rng: random.Random, events: dict[int, int]) -> bytes:
    number = rng.choice((*events, *events, -1, 10**30, "0", None, 2.5, True))
    size = events.get(number, 3) if isinstance(number, int) else 3
    size = max(0, size + rng.choice((0, 0, 0, 0, 1, -1)))
    values: list[Any] = [
        rng.choice((*ODD_TEXTS, None, 0, -1, 2**70, 1e300, 1.5, True, [], {"a": 1}, "all")) for _ in range(size)
    ]
    if rng.random() < 0.6:
        values = [rng.choice((None, "all", "", 1, "gold", "paper", *ODD_TEXTS)) for _ in range(size)]
    call: dict[str, Any] = {
        "data": values,
        "fn_index": number,
        "session_hash": rng.choice(("abc", "abc", "abc", None, 5, "x" * 99)),
    }
    if rng.random() < 0.5:
        call["event_data"] = rng.choice(
            (None, 5, "x", [], {"image": rng.choice(ODD_TEXTS)}, {"image": ["x"]}, {"image": None})
        )
    if rng.random() < 0.2:
        call[rng.choice(("trigger_id", "event_id", "batched", "simple_format", "oauth_token", "x"))] = rng.choice(
            (1, "x", [], True)
        )
    text = json.dumps(call)
    if rng.random() < 0.1:
        text = text[: rng.randrange(len(text))]
    return text.encode()


@pytest.fixture(scope="module")
def client(filled: Filled) -> Iterator[TestClient]:
    app = make_app(filled.home, filled.blobs)
    with TestClient(app, base_url="http://127.0.0.1:7860", raise_server_exceptions=False) as started:
        yield started


def events_of(client: TestClient) -> dict[int, int]:
    """By number, how many values a function of the pages takes, as the pages themselves are told."""
    functions = client.get("/config").json()["dependencies"]
    return {function["id"]: len(function["inputs"]) for function in functions if function["backend_fn"]}


def check(client: TestClient, filled: Filled, seed: int, number: int) -> None:
    blobs = [filled.images[0].blob, filled.blobs.put(b"no picture")]
    seen: dict[int, int] = {}
    for request in odd_requests(seed, number, events_of(client), blobs):
        answer = client.request(**request, follow_redirects=False)
        assert answer.status_code < 500, (request, answer.text[:300])
        assert answer.headers["x-content-type-options"] == "nosniff"
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
    assert {200, 400, 404, 405, 422} <= seen.keys()


def test_no_odd_request_is_an_error_of_the_server(client: TestClient, filled: Filled) -> None:
    check(client, filled, seed=1, number=250)


@pytest.mark.slow
def test_no_odd_request_of_thousands_is_an_error_of_the_server(client: TestClient, filled: Filled) -> None:
    check(client, filled, seed=2, number=5000)


def test_nothing_can_be_uploaded(client: TestClient, filled: Filled) -> None:
    before = sorted(path for path in filled.home.rglob("*") if "pixels" not in path.name)
    for path in ("/gradio_api/upload", "/upload", "/gradio_api/upload?upload_id=x", "/gradio_api/process_recording"):
        answer = client.post(path, files={"files": ("x.html", b"<script>1</script>", "text/html")})
        assert answer.status_code == 404, path
    for path in ("/", "/browse", "/blob/x", "/data/images.json", "/config"):
        assert client.post(path, content=b"x").status_code == 405
        assert client.put(path, content=b"x").headers["allow"] == "GET, HEAD"
    large = b'{"data":["' + b"x" * MOST_BYTES + b'"]}'
    assert client.post("/gradio_api/run/predict", content=large).status_code == 413
    assert sorted(path for path in filled.home.rglob("*") if "pixels" not in path.name) == before


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:7860", 200), ("10.0.0.7:7860", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example:7860", 421), ("", 421),
        ("[::1", 421), ("a@b:c", 421), ("127.1", 421),
    ],
)  # fmt: skip
def test_a_name_that_is_not_this_machines_is_refused(client: TestClient, host: str, status: int) -> None:
    for path in ("/", "/data/progress.json", "/config"):
        assert client.get(path, headers={"Host": host}).status_code == status


def test_names_and_pages_of_others(filled: Filled) -> None:
    app = make_app(filled.home, filled.blobs, hosts=("Dash.Example",))
    named = TestClient(app, base_url="http://dash.example")
    assert named.get("/").status_code == 200
    ours = {"Origin": "http://dash.example", "Content-Type": "application/json"}
    call = {"data": [], "fn_index": 0, "session_hash": "abc"}
    assert named.post("/gradio_api/run/predict", json=call, headers=ours).status_code == 200
    for origin in ("http://evil.example", "null", "http://dash.example.evil", "http://[", "http://dash.example:81"):
        answer = named.post("/gradio_api/run/predict", json=call, headers={**ours, "Origin": origin})
        assert answer.status_code == 403, origin


def test_security_headers_are_on_every_answer(client: TestClient) -> None:
    for path in ("/", "/browse", "/data/progress.json", "/blob/x", "/nothing", "/gradio_api/upload"):
        answer = client.get(path)
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, path
    assert "frame-ancestors 'none'" in HEADERS["Content-Security-Policy"]
