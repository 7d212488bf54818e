"""The OpenAI backend against a local server: what is sent, and what each misbehaviour becomes."""

import asyncio
import base64
import io
import json
import logging
import time

import pytest
from PIL import Image

from annotate.vlm.contract import Answer, AskError, Question, Turn
from annotate.vlm.openai_chat import OpenAIBackend, api_key
from annotate.vlm.replies import retry_after
from schemas.answer.parse import parse_answer
from schemas.codecs import Qwen25VL
from schemas.geometry import Box
from sdg_data.errors import ConfigError
from sdg_data.settings import VlmSettings
from tests.annotate.hostile import HostileServer, Reply, answer, status
from tests.annotate.support import CLEAN, picture, question, server_settings

KEY = "sk-very-secret-0123456789"


def ask(reply: Reply, asked: Question | None = None, **changes: object) -> tuple[Answer | AskError, HostileServer]:
    async def go(server: HostileServer) -> Answer | AskError:
        backend = OpenAIBackend(server_settings(server.url, **changes), environ={"OPENAI_API_KEY": KEY})
        try:
            return await backend.ask(asked or question())
        except AskError as error:
            return error
        finally:
            await backend.close()

    with HostileServer(lambda caption, nth: reply) as server:
        return asyncio.run(go(server)), server


def test_what_is_sent() -> None:
    asked = Question("look", picture(), "c", more=(Turn("assistant", "hm"), Turn("user", "again")), image_first=False)
    result, server = ask(answer(CLEAN), asked)
    assert isinstance(result, Answer)
    assert (result.text, result.finish, result.tokens_in, result.tokens_out) == (CLEAN, "stop", 1000, 100)
    body = server.requests[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.0, 200)
    text, image = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "look"}
    assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,")) == picture().data
    assert body["messages"][1:] == [{"role": "assistant", "content": "hm"}, {"role": "user", "content": "again"}]
    assert f"authorization: bearer {KEY}" in server.headers[0].lower()


@pytest.mark.parametrize(
    ("reply", "code", "transient"),
    [
        (status(408), "http-408", True),
        (status(409), "http-409", True),
        (status(425), "http-425", True),
        (status(429), "rate-limited", True),
        (status(500), "server-error", True),
        (status(503), "server-error", True),
        (Reply("drop"), "connection", True),
        (Reply("half", CLEAN), "connection", True),
        (Reply("half-chunked", CLEAN), "connection", True),
        (Reply("half-close", CLEAN), "bad-response", False),
        (Reply("body", "<html>oops</html>"), "bad-response", False),
        (Reply("body", ""), "bad-response", False),
        (Reply("body", '{"choices": []}'), "bad-response", False),
        (Reply("body", '{"choices": [{"message": {"content": 5}}]}'), "bad-response", False),
        (Reply("body", '{"choices": [{"message": {"content": "x"}}], "usage": [1]}'), "bad-response", False),
        (Reply("body", "[" * 100_000), "bad-response", False),
        (Reply("body", '{"choices": [{"message": {"content": null, "refusal": "I cannot"}}]}'), "refused", False),
        (answer("", finish="content_filter"), "refused", False),
        (status(400), "bad-request", False),
        (status(401), "http-401", False),
        (status(404), "http-404", False),
    ],
)  # fmt: skip
def test_each_misbehaviour_has_its_code(reply: Reply, code: str, transient: bool) -> None:
    error, server = ask(reply)
    assert isinstance(error, AskError)
    assert (error.code, error.transient) == (code, transient)
    assert len(server.requests) == 1, "the SDK's own retries are off"
    assert error.fatal == (reply.status in (401, 404))


def test_a_length_stop_is_said() -> None:
    result, _ = ask(answer("<answer>[", finish="length", usage=None))
    assert isinstance(result, Answer)
    assert result.hit_length
    assert (result.tokens_in, result.tokens_out) == (None, None)


