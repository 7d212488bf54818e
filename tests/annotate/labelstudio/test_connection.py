"""Which server, with which key; how it is started; what is sent again and what is not."""

import json
import socket
import stat
from pathlib import Path

import httpx2 as httpx
import pytest

from annotate.labelstudio.client import Client, ServerError, Unavailable, Unknown
from annotate.labelstudio.connection import Connection, connection_of, credentials
from annotate.labelstudio.server import Server, ServerFailed
from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.settings import AnnotateSettings
from tests.annotate.labelstudio.conftest import free_port


def test_credentials_are_made_once_and_are_their_owners(tmp_path: Path) -> None:
    made = credentials(tmp_path)
    assert credentials(tmp_path) == made
    assert credentials(tmp_path / "other") != made
    path = tmp_path / "labelstudio" / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made.token) == 40
    path.write_text("{}")
    with pytest.raises(ConfigError):
        credentials(tmp_path)


def test_the_environments_server_comes_first(tmp_path: Path) -> None:
    both = {"LABEL_STUDIO_URL": "https://ls.example/", "LABEL_STUDIO_API_KEY": "k"}
    assert connection_of(tmp_path, 8085, both) == Connection("https://ls.example", "k", own=False)
    assert connection_of(tmp_path, 8085, {}).url == "http://127.0.0.1:8085"
    for name in both:
        with pytest.raises(ConfigError, match="not set"):
            connection_of(tmp_path, 8085, {name: both[name]})
    with pytest.raises(ConfigError, match="http"):
        connection_of(tmp_path, 8085, {**both, "LABEL_STUDIO_URL": "ls.example"})


def test_the_server_is_started_closed(tmp_path: Path) -> None:
    server = Server(tmp_path, AnnotateSettings())
    environment = server.environment()
    assert environment["LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK"] == "true"
    assert environment["COLLECT_ANALYTICS"] == "false"
    root = Path(environment["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"])
    held = {tmp_path / "labelstudio" / "credentials.json", tmp_path / "store.duckdb", tmp_path / "blobs"}
    assert not any(root in path.parents for path in held)
    assert "169.254.0.0/16" in environment["USER_ADDITIONAL_BANNED_SUBNETS"]


def test_a_server_that_is_not_installed_or_whose_port_is_taken_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdg_data.background.PORT_SECONDS", 0.0)
    with pytest.raises(MissingDependency, match="make labelstudio"):
        Server(tmp_path, AnnotateSettings(venv=str(tmp_path / "none"))).start()
    program = tmp_path / "venv" / "bin" / "label-studio"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerFailed, match="listens there"):
            Server(tmp_path, AnnotateSettings(venv=str(tmp_path / "venv"), port=port)).start()
    server = Server(tmp_path, AnnotateSettings(venv=str(tmp_path / "venv"), port=port))
    with pytest.raises(ServerFailed, match="it ended"):
        server.start()
    assert server.stop() is False


def test_a_server_that_is_slow_to_start_is_left_to_go_on_and_said_to(tmp_path: Path) -> None:
    program = tmp_path / "venv" / "bin" / "label-studio"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    server = Server(tmp_path, AnnotateSettings(venv=str(tmp_path / "venv"), port=free_port()))
    for _ in range(2):  # the second waits for the first one's
        with pytest.raises(ServerFailed, match="goes on starting") as refused:
            server.start(timeout=0.1)
        assert "server stop" in (refused.value.hint or "")
    assert server.running() is not None
    assert server.stop()
    assert server.running() is None


