"""The server as a team uses it: on PostgreSQL, behind nginx with TLS, backed up while people work, and restored."""

import contextlib
import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest

from annotate.labelstudio.accounts import invitation, sign_up
from annotate.labelstudio.backup import back_up
from annotate.labelstudio.client import Client, Unavailable
from annotate.labelstudio.connection import Connection, credentials
from annotate.labelstudio.database import PASSWORD_VARIABLE, installation
from annotate.labelstudio.missing import NotBelieved
from annotate.labelstudio.project import ProjectGone
from annotate.labelstudio.restoring import restore
from annotate.labelstudio.server import Server, started
from sdg_data.settings import AnnotateSettings
from sdg_data.store import gold
from tests.annotate.labelstudio.conftest import VENV, free_port
from tests.annotate.labelstudio.live import own_session, running_server
from tests.annotate.labelstudio.nginx import Proxy, tls_before
from tests.annotate.labelstudio.postgres_cluster import PASSWORD, Cluster, postgres_cluster
from tests.annotate.labelstudio.support import images_of, labelled_home, routed, session_for
from tests.annotate.labelstudio.team import Team, cloned, mark_moved, renamed

pytestmark = pytest.mark.slow
PEOPLE = ("anna", "bob", "carl", "mallory")


@dataclass(frozen=True)
class TeamServer:
    """A Label Studio on PostgreSQL behind nginx. `proxy` None: nginx is not installed."""

    cluster: Cluster
    server: Server
    proxy: Proxy | None

    def through_tls(self, key: str | None = None) -> Connection:
        """The connection that a command on another machine has."""
        if self.proxy is None:
            pytest.skip("nginx is not installed (Debian: apt-get install nginx)")
        return Connection(self.proxy.url, key or self.server.connection.key, own=False, ca=str(self.proxy.ca))


@pytest.fixture(scope="module")
def team_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    if not (VENV / "bin" / "label-studio").exists():
        pytest.skip("`make labelstudio` installs the server; `make test-slow` does so first")
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(postgres_cluster())
        if cluster is None:
            pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv(PASSWORD_VARIABLE, PASSWORD)
        port, public = free_port(), free_port()
        proxy = stack.enter_context(tls_before(public, port))
        settings = AnnotateSettings(port=port, venv=str(VENV), public_url="" if proxy is None else proxy.url)
        home = tmp_path_factory.mktemp("team-server")
        server = Server(home, settings, database=cluster.new_database())
        yield TeamServer(cluster, stack.enter_context(started(server)), proxy)


@contextlib.contextmanager
def team_on(server: Server, lead: Connection, folder: Path, project: str) -> Iterator[Team]:
    """A lead and three people of a server, whose accounts are made by the invitation link."""
    secret = credentials(server.home).webhook_secret[:16]  # as `live.password` has it, for accounts that are there
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(Client(lead, patience=300.0))
        accounts = {name: sign_up(client, f"{name}@example.com", f"{secret}-{name}") for name in PEOPLE}
        people = {name: stack.enter_context(Client(account, patience=300.0)) for name, account in accounts.items()}
        yield Team(folder, client, people, project=project)


def gold_by_names(team: Team) -> str:
    """A digest of what counts that no server's numbers and times are part of."""
    names = {user: name for name, user in team.users.items()}
    with team.home.store.read() as tx:
        rows = [
            {
                "image": row.image_id,
                "by": row.annotation and names[row.annotation.annotator],
                "status": row.annotation and row.annotation.status,
                "defects": row.annotation
                and [region.defect.model_dump(mode="json") for region in row.annotation.defects],
            }
            for row in gold.page(tx)
        ]
    assert len([row for row in rows if row["by"]]) == 5
    return hashlib.sha256(json.dumps(sorted(rows, key=lambda row: str(row["image"]))).encode()).hexdigest()


