"""Servers that answer, refuse, list other models, or are not there."""

import json
import socket
from collections.abc import Callable

import pytest

from sdg_data.errors import ExitCode
from sdg_data.preflight.addresses import check_server
from sdg_data.settings import VlmSettings

Serve = Callable[[tuple[int, bytes]], str]


def asked(url: str, model: str = "m") -> VlmSettings:
    return VlmSettings(backend="openai", model=model, base_url=url, api_key_env="NO_SUCH_KEY")


def models(*names: str) -> bytes:
    return json.dumps({"data": [{"id": name} for name in names]}).encode()


@pytest.mark.parametrize(
    ("answer", "ok", "word"),
    [
        ((200, models("m", "other")), True, "serves m"),
        ((200, models("other")), None, "serves other, not m"),
        ((404, b"{}"), True, "answers"),
        ((501, b"no GET here"), True, "answers"),
        ((200, b"<html>" * 9), True, "answers"),
        ((200, b'{"data": [1]}'), True, "answers"),
        ((200, b"[" * 5000), True, "answers"),
        ((401, b""), False, "refuses the key"),
    ],
)
def test_an_answer(serve: Serve, answer: tuple[int, bytes], ok: bool | None, word: str) -> None:
    (finding,) = check_server("judge", asked(serve(answer)))
    assert finding.ok is ok
    assert word in finding.state


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        (finding,) = check_server("judge", asked(url))
    assert finding.ok is False
    assert finding.code == ExitCode.GENERATION
    assert url in finding.state


@pytest.mark.parametrize(
    "url", ["http://", "nonsense", "http://[::1", "http://host:port/v1", "ftp://x/v1", "file:///etc"]
)
def test_an_address_that_is_none(url: str) -> None:
    (finding,) = check_server("judge", asked(url))
    assert finding.ok is False


def test_a_password_of_the_address_is_sent_and_not_told(serve: Serve) -> None:
    url = serve((401, models("m"))).replace("http://", "http://u:p%20w@")
    (finding,) = check_server("judge", asked(url))
    assert finding.ok is True
    assert "p%20w" not in finding.state
    assert "p w" not in finding.state


def test_a_hosted_model_wants_a_key(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.setattr("sdg_data.preflight.addresses.HOSTED", serve((200, models("gpt-5.4"))))
    key, address = check_server("prelabel", asked("", "gpt-5.4"))
    assert (key.ok, key.code, address.ok) == (False, ExitCode.CONFIG, True)
    monkeypatch.setenv("NO_SUCH_KEY", "x")
    (address,) = check_server("prelabel", asked("", "gpt-5.4"))
    assert address.ok
