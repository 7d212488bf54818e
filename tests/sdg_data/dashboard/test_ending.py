"""Ending `sdg dashboard` while it computes, with a page open: one signal is enough, and nothing aborts."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from tests.sdg_data.dashboard.conftest import Filled

BUSY = """
import sys
import duckdb
from sdg_data.cli import run
from sdg_data.dashboard import app

made = app.make_context

def busy():
    print("busy", flush=True)
    while True:
        duckdb.connect().execute("SELECT sum(sqrt(i)) FROM range(20_000_000) AS numbers(i)").fetchall()

def with_a_job(*args, **more):
    context = made(*args, **more)
    context.jobs.waited("job", busy)
    return context

app.make_context = with_a_job
sys.exit(run(["--home", sys.argv[1], "dashboard", "--port", sys.argv[2]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_it(number: signal.Signals, filled: Filled, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    line = [sys.executable, "-c", BUSY, str(filled.home), str(port)]
    with log.open("wb") as errors, subprocess.Popen(line, stdout=subprocess.PIPE, stderr=errors) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"busy\n"
            with open_page(port, server):
                server.send_signal(number)
                server.wait(60)
        finally:
            server.kill()
    said = log.read_text(encoding="utf-8")
    assert server.returncode in (130, -number)
    for words in ("Traceback", "rethrown", "terminate", "FATAL", "Error"):
        assert words not in said


def open_page(port: int, server: "subprocess.Popen[bytes]") -> socket.socket:
    """A connection that stays, as a browser's page has one."""
    deadline = time.monotonic() + 120
    while True:
        assert server.poll() is None
        assert time.monotonic() < deadline
        client = socket.create_connection(("127.0.0.1", port), timeout=60)
        client.sendall(b"GET /gradio_api/heartbeat/abc HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            if client.recv(15).startswith(b"HTTP/1.1 200"):
                return client
        client.close()
