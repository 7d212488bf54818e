"""How requests go out: the same bytes as one JSON, whatever the size of the image; files instead of bytes; formats."""

import asyncio
import base64
import io
import random
from pathlib import Path

import pytest
from PIL import Image

from annotate.machine.budget import Budget
from annotate.machine.prelabel import PrelabelStage
from annotate.vlm.contract import Answer, AskError, EncodedImage, Question
from annotate.vlm.families import fit_image
from annotate.vlm.openai_chat import OpenAIBackend
from annotate.vlm.servers import addresses
from schemas.geometry import ImageSize
from sdg_data.errors import ConfigError
from sdg_data.prompt_templates import DETECT, load_template
from sdg_data.settings import VlmSettings
from sdg_data.work import LocalExecutor
from tests.annotate.hostile import HostileServer, Reply, answer
from tests.annotate.support import CLEAN, QUICK, Home, captions, picture, question, server_settings


def image_of(body: dict[str, object]) -> str:
    [content] = [message["content"] for message in body["messages"][:1]]  # type: ignore[index]
    return str(next(part["image_url"]["url"] for part in content if part["type"] == "image_url"))


def ask_all(asked_server: HostileServer, questions: list[Question], **changes: object) -> list[Answer | AskError]:
    async def go() -> list[Answer | AskError]:
        backend = OpenAIBackend(server_settings(asked_server.url, **changes), environ={})
        results: list[Answer | AskError] = []
        for asked in questions:
            try:
                results.append(await backend.ask(asked))
            except AskError as error:
                results.append(error)
        await backend.close()
        return results

    return asyncio.run(go())


@pytest.mark.parametrize("length", [0, 1, 2, 3, 196_607, 196_608, 196_609, 500_000])
def test_pieces_are_one_base64(length: int) -> None:
    data = random.Random(length).randbytes(length)
    asked = Question("look", EncodedImage(data, "image/png", ImageSize(width=1, height=1)), "c")
    with HostileServer(lambda caption, nth: answer(CLEAN)) as server:
        [result] = ask_all(server, [asked])
    assert isinstance(result, Answer)
    prefix, _, text = image_of(server.requests[0]).partition(",")
    assert prefix == "data:image/png;base64"
    assert base64.b64decode(text, validate=True) == data


def test_connections_are_used_again() -> None:
    with HostileServer(lambda caption, nth: answer(CLEAN)) as server:
        ask_all(server, [question()] * 5)
    assert (len(server.requests), server.connections) == (5, 1)


def test_a_redirected_request_keeps_its_body() -> None:
    with HostileServer(lambda caption, nth: answer(CLEAN)) as server:
        moved = Reply("status", "", 307, (("location", f"{server.url}/chat/completions"),))
        with HostileServer(lambda caption, nth: moved) as here:
            [result] = ask_all(here, [question()])
    assert isinstance(result, Answer)
    assert server.requests == here.requests


def test_servers_are_asked_in_turn_and_a_retry_goes_to_the_next(tmp_path: Path) -> None:
    home = Home(tmp_path, captions(6))
    with (
        HostileServer(lambda caption, nth: answer(CLEAN)) as good,
        HostileServer(lambda caption, nth: Reply("drop")) as dead,
    ):
        settings = server_settings(f"{good.url} {dead.url}")
        stage = PrelabelStage(
            home.store, home.blobs, OpenAIBackend(settings, environ={}), load_template(DETECT),
            limits=QUICK, budget=Budget(None, None),
        )  # fmt: skip
        LocalExecutor().execute(stage)
        stage.close()
    assert (stage.made, stage.failed) == (6, {})
    assert len(good.requests) == 6
    assert dead.requests


def test_addresses() -> None:
    assert addresses(VlmSettings(), {}) == ["https://api.openai.com/v1"]
    assert addresses(VlmSettings(), {"OPENAI_BASE_URL": "http://a/v1"}) == ["http://a/v1"]
    both = VlmSettings(base_url="http://a:1/v1  https://b/v1")
    assert addresses(both, {"OPENAI_BASE_URL": "http://c/v1"}) == ["http://a:1/v1", "https://b/v1"]
    for wrong in ("gpu7:8000/v1", "ftp://a/v1", "http://"):
        with pytest.raises(ConfigError, match="no address of a server"):
            addresses(VlmSettings(base_url=wrong), {})


def test_credentials_of_an_address_are_sent_as_such() -> None:
    with HostileServer(lambda caption, nth: answer(CLEAN)) as server:
        ask_all(server, [question()], base_url=server.url.replace("//", "//ann:pass%20word@"))
    expected = base64.b64encode(b"ann:pass word").decode()
    assert f"authorization: basic {expected}".lower() in server.headers[0].lower()


