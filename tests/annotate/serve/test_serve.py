"""The server, asked by real clients over a real socket: the OpenAI SDK, plain HTTP, and Label Studio's requests."""

import asyncio
import base64
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx2 as httpx
import pytest
import uvicorn
from pydantic import SecretStr

from annotate.labelstudio.config import LabelConfig, Tags
from annotate.labelstudio.convert import ShownRegions, parse
from annotate.serve.app import make_app
from annotate.serve.label_studio import BLIND, read_tags, regions
from annotate.serve.served import Served
from annotate.vlm.batching import DynamicBatcher
from annotate.vlm.contract import Answer, AskError, Backend, Question
from annotate.vlm.openai_chat import OpenAIBackend
from schemas.codecs import LabelStudio
from schemas.geometry import Box, ImageSize, PercentBox
from schemas.labelling import LabelProject, LabelTask, ProjectKind, TaskState
from sdg_data.listening import is_loopback
from sdg_data.prompt_templates import DETECT, load_template
from sdg_data.store import labelling
from tests.annotate.fake_backend import FakeBackend
from tests.annotate.support import CLEAN, ONE, Home, picture, question, server_settings
from tests.sdg_data.store.makers import defect

MakeHome = Callable[[int], Home]
URL = f"data:image/png;base64,{base64.b64encode(picture().data).decode()}"
CONFIG = """<View><Image name="img" value="$image"/>
<RectangleLabels name="box" toName="img"><Label value="artifact"/><Label value="misalignment"/></RectangleLabels>
<TextArea name="why" toName="img" perRegion="true"/><Number name="weight" toName="img" perRegion="true"/>
<TextArea name="note" toName="img"/></View>"""


@contextlib.contextmanager
def serving(backend: Backend, *, token: str | None = None, home: Home | None = None) -> Iterator[str]:
    """The URL of a server on a free port."""
    served = Served(
        backend, load_template(DETECT), 200, 0.0, home.store if home else None, home.blobs if home else None
    )
    app = make_app(served, token=SecretStr(token) if token else None)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        listening.close()


def chat(url: str = URL, **changes: Any) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what?"}]
    return {"model": "any", "messages": [{"role": "user", "content": parts}], **changes}


def test_our_own_client_asks_our_own_server() -> None:
    backend = FakeBackend([Answer(ONE, "length", 321, 12)])
    with serving(backend, token="sesame") as url:

        async def go() -> Answer:
            client = OpenAIBackend(server_settings(f"{url}/v1"), environ={"OPENAI_API_KEY": "sesame"})
            try:
                return await client.ask(question("look well"))
            finally:
                await client.close()

        answer = asyncio.run(go())
    assert (answer.text, answer.finish, answer.tokens_in, answer.tokens_out) == (ONE, "length", 321, 12)
    asked = backend.asked[0]
    assert (asked.text, asked.image.data, asked.max_tokens, asked.image_first) == (
        "look well",
        picture().data,
        200,
        True,
    )
    assert backend.closed, "the server lets its model go"


def test_a_token_is_wanted_everywhere_but_for_health() -> None:
    with serving(FakeBackend([CLEAN]), token="sesame") as url:
        assert httpx.get(f"{url}/health").status_code == 200
        for path in ("/v1/chat/completions", "/predict", "/setup"):
            assert httpx.post(f"{url}{path}", json={}).status_code == 401
            assert httpx.post(f"{url}{path}", json={}, headers={"authorization": "Bearer other"}).status_code == 401
            assert httpx.post(f"{url}{path}", json={}, headers={"authorization": "Basic !!"}).status_code == 401
        assert httpx.post(f"{url}/setup", auth=("label-studio", "sesame")).status_code == 200
        bearer = {"authorization": "Bearer sesame"}
        assert httpx.post(f"{url}/v1/chat/completions", json=chat(), headers=bearer).status_code == 200


