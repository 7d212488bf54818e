"""A PostgreSQL is dumped and made again, all of it or nothing, and no password is ever an argument."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotate.labelstudio import postgres
from annotate.labelstudio.backup import back_up
from annotate.labelstudio.database import PASSWORD_VARIABLE, Postgres, parse_database
from annotate.labelstudio.restoring import NotRestored, restore
from annotate.labelstudio.server import Server
from sdg_data.settings import AnnotateSettings
from tests.annotate.labelstudio.postgres_cluster import PASSWORD, Cluster, postgres_cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres_cluster() as found:
        if found is None:
            pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
        yield found


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)


def new(cluster: Cluster) -> Postgres:
    database = parse_database(cluster.new_database())
    assert database is not None
    return database


def sql(database: Postgres, text: str) -> str:
    command = [postgres.program("psql"), "-X", "-w", "-tA", "-v", "ON_ERROR_STOP=1", "-c", text]
    environment = postgres._environment(database)
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def used_server(cluster: Cluster, home: Path, words: str) -> Server:
    address = cluster.new_database()
    server = Server(home, AnnotateSettings(), database=address)
    (server.folder / "data").mkdir(parents=True)
    (server.folder / "data" / ".env").write_text(f"SECRET_KEY={words}\n")
    assert server.postgres is not None
    sql(server.postgres, "CREATE EXTENSION pg_trgm; CREATE TABLE answers (id serial PRIMARY KEY, words text)")
    sql(server.postgres, f"INSERT INTO answers (words) VALUES ('{words}'), (NULL)")
    return server


def answers(server: Server) -> str:
    assert server.postgres is not None
    return sql(server.postgres, "SELECT id, words FROM answers ORDER BY id")


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_a_backup_is_restored_into_another_database_whose_numbers_go_on(
    cluster: Cluster, tmp_path: Path, name: str
) -> None:
    server = used_server(cluster, tmp_path / "home", "one")
    back_up(server, tmp_path / name)
    other = Server(tmp_path / "other", AnnotateSettings(), database=cluster.new_database())
    done = restore(other, tmp_path / name)
    assert done.database == other.database != server.database
    assert answers(other) == answers(server) == "1|one\n2|"
    assert other.postgres is not None
    assert sql(other.postgres, "INSERT INTO answers (words) VALUES ('three') RETURNING id").split()[0] == "3"
    # Without a name it is the one that was used last.
    assert Server(other.home, AnnotateSettings()).database == other.database


def test_a_database_with_tables_is_replaced_only_when_told_and_can_be_had_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    back_up(used_server(cluster, tmp_path / "home", "old"), tmp_path / "old")
    living = used_server(cluster, tmp_path / "living", "new")
    assert living.postgres is not None
    sql(living.postgres, "CREATE TABLE of_a_newer_version (x int)")
    with pytest.raises(NotRestored, match="already"):
        restore(living, tmp_path / "old")
    elsewhere = Server(tmp_path / "elsewhere", AnnotateSettings(), database=living.database)
    with pytest.raises(NotRestored, match="already"):  # no server in that home, but its database is somebody's
        restore(elsewhere, tmp_path / "old")
    assert answers(living).startswith("1|new")
    done = restore(living, tmp_path / "old", replace=True)
    assert answers(living).startswith("1|old")
    assert postgres.count_tables(living.postgres) == 1
    assert done.replaced is not None
    restore(living, done.replaced, replace=True)
    assert answers(living).startswith("1|new")
    assert postgres.count_tables(living.postgres) == 2


def test_a_restore_that_fails_leaves_the_database_as_it_was(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(used_server(cluster, tmp_path / "home", "old"), tmp_path / "old")
    living = used_server(cluster, tmp_path / "living", "new")
    monkeypatch.setattr(postgres, "_EMPTIED", f"{postgres._EMPTIED}; SELECT 1/0")
    with pytest.raises(postgres.DatabaseFailed, match="division by zero"):
        restore(living, tmp_path / "old", replace=True)
    assert answers(living) == "1|new\n2|"
    assert not (living.folder / "restoring").exists()


def test_a_wrong_password_is_said_and_not_repeated_and_none_is_an_argument(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = used_server(cluster, tmp_path / "home", "old")
    commands: list[str] = []
    real = subprocess.run

    def noted(command: list[str], **options: Any) -> Any:
        commands.append(" ".join(command))
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", noted)
    back_up(server, tmp_path / "backup")
    restore(Server(tmp_path / "other", AnnotateSettings(), database=cluster.new_database()), tmp_path / "backup")
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong-pa55word")
    with pytest.raises(postgres.DatabaseFailed) as refusal:
        back_up(server, tmp_path / "again")
    assert "password authentication failed" in str(refusal.value)
    assert len(commands) > 4
    assert not any(PASSWORD in command or "pa55word" in command for command in [*commands, str(refusal.value)])
    assert not (tmp_path / "again").exists()
