"""`sdg serve vllm` with a stand-in that is a real server process: command line, waiting, use, log and end."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from annotate.serve.vllm_server import VllmFailed, VllmOptions, VllmServer, environment, install
from sdg_data.cli import run
from sdg_data.errors import ExitCode, MissingDependency
from tests.annotate.serve.odd_requests import free_port
from tests.annotate.support import CLEAN, Home, captions

_STAND_IN = f'''#!{sys.executable}
"""Answers as vLLM does: not well at first, then well; completions are always clean."""
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if "broken" in sys.argv:
    sys.exit("ValueError: To serve at least one request with the models's max seq len (262144), 36.00 GiB is needed")
print(json.dumps({{"argv": sys.argv[1:], "env": dict(os.environ)}}), flush=True)
looks = 0

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, value=None):
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        global looks
        looks += 1
        self.reply(200 if looks > 2 else 503)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        message = {{"role": "assistant", "content": {CLEAN!r}}}
        self.reply(200, {{"model": body["model"], "choices": [{{"message": message, "finish_reason": "stop"}}]}})

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
'''


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("vllm", "trl"):
        (programs / name).write_text(_STAND_IN, encoding="utf-8")
        (programs / name).chmod(0o755)
    return tmp_path / "venv"


def told(log: Path) -> dict[str, object]:
    """What the stand-in wrote down of how it was started."""
    line = next(line for line in log.read_text().splitlines() if line.startswith("{"))
    value: dict[str, object] = json.loads(line)
    return value


def test_start_use_and_stop(
    tmp_path: Path, venv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-mine")
    monkeypatch.setenv("HF_HOME", "/models")
    home, port = Home(tmp_path / "home", captions(5)), free_port()
    at = ["--home", str(home.folder), "serve", "vllm"]
    start = [*at, "start", "--model", "org/Qwen3-VL-4B-sdg", "--gpus", "6,7", "--port", str(port), "--venv", str(venv)]
    try:
        assert run([*start, "--json", "--", "--tensor-parallel-size", "2"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["url"], facts["model"], facts["started"]) == (f"http://127.0.0.1:{port}", "Qwen3-VL-4B-sdg", True)
        note = told(Path(facts["log"]))
        assert note["argv"] == [
            "serve", "org/Qwen3-VL-4B-sdg", "--served-model-name", "Qwen3-VL-4B-sdg", "--max-model-len", "8192",
            "--limit-mm-per-prompt", '{"image": 1, "video": 0}', "--allowed-local-media-path",
            str(home.folder / "blobs"), "--host", "127.0.0.1", "--port", str(port), "--tensor-parallel-size", "2",
        ]  # fmt: skip
        environ = note["env"]
        assert isinstance(environ, dict)
        assert (environ["CUDA_VISIBLE_DEVICES"], environ["HF_HOME"]) == ("6,7", "/models")
        assert "OPENAI_API_KEY" not in environ
        assert run([*start, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["started"] is False
        assert run([*at, "status", "--port", str(port)]) == 0
        capsys.readouterr()
        used = ["--backend", "openai", "--base-url", f"{facts['url']}/v1", "--model", facts["model"], "--json"]
        assert run(["--home", str(home.folder), "prelabel", "run", *used]) == 0
        assert json.loads(capsys.readouterr().out)["made"] == 5
    finally:
        assert run([*at, "stop", "--port", str(port)]) == 0
    assert run([*at, "status", "--port", str(port)]) == 1
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert "stopped" in capsys.readouterr().err


def test_the_server_of_a_grpo_training(tmp_path: Path, venv: Path) -> None:
    server = VllmServer(tmp_path / "home", free_port(), venv)
    (tmp_path / "home").mkdir()
    try:
        assert server.start(VllmOptions("runs/sft/model", "rollout", server.port, max_model_length=4416), timeout=60)
        assert told(server.log)["argv"] == [
            "vllm-serve", "--model", "runs/sft/model", "--max_model_len", "4416", "--host", "127.0.0.1", "--port",
            str(server.port),
        ]  # fmt: skip
    finally:
        assert server.stop()
    assert not server.stop()


def test_what_does_not_start_says_why_and_leaves_nothing_behind(tmp_path: Path, venv: Path) -> None:
    (tmp_path / "home").mkdir()
    server = VllmServer(tmp_path / "home", free_port(), venv)
    with pytest.raises(VllmFailed, match="it ended") as caught:
        server.start(VllmOptions("m", port=server.port, extra=("broken",)), timeout=60)
    assert "36.00 GiB is needed" in str(caught.value.hint)
    assert not server.running()
    with pytest.raises(VllmFailed, match="did not answer within"):
        server.start(VllmOptions("m", port=server.port), timeout=0.0)
    assert not server.running()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = VllmServer(tmp_path / "home", other.getsockname()[1], venv)
        with pytest.raises(VllmFailed, match="another program listens there"):
            taken.start(VllmOptions("m", port=taken.port), timeout=60)
    with pytest.raises(MissingDependency, match="not installed there"):
        VllmServer(tmp_path / "home", server.port, tmp_path / "no").start(VllmOptions("m", port=server.port))
    line = ["--home", str(tmp_path / "home"), "serve", "vllm", "start", "--model", "m", "--kind", "x"]
    assert run(line) == ExitCode.CONFIG


def test_it_is_installed_once_with_its_pinned_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[list[str]] = []

    def noted(line: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        lines.append(line)
        return subprocess.CompletedProcess(line, 1 if fails else 0, "", "no matching distribution")

    fails = False
    monkeypatch.setattr(subprocess, "run", noted)
    assert install(tmp_path / "venv")
    assert lines[1][-2:] == ["vllm==0.30.0", "trl==1.16.0"]
    assert lines[1][0] == str(tmp_path / "venv" / "bin" / "python")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").touch()  # whoever made it was killed before there was a pip
    assert install(tmp_path / "venv")
    assert lines[2:] == lines[:2]
    (tmp_path / "venv" / "bin" / "vllm").touch()
    assert not install(tmp_path / "venv")
    fails = True
    with pytest.raises(VllmFailed, match="no matching distribution"):
        install(tmp_path / "other")


def test_all_gpus_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert environment("")["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment("1")["CUDA_VISIBLE_DEVICES"] == "1"
