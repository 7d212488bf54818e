"""The hosted editor against a server on loopback: what is sent, and what each answer becomes."""

import asyncio
import base64
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from generators.editors.contract import EditedImage, EditError, EditRequest
from generators.editors.hosted import HostedEditor
from generators.editors.presets import EditorPreset, editor_presets
from generators.images import GeneratedImage
from sdg_data.errors import ConfigError
from sdg_data.picture.decode import decode_pixels

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
ASKED = EditRequest(IMAGE, np.ones((20, 30), np.float32), "mend it", (IMAGE[::-1],), 4)


class Server:
    """Answers what it is told, the last thing again and again; `seen` holds the fields of every request."""

    def __init__(self, answers: Sequence[tuple[int, str]]) -> None:
        self.answers, self.seen, self.headers = list(answers), list[list[tuple[str, bytes]]](), list[dict[str, str]]()

    async def edits(self, request: web.Request) -> web.Response:
        parts = await request.multipart()
        fields = [(str(part.name), bytes(await part.read())) async for part in parts]  # type: ignore[union-attr]
        self.seen.append(fields)
        self.headers.append(dict(request.headers))
        status, text = self.answers[min(len(self.seen), len(self.answers)) - 1]
        return web.Response(status=status, text=text)


@contextmanager
def served(*answers: tuple[int, str]) -> Iterator[tuple[Server, EditorPreset]]:
    server, started = Server(answers), threading.Event()
    loop = asyncio.new_event_loop()
    place: dict[str, Any] = {}

    async def start() -> None:
        app = web.Application()
        app.router.add_post("/v1/images/edits", server.edits)
        place["runner"] = web.AppRunner(app)
        await place["runner"].setup()
        site = web.TCPSite(place["runner"], "127.0.0.1", 0)
        await site.start()
        place["port"] = place["runner"].addresses[0][1]

    def run() -> None:
        loop.run_until_complete(start())
        loop.call_soon(started.set)  # not before: a stop that comes while `start` ends would be forgotten
        loop.run_forever()
        loop.run_until_complete(place["runner"].cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        address = f"http://127.0.0.1:{place['port']}/v1"
        yield server, editor_presets()["hosted"].model_copy(update={"base_url": address})
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def good(pixels: np.ndarray) -> tuple[int, str]:
    data = base64.b64encode(GeneratedImage(pixels, "").png()).decode()
    return 200, json.dumps({"data": [{"b64_json": data}]})


def test_image_copy_and_text_are_sent_and_the_answer_is_brought_to_the_images_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with served(good(np.full((64, 64, 3), 7, np.uint8))) as (server, preset):
        edited = HostedEditor(preset).edit(ASKED)
    assert isinstance(edited, EditedImage)
    assert edited.pixels.shape == IMAGE.shape
    assert (edited.pixels == 7).all()
    assert edited.returned == (64, 64)
    fields = server.seen[0]
    said = {name: value.decode() for name, value in fields if name != "image[]"}
    assert said == {"model": "gpt-image-1.5", "prompt": "mend it", "n": "1", "quality": "high"}
    sent = [decode_pixels(value) for name, value in fields if name == "image[]"]
    assert (sent[0] == IMAGE).all()
    assert (sent[1] == IMAGE[::-1]).all()
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize(
    ("answers", "code", "asked", "fatal"),
    [
        ([(400, "safety")], "refused", 1, False),
        ([(401, "who are you")], "server-error", 1, True),
        ([(500, "oh")], "server-error", 3, False),
        ([(200, "no json")], "unreadable", 1, False),
        ([(200, "[]")], "unreadable", 1, False),
        ([(200, '{"data": []}')], "unreadable", 1, False),
        ([(200, '{"data": [{"url": "http://127.0.0.1/x.png"}]}')], "unreadable", 1, False),
        ([(200, '{"data": [{"b64_json": "!!!"}]}')], "unreadable", 1, False),
        ([(200, '{"data": [{"b64_json": "aGVsbG8="}]}')], "unreadable", 1, False),
        ([(200, '{"data": [{"b64_json": 7}]}')], "unreadable", 1, False),
    ],
)
def test_what_is_no_picture_is_a_failure_with_a_code(
    answers: list[tuple[int, str]], code: str, asked: int, fatal: bool
) -> None:
    with served(*answers) as (server, preset), pytest.raises(EditError) as error:
        HostedEditor(preset, wait=0).edit(ASKED)
    assert (error.value.code, len(server.seen), error.value.fatal) == (code, asked, fatal)


def test_a_busy_server_is_asked_again() -> None:
    with served((429, "later"), good(IMAGE)) as (server, preset):
        assert (HostedEditor(preset, wait=0).edit(ASKED).pixels == IMAGE).all()
    assert len(server.seen) == 2


def test_nobody_there_is_unreachable_and_no_address_is_a_configuration_error() -> None:
    with served(good(IMAGE)) as (_, preset):
        pass
    with pytest.raises(EditError) as error:
        HostedEditor(preset, wait=0).edit(ASKED)
    assert error.value.code == "unreachable"
    with pytest.raises(ConfigError, match="no address"):
        HostedEditor(editor_presets()["hosted"])