def test_the_environments_proxy_is_used_unless_it_names_the_host_as_an_exception(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with HostileServer(lambda caption, nth: answer(CLEAN)) as proxy, HostileServer(lambda c, nth: answer(CLEAN)) as own:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1").replace("//", "//ann:pass%20word@"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        ask_all(proxy, [question()] * 2, base_url="http://gpu7.invalid:8000/v1")
        ask_all(own, [question()])
    credentials = base64.b64encode(b"ann:pass word").decode()
    assert [head.partition("\r\n")[0] for head in proxy.headers] == [
        "POST http://gpu7.invalid:8000/v1/chat/completions HTTP/1.1"
    ] * 2
    assert f"proxy-authorization: basic {credentials}".lower() in proxy.headers[0].lower()
    assert own.headers[0].startswith("POST /v1/chat/completions ")
    assert "authorization: basic" not in own.headers[0].lower()


@pytest.mark.parametrize("named", ["socks5://127.0.0.1:1", "http://[", "nonsense"])
def test_a_proxy_that_speaks_no_http_is_named(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", named)
    monkeypatch.setenv("no_proxy", "")
    with HostileServer(lambda caption, nth: answer(CLEAN)) as server:
        [result] = ask_all(server, [question()])
    assert isinstance(result, AskError)
    assert (result.code, result.fatal, server.requests) == ("connection", True, [])
    assert "HTTP_PROXY" in result.message


def test_passwords_of_other_programs_are_not_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login ann password secret\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with HostileServer(lambda caption, nth: answer(CLEAN)) as server:
        [result] = ask_all(server, [question()])
    assert isinstance(result, Answer)
    assert "authorization: bearer none" in server.headers[0].lower()


def test_files_are_named_and_not_sent(tmp_path: Path) -> None:
    home = Home(tmp_path, captions(3))
    for send, more in (("file", {"server": "vllm"}), ("inline", {})):
        with HostileServer(lambda caption, nth: answer(CLEAN)) as server:
            settings = server_settings(server.url, send_images=send, revision=send, **more)
            stage = PrelabelStage(
                home.store, home.blobs, OpenAIBackend(settings, environ={}), load_template(DETECT),
                limits=QUICK, budget=Budget(None, None),
            )  # fmt: skip
            LocalExecutor().execute(stage)
            stage.close()
        assert stage.made == 3
        urls = {image_of(body) for body in server.requests}
        if send == "file":
            assert urls == {f"file://{home.blobs.path(record.blob)}" for record in home.image_of.values()}
        else:
            assert all(url.startswith("data:image/png;base64,iVBOR") for url in urls)
    with pytest.raises(ConfigError, match="not known that the server 'own' opens files"):
        OpenAIBackend(server_settings("http://x/v1", send_images="file"), environ={})


def test_an_image_without_a_file_is_sent_itself() -> None:
    asked = Question("look", picture(), "c")
    with HostileServer(lambda caption, nth: answer(CLEAN)) as server:
        ask_all(server, [asked], send_images="file", server="vllm")
    assert image_of(server.requests[0]).startswith("data:image/png;base64,")


@pytest.mark.parametrize(("name", "form"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_formats_by_option(name: str, form: str) -> None:
    backend = OpenAIBackend(server_settings("http://x/v1", image_format=name, image_quality=90), environ={})
    assert backend.identity.settings["image"] == f"{name}:90"
    sent = backend.prepare(picture(200, 100).data, "image/png")
    assert sent.media_type == f"image/{name}"
    with Image.open(io.BytesIO(sent.data)) as opened:
        assert (opened.format, opened.size) == (form, (200, 100))
        pixel = opened.convert("RGB").getpixel((100, 50))
    assert all(abs(a - b) <= 4 for a, b in zip(pixel, (90, 120, 200), strict=True))  # type: ignore[arg-type]
    own = io.BytesIO()
    Image.new("RGB", (30, 20)).save(own, form)
    assert backend.prepare(own.getvalue(), f"image/{name}").data == own.getvalue()


def test_only_what_is_sent_as_it_is_goes_undecoded() -> None:
    spoiled = bytearray(picture(300, 200).data)
    spoiled[spoiled.index(b"IDAT") + 30] ^= 255
    data = bytes(spoiled)
    assert fit_image(data, "image/png", family="qwen3-vl", max_side=1024, check=False).data == data
    for options in ({"check": True}, {"check": False, "max_side": 100}, {"check": False, "image_format": "jpeg"}):
        with pytest.raises(ValueError, match="damaged"):
            fit_image(data, "image/png", **({"family": "qwen3-vl", "max_side": 1024} | options))  # type: ignore[arg-type]
