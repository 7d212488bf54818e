"""Sessions with the real server for tests that need a project of their own.

LABEL_STUDIO_TEST_HOME names a home whose server runs already (`sdg --home H annotate server start`): then that one is
used, which saves a developer its start.
"""

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotate.labelstudio.client import Client
from annotate.labelstudio.connection import credentials
from annotate.labelstudio.server import Server
from annotate.labelstudio.sync import LabelStudioSync
from sdg_data.settings import AnnotateSettings, Settings


@contextlib.contextmanager
def own_session(request: pytest.FixtureRequest, home: Path | None = None, **changes: Any) -> Iterator[LabelStudioSync]:
    """A session whose project no other test has; `changes` of its settings.

    `home`: a store of its own too, whose images the server does not show; None: the server's home, which tests share.
    """
    server = running_server(request)
    if home is not None:
        changes = {"image_url": "http://images.example/{blob}.{extension}", **changes}
    annotate = server.settings.model_copy(
        update={"project": f"Test {secrets.token_hex(4)}", "webhook_port": _free_port(), "patience": 300.0, **changes}
    )
    with Client(server.connection, patience=300.0) as client:
        yield LabelStudioSync(Settings(profile="mini", home=home or server.home, annotate=annotate), client)


def password(session: LabelStudioSync, name: str) -> str:
    """Of an account that a test makes."""
    return f"{credentials(session.settings.home).webhook_secret[:16]}-{name}"


def running_server(request: pytest.FixtureRequest) -> Server:
    """The server that all tests share."""
    given = os.environ.get("LABEL_STUDIO_TEST_HOME")
    if not given:
        found: Server = request.getfixturevalue("server")
        return found
    running = Server(Path(given), AnnotateSettings()).running()
    assert running is not None, "no server runs in LABEL_STUDIO_TEST_HOME"
    return Server(Path(given), AnnotateSettings(port=running.port))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