def test_health_says_what_is_served() -> None:
    with serving(FakeBackend([CLEAN], model="detector-7")) as url:
        about = httpx.get(f"{url}/health").json()
        listed = httpx.get(f"{url}/v1/models").json()
    template = load_template(DETECT)
    assert about["status"] == "UP"
    assert (about["model"], about["revision"], about["template"]) == ("detector-7", "1", template.id)
    assert about["template_sha256"] == template.sha256
    assert [entry["id"] for entry in listed["data"]] == ["detector-7"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "no JSON"),
        (b"[" * 50_000, "JSON"),
        (json.dumps({"messages": []}).encode(), "messages"),
        (json.dumps(chat(stream=True)).encode(), "stream"),
        (json.dumps(chat(n=2)).encode(), "n:"),
        (json.dumps(chat(tools=[])).encode(), "tools"),
        (json.dumps(chat(temperature=1.0)).encode(), "temperature"),
        (json.dumps(chat("http://169.254.169.254/latest")).encode(), "data URL"),
        (json.dumps(chat("file:///etc/passwd")).encode(), "data URL"),
        (json.dumps(chat("data:image/png;base64,!!!")).encode(), "cannot be read"),
        (json.dumps(chat("data:image/png;base64,AAAA")).encode(), "cannot be read"),
        (json.dumps({"messages": [{"role": "user", "content": "only text"}]}).encode(), "first message"),
        (json.dumps({"messages": [*chat()["messages"], {"role": "user", "content": "x"}]}).encode(), "in turn"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_a_reason(body: bytes, says: str) -> None:
    with serving(FakeBackend([CLEAN])) as url:
        reply = httpx.post(f"{url}/v1/chat/completions", content=body)
    assert reply.status_code == 400
    assert says in reply.json()["error"]["message"]


def test_a_body_without_bounds_is_refused() -> None:
    with serving(FakeBackend([CLEAN])) as url:
        assert httpx.post(f"{url}/predict", content=b"x" * (33 * 2**20)).status_code == 413


def test_a_failure_of_the_model_is_no_answer() -> None:
    with serving(FakeBackend([AskError("refused", "not this one")])) as url:
        reply = httpx.post(f"{url}/v1/chat/completions", json=chat())
    assert (reply.status_code, reply.json()["error"]["message"]) == (422, "refused: not this one")


class Queued(FakeBackend):
    """A fake behind a queue of one, whose model waits until it is let go."""

    def __init__(self) -> None:
        super().__init__([CLEAN])
        self.free = threading.Event()
        self.started = threading.Event()
        self._batcher = DynamicBatcher[Question, Answer](self._run, max_batch=1, max_waiting=1)

    @property
    def waiting(self) -> int:
        return self._batcher.waiting

    def _run(self, batch: Any) -> list[Answer | Exception]:
        self.started.set()
        assert self.free.wait(20)
        return [Answer(CLEAN) for _ in batch]

    async def ask(self, asked: Question) -> Answer:
        return await self._batcher.put(asked)


def test_beyond_the_queue_it_says_503_and_when_to_come_back() -> None:
    backend = Queued()
    with serving(backend) as url:

        async def go() -> list[httpx.Response]:
            async with httpx.AsyncClient(timeout=20) as client:
                first = asyncio.create_task(client.post(f"{url}/v1/chat/completions", json=chat()))
                await asyncio.to_thread(backend.started.wait, 10)
                second = asyncio.create_task(client.post(f"{url}/v1/chat/completions", json=chat()))
                while (await client.get(f"{url}/health")).json()["waiting"] < 1:
                    pass
                third = await client.post(f"{url}/v1/chat/completions", json=chat())
                backend.free.set()
                return [await first, await second, third]

        replies = asyncio.run(go())
    assert [reply.status_code for reply in replies] == [200, 200, 503]
    assert replies[2].headers["retry-after"] == "1"


def test_label_studio_gets_regions_under_the_projects_own_names(make_home: MakeHome) -> None:
    home = make_home(2)
    caption, image = next(iter(home.image_of.items()))
    backend = FakeBackend([ONE])
    tasks = [
        {"id": 1, "data": {"image_id": image.id, "image": "/data/local-files/?d=x.png", "prompt": "ignored"}},
        {"id": 2, "data": {"image": URL, "prompt": "a cat"}},
    ]
    with serving(backend, home=home) as url:
        setup = httpx.post(f"{url}/setup", json={"project": "1", "schema": CONFIG}).json()
        reply = httpx.post(f"{url}/predict", json={"tasks": tasks, "label_config": CONFIG, "project": "1.2"}).json()
    assert sorted(asked.prompt for asked in backend.asked) == sorted([caption, "a cat"])
    assert reply["model_version"] == setup["model_version"] == f"fake:1:{load_template(DETECT).id}"
    for prediction in reply["results"]:
        box, reason, weight = prediction["result"]
        assert {region["id"] for region in prediction["result"]} == {box["id"]}
        assert (box["from_name"], box["to_name"], box["type"]) == ("box", "img", "rectanglelabels")
        assert (box["original_width"], box["original_height"]) == (64, 64)
        assert box["value"]["rectanglelabels"] == ["artifact"]
        percent = PercentBox(**{name: box["value"][name] for name in ("x", "y", "width", "height")})
        assert LabelStudio().decode(percent) == Box(x0=100, y0=200, x1=300, y1=400)
        assert (reason["from_name"], reason["value"]["text"]) == ("why", ["a dent"])
        assert (weight["from_name"], weight["value"]["number"]) == ("weight", 40)


def test_a_task_without_an_answer_is_an_error_and_no_clean_image(make_home: MakeHome) -> None:
    home = make_home(3)
    names = list(home.image_of)
    broken = home.image_of[names[2]].blob
    (home.folder / "blobs" / broken[:2] / broken).write_bytes(b"spoilt")
    texts = {names[0]: "I see nothing of note.", names[1]: CLEAN}
    ids = [home.image_of[name].id for name in names]
    tasks = [{"data": {"image_id": answer_id}} for answer_id in [*ids, "f" * 32]] + [
        {"data": {"image": "http://x/y.png"}}
    ]
    with serving(FakeBackend(lambda asked: [texts[asked.prompt]]), home=home) as url:
        results = httpx.post(f"{url}/predict", json={"tasks": tasks}, timeout=60).json()["results"]
    assert ["result" in result for result in results] == [False, True, False, False, False]
    assert results[1]["result"] == []
    assert "no-answer-block" in results[0]["error"]
    assert "cannot be read" in results[2]["error"]
    assert "no image" in results[3]["error"]


def test_a_blind_task_gets_no_prediction_whatever_its_data_say(make_home: MakeHome) -> None:
    home = make_home(3)
    blind, seen, marked = (record.id for record in home.image_of.values())
    project = LabelProject(
        id="1" * 32, name="SDG", kind=ProjectKind.ANNOTATE, round=1, generation=0, config_version="v", config="<View/>",
        closed=False, created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    task = LabelTask(
        id="2" * 32, project_id=project.id, image_id=blind, prelabel_id=None, parent_id=None, blind=True, overlap=1,
        priority=0, state=TaskState.PUSHED, created_at=project.created_at,
    )  # fmt: skip
    with home.store.write() as tx:
        labelling.insert_project(tx, project)
        labelling.mark_pending(tx, [task])
    tasks = [
        {"data": {"sdg_uid": task.id, "image_id": blind}},
        {"data": {"image_id": blind}, "meta": {"sdg_blind": False}},
        {"data": {"sdg_uid": task.id, "image": URL, "prompt": "a dog"}, "meta": "odd"},
        {"data": {"image_id": marked}, "meta": {"sdg_blind": True}},
        {"data": {"image_id": seen}, "meta": {"sdg_blind": False}},
    ]
    with serving(FakeBackend([ONE]), home=home) as url:
        results = httpx.post(f"{url}/predict", json={"tasks": tasks}, timeout=60).json()["results"]
    assert ["result" in result for result in results] == [False, False, False, False, True]
    assert {result.get("error") for result in results} == {BLIND, None}


def test_our_own_page_gets_importance_as_text_and_the_subtype() -> None:
    tags = read_tags(LabelConfig().xml)
    made = regions((defect(type="artifact", subtype="edge", importance=40),), tags, ImageSize(width=8, height=8))
    assert {item["from_name"]: item["value"].get("text") or item["value"].get("choices") for item in made} == {
        "defect": None,
        "reason": [made[1]["value"]["text"][0]],
        "importance": ["40"],
        "artifact_subtype": ["edge"],
    }
    assert parse(made, ShownRegions()).defects[0].defect.subtype == "edge"


def test_tags_of_a_labelling_config() -> None:
    assert read_tags(CONFIG) == Tags("img", "box", "why", "weight")
    bare = '<View><RectangleLabels name="b" toName="i"/></View>'
    assert read_tags(bare) == Tags("i", "b", None, None)
    assert len(regions((defect(),), read_tags(bare), ImageSize(width=8, height=8))) == 1


@pytest.mark.parametrize("config", ["<View>", "<View/>", '<!DOCTYPE x [<!ENTITY a "b">]><View/>', "<a>" * 100_000])
def test_a_config_that_cannot_be_used(config: str) -> None:
    with serving(FakeBackend([CLEAN])) as url:
        assert httpx.post(f"{url}/predict", json={"tasks": [], "label_config": config}).status_code == 400


def test_who_can_reach_a_host() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")] == [False] * 5