def test_what_is_entered_on_postgresql_is_what_is_entered_on_sqlite(
    team_server: TeamServer, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with team_on(team_server.server, team_server.through_tls(), tmp_path / "postgres", "Same") as team:
        team.begin()
        on_postgres = gold_by_names(team)
    with own_session(request) as session:
        server, project = running_server(request), session.settings.annotate.project
        with team_on(server, session.client.connection, tmp_path / "sqlite", project) as team:
            team.begin()
            assert gold_by_names(team) == on_postgres


def test_no_password_stands_in_the_server_s_files(team_server: TeamServer) -> None:
    folder = team_server.server.folder
    noted = installation(folder)
    assert noted is not None
    assert noted.database == team_server.server.database
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or "images" in path.parts, path  # those are links to the blobs
        assert path.is_dir() or PASSWORD.encode() not in path.read_bytes(), path
    running = team_server.server.running()
    assert running is not None
    assert PASSWORD.encode() not in Path(f"/proc/{running.pid}/cmdline").read_bytes()


def test_through_tls_people_log_in_see_their_images_and_nobody_else_does(
    team_server: TeamServer, tmp_path: Path
) -> None:
    lead = team_server.through_tls()
    with Client(Connection(lead.url, lead.key, own=False), patience=0.0) as stranger, pytest.raises(Unavailable):
        stranger.version()  # the authority is not known to this machine
    home = labelled_home(team_server.server.home, 3)
    with Client(lead, patience=60.0) as client:
        work = session_for(home, client, image_url="", project="TLS")
        _, place = work.init()
        work.push_images(routed(home))
        (task, *_) = client.page(place.server_id, [], fields="id,data", page=1)
        link = invitation(client)
        assert link.startswith(f"{lead.url}/user/signup/?")
        assert invitation(client, "https://label.example.org/").startswith("https://label.example.org/user/signup/?")
        dora = sign_up(client, "dora@example.com", "another-long-password")
        assert invitation(client, reset=True) != link
    with httpx.Client(verify=lead.trust()) as late:  # who comes with the old link
        late.get(link)
        form = {"email": "eve@example.com", "password": "a-third-long-password",
                "csrfmiddlewaretoken": late.cookies["csrftoken"]}  # fmt: skip
        assert late.post(link, data=form, headers={"Referer": link}).status_code == 403
    with httpx.Client(
        base_url=lead.url, verify=lead.trust(), headers={"Authorization": f"Token {dora.key}"}
    ) as browser:
        answer = browser.get(task["data"]["image"])
        assert answer.content in [home.blobs.get(image.blob) for image in images_of(home)]
        page = browser.get(f"/api/projects/{place.server_id}")
        assert page.json()["title"].startswith("TLS")
    with httpx.Client(base_url=lead.url, verify=lead.trust()) as nobody:
        assert nobody.get(task["data"]["image"]).status_code in (302, 401, 403)
        login = nobody.get("/user/login/")
        assert login.status_code == 200
        assert all("secure" in cookie.lower() for cookie in login.headers.get_list("set-cookie"))
        form = {"email": "dora@example.com", "password": "another-long-password",
                "csrfmiddlewaretoken": nobody.cookies["csrftoken"]}  # fmt: skip
        for origin, expected in (("https://elsewhere.example", 403), (lead.url, 302)):
            headers = {"Origin": origin, "Referer": f"{origin}/user/login/"}
            assert nobody.post("/user/login/", data=form, headers=headers).status_code == expected
        assert nobody.get("/api/current-user/whoami").json()["email"] == "dora@example.com"


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_a_backup_made_while_people_work_is_restored_and_gold_stays(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    server, lead, _ = _on(request, database)
    with team_on(server, lead, tmp_path / "home", f"Backup {secrets.token_hex(4)}") as team:
        team.begin()
        back_up(server, tmp_path / "older.tar")
        team.submit("carl", 7, 70)
        team.work.pull()
        gold_before, words = team.gold(), team.words()
        back_up(server, tmp_path / "newer")
        _replace(server, tmp_path / "older.tar")
        with pytest.raises(NotBelieved, match="older"):
            team.work.pull()
        assert (team.gold(), team.words()) == (gold_before, words)
        _replace(server, tmp_path / "newer")
        assert team.work.pull(full=True).counts == {}
        assert (team.gold(), team.words()) == (gold_before, words)
        team.submit("anna", 5, 50)
        assert team.work.pull().counts == {"new": 1}


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_gold_stays_whatever_becomes_of_the_project_and_of_the_server(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    server, lead, anew = _on(request, database)
    with team_on(server, lead, tmp_path / "home", f"Kept {secrets.token_hex(4)}") as team:
        gold = team.begin()
        for happens in (renamed, mark_moved, cloned):
            happens(team)
            for full in (False, True):
                assert team.work.pull(full=full).counts == {}
                assert team.gold() == gold
        team.submit("carl", 7, 70)
        with _reinstalled(server, anew):
            with pytest.raises(ProjectGone, match="not on this server"):
                team.work.pull()
            assert team.gold() == gold
        assert team.work.pull(full=True).counts == {"new": 1}
        assert team.gold() == gold


def _on(request: pytest.FixtureRequest, database: str) -> tuple[Server, Connection, str]:
    """The server on that database, how a lead reaches it, and another such database with nothing in it."""
    if database == "sqlite":
        server = running_server(request)
        return server, server.connection, database
    fixture: TeamServer = request.getfixturevalue("team_server")
    return fixture.server, fixture.through_tls(), fixture.cluster.new_database()


@contextlib.contextmanager
def _reinstalled(server: Server, database: str) -> Iterator[None]:
    """The server made anew at its address on an empty database, for the length of the block."""
    data, aside = server.folder / "data", server.folder / "aside"
    server.stop()
    data.rename(aside)
    try:
        with started(Server(server.home, server.settings, database=database)):
            yield
    finally:
        shutil.rmtree(data)
        aside.rename(data)
        server.start()


def _replace(server: Server, backup: Path) -> None:
    server.stop()
    restore(server, backup, replace=True)
    server.start()