def test_what_a_server_writes_is_its_owners_alone(tmp_path: Path) -> None:
    program = tmp_path / "venv" / "bin" / "label-studio"
    program.parent.mkdir(parents=True)
    program.write_text(
        '#!/bin/sh\necho token > "$LABEL_STUDIO_BASE_DATA_DIR/label_studio.sqlite3"\necho invitation\nexit 3\n'
    )
    program.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    left = [tmp_path / "labelstudio" / name for name in ("server.log", "data/media/upload/1/a.png")]
    for path in left:  # as an earlier version left them
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        path.chmod(0o644)
    server = Server(tmp_path, AnnotateSettings(venv=str(tmp_path / "venv"), port=port))
    with pytest.raises(ServerFailed, match="it ended"):
        server.start()
    database = server.folder / "data" / "label_studio.sqlite3"
    assert (database.read_text(), server.log.read_text()) == ("token\n", "invitation\n")
    for path in [server.folder, *server.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_behind_a_proxy_the_server_is_told_its_address_and_cookies_go_over_tls_only(tmp_path: Path) -> None:
    plain = Server(tmp_path, AnnotateSettings(port=9001)).environment()
    assert plain["LABEL_STUDIO_HOST"] == "http://127.0.0.1:9001"
    assert not plain.keys() & {"CSRF_TRUSTED_ORIGINS", "SESSION_COOKIE_SECURE"}
    secure = Server(tmp_path, AnnotateSettings(public_url="https://label.example.org:8443/")).environment()
    assert secure["LABEL_STUDIO_HOST"] == secure["CSRF_TRUSTED_ORIGINS"] == "https://label.example.org:8443"
    assert secure["SESSION_COOKIE_SECURE"] == "1"
    assert "SESSION_COOKIE_SECURE" not in Server(tmp_path, AnnotateSettings(public_url="http://intra")).environment()
    for wrong in (
        "label.example.org",
        "https://label.example.org/labels",
        "https://",
        "ftp://label.example.org",
        "x://[",
    ):
        with pytest.raises(ConfigError, match="an address like https"):
            Server(tmp_path, AnnotateSettings(public_url=wrong)).environment()


def test_an_authority_of_one_s_own_is_read_from_a_file(tmp_path: Path) -> None:
    named = {"LABEL_STUDIO_URL": "https://ls.example", "LABEL_STUDIO_API_KEY": "k", "LABEL_STUDIO_CA": "none.pem"}
    connection = connection_of(tmp_path, 8085, named)
    for content in (None, "no certificate"):
        if content is not None:
            (tmp_path / "none.pem").write_text(content)
            connection = connection_of(tmp_path, 8085, {**named, "LABEL_STUDIO_CA": str(tmp_path / "none.pem")})
        with pytest.raises(ConfigError, match="certificates"):
            Client(connection)
    assert connection_of(tmp_path, 8085, {**named, "LABEL_STUDIO_CA": ""}).trust() is True


class Scripted:
    """Answers in turn: a status, or an error to raise."""

    def __init__(self, *script: int | Exception) -> None:
        self.script = list(script)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.script.pop(0) if self.script else 200
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, json={"ok": True, "access": "a1"})


def scripted(script: Scripted, key: str = "k" * 40, patience: float = 60.0) -> Client:
    transport = httpx.MockTransport(script)
    return Client(
        Connection("http://ls.test", key, own=False), transport=transport, patience=patience, sleep=lambda _: None
    )


def test_asking_is_repeated_until_there_is_an_answer() -> None:
    script = Scripted(500, httpx.ReadTimeout("slow"), httpx.ConnectError("no"), 429)
    assert scripted(script).get("/api/version") == {"ok": True, "access": "a1"}
    assert len(script.asked) == 5


def test_making_is_never_repeated() -> None:
    for trouble in (500, 502, httpx.ReadTimeout("slow"), httpx.ReadError("cut"), httpx.RemoteProtocolError("gone")):
        script = Scripted(trouble)
        with pytest.raises(Unknown):
            scripted(script).post("/api/projects/", {})
        assert len(script.asked) == 1
    script = Scripted(httpx.ConnectError("no"))
    with pytest.raises(Unavailable):
        scripted(script).post("/api/projects/", {})
    assert len(script.asked) == 1


def test_patience_ends_and_a_refusal_is_at_once() -> None:
    with pytest.raises(Unavailable, match="503"):
        scripted(Scripted(*[503] * 50), patience=0.0).get("/api/version")
    script = Scripted(403)
    with pytest.raises(ServerError, match="API_KEY") as refusal:
        scripted(script).get("/api/version")
    assert refusal.value.status == 403
    assert len(script.asked) == 1


def test_a_personal_token_buys_access_and_buys_anew_when_it_has_run_out() -> None:
    script = Scripted(200, 200, 401, 200, 200)
    client = scripted(script, key="a.b.c")
    client.get("/api/version")
    client.get("/api/version")
    paths = [request.url.path for request in script.asked]
    refresh = "/api/token/refresh"
    assert paths == [refresh, "/api/version", "/api/version", refresh, "/api/version"]
    assert json.loads(script.asked[0].content) == {"refresh": "a.b.c"}
    assert script.asked[1].headers["authorization"] == "Bearer a1"


def test_deleting_what_is_gone_is_done() -> None:
    scripted(Scripted(404)).delete_task(7)