def test_the_key_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    error, _ = ask(status(429, f"you sent {KEY}"))
    assert isinstance(error, AskError)
    assert KEY not in f"{error} {error.message} {error.raw} {error.__cause__} {error.__context__!s}"
    assert "you sent ***" in str(error.raw)
    said, _ = ask(answer(f"your key is {KEY}"))
    assert isinstance(said, Answer)
    assert KEY not in said.text
    backend = OpenAIBackend(server_settings("http://x"), environ={"OPENAI_API_KEY": KEY})
    assert KEY not in json.dumps(vars(backend.identity)) + str(vars(backend))
    assert KEY not in caplog.text


def test_a_hosted_server_needs_a_key_and_one_of_ones_own_does_not() -> None:
    for url in ("", "https://api.example.com/v1"):
        with pytest.raises(ConfigError, match="MY_KEY"):
            api_key(VlmSettings(base_url=url, api_key_env="MY_KEY"), {"OPENAI_API_KEY": KEY})
    assert api_key(VlmSettings(base_url="http://10.0.0.7:8000/v1"), {}).get_secret_value() == "none"
    assert str(api_key(VlmSettings(), {"OPENAI_API_KEY": KEY})) == "**********"


def test_structured_output_is_asked_for_and_read() -> None:
    item = {"box_2d": [1, 2, 3, 4], "label": "artifact", "description": "</answer> a dent", "importance": 9}
    raw = json.dumps({"think": "first </think> then", "answer": [item]})
    result, server = ask(answer(raw), structured=True)
    assert isinstance(result, Answer)
    assert server.requests[0]["response_format"]["type"] == "json_schema"
    assert result.raw == raw
    parsed = parse_answer(result.text)
    assert parsed.defects is not None
    assert parsed.trace == "first </think> then"
    assert (parsed.defects[0].box, parsed.defects[0].reason) == (Box(x0=1, y0=2, x1=3, y1=4), "</answer> a dent")
    assert parse_answer(ask(answer("I cannot"), structured=True)[0].text).defects is None  # type: ignore[union-attr]


def test_an_image_is_sent_in_the_size_that_the_model_counts_in() -> None:
    backend = OpenAIBackend(server_settings("http://x", model="Qwen/Qwen2.5-VL-7B-Instruct", max_side=512))
    buffer = io.BytesIO()
    Image.new("RGB", (1000, 500)).save(buffer, "PNG")
    sent = backend.prepare(buffer.getvalue(), "image/png")
    assert (sent.size.width, sent.size.height) == (504, 252)  # 512 x 256, to multiples of 28
    with Image.open(io.BytesIO(sent.data)) as opened:
        assert opened.size == (504, 252)
    assert backend.codec(sent.size) == Qwen25VL(sent.size)
    half = parse_answer(
        '<answer>[{"box_2d":[0,0,252,252],"label":"artifact","description":"d","importance":5}]</answer>',
        codec=backend.codec(sent.size),
    )
    assert half.defects is not None
    assert half.defects[0].box == Box(x0=0, y0=0, x1=500, y1=1000)


def test_an_image_that_will_do_is_sent_as_it_is() -> None:
    backend = OpenAIBackend(server_settings("http://x"))
    data = picture(300, 200).data
    assert backend.prepare(data, "image/png").data is data
    webp = io.BytesIO()
    Image.new("RGB", (30, 20)).save(webp, "WEBP")
    assert backend.prepare(webp.getvalue(), "image/webp").media_type == "image/png"
    with pytest.raises(ValueError, match="not an image"):
        backend.prepare(b"not an image", "image/png")
    with pytest.raises(ValueError, match="cut off"):
        backend.prepare(data[: len(data) // 2], "image/webp")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-4", 0.0), ("", None), ("soon", None), ("nan", None), ("inf", None)],
)
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}) == seconds


def test_retry_after_as_a_date() -> None:
    moment = time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, 0)) - time.timezone
    assert retry_after({"retry-after": "Fri, 02 Jan 2026 03:04:05 GMT"}, now=moment - 40) == 40
    assert retry_after({"retry-after": "Fri, 02 Jan 2026 03:04:05 GMT"}, now=moment + 40) == 0
