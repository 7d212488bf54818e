"""The real server, started once for all tests that ask for it."""

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotate.labelstudio.client import Client
from annotate.labelstudio.server import Server, started
from sdg_data.settings import AnnotateSettings

VENV = Path(__file__).parents[3] / ".venv-labelstudio"


def free_port() -> int:
    """A port that is free, and that the kernel gives to nobody's outgoing connection while a server restarts."""
    draw = random.Random()
    while True:
        port = draw.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Label Studio on a free port; `server.home` is a home without a store."""
    if not (VENV / "bin" / "label-studio").exists():
        pytest.skip("`make labelstudio` installs the server; `make test-slow` does so first")
    settings = AnnotateSettings(port=free_port(), venv=str(VENV))
    with started(Server(tmp_path_factory.mktemp("label-studio"), settings)) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.connection) as made:
        yield made
