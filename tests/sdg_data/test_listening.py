"""A taken port is said before anything else is."""

import socket
from pathlib import Path

import pytest

from sdg_data.cli import run
from sdg_data.errors import ConfigError, ExitCode
from sdg_data.listening import listen


def test_a_free_port_is_listened_on() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()[:2], timeout=5):
        pass


def test_a_taken_port_and_a_strange_address_are_errors() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match="taken"):
            listen("127.0.0.1", port)
    for host in ("no-such-host.invalid", "192.0.2.1"):
        with pytest.raises(ConfigError):
            listen(host, 0)


def test_the_dashboards_say_so_first(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio")
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert run(["--home", str(home), "dashboard", "--port", str(port)]) == ExitCode.CONFIG
    said = capsys.readouterr().err
    assert f"127.0.0.1:{port}: the port is taken" in said
    assert "http://" not in said


def test_a_detectors_server_says_so_before_it_loads_its_model(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from annotate.vlm.local import LocalBackend

    def loaded(_: LocalBackend) -> None:
        raise AssertionError("the model was loaded first")

    monkeypatch.setattr(LocalBackend, "load", loaded)
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        line = ["--home", str(home), "serve", "detector", "--backend", "mini", "--port", str(port)]
        assert run(line) == ExitCode.CONFIG
    assert f"127.0.0.1:{port}: the port is taken" in capsys.readouterr().err


def test_a_port_can_be_held_before_anybody_is_answered() -> None:
    with listen("127.0.0.1", 0, accept=False) as held:
        port = held.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        held.listen()
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
