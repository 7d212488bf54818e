"""Which database the home's server uses, how it is named, and that no password is in its name."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from annotate.labelstudio.database import (
    Installation,
    Postgres,
    chosen_database,
    installation,
    note_installation,
    parse_database,
)
from annotate.labelstudio.server import Server, ServerFailed
from sdg_data.cli import app
from sdg_data.errors import ConfigError
from sdg_data.settings import AnnotateSettings

ADDRESS = "postgresql://me@db.example:5433/labels"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (ADDRESS, Postgres("me", "labels", "db.example", 5433)),
        ("postgres://me@db.example/labels", Postgres("me", "labels", "db.example", 5432)),
        ("postgresql://a%40b@[::1]:6000/the%20labels", Postgres("a@b", "the labels", "::1", 6000)),
        ("postgresql://me@/labels?host=/run/postgresql", Postgres("me", "labels", "/run/postgresql", 5432)),
        ("postgresql://me@:6001/labels?host=%2Ftmp%2Fs", Postgres("me", "labels", "/tmp/s", 6001)),
        ("", None),
        ("sqlite", None),
    ],
)
def test_an_address_names_a_database_and_is_written_again_as_one(address: str, expected: Postgres | None) -> None:
    assert parse_database(address) == expected
    if expected is not None:
        assert parse_database(expected.address) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql://me:pa55word@db/labels",
        "postgresql://me@db/labels?password=pa55word",
        "postgresql://me:@db/labels",
        "mysql://me@db/labels",
        "postgresql://db/labels",
        "postgresql://me@db",
        "postgresql://me@/labels",
        "postgresql://me@db:pa55word/labels",
        "postgresql://me@db/labels?pa55word",
        "postgresql://me@db/labels?sslmode=require",
        "postgresql://me@[::1/labels",
        "pa55word",
        "/tmp/labels.sqlite3",
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(wrong: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_database(wrong)
    assert "pa55word" not in str(refusal.value)


def test_label_studio_and_postgresql_s_programs_are_told_by_their_environment() -> None:
    database = Postgres("me", "labels", "db.example", 5433)
    environ = {"LABEL_STUDIO_DB_PASSWORD": "p", "PGSSLMODE": "verify-full", "OTHER": "x"}
    assert database.of_label_studio(environ) == {
        "DJANGO_DB": "default", "POSTGRE_NAME": "labels", "POSTGRE_USER": "me", "POSTGRE_PASSWORD": "p",
        "POSTGRE_HOST": "db.example", "POSTGRE_PORT": "5433", "PGSSLMODE": "verify-full",
    }  # fmt: skip
    named = database.of_programs(environ)
    assert (named["PGHOST"], named["PGPORT"], named["PGUSER"], named["PGDATABASE"]) == (
        "db.example", "5433", "me", "labels",
    )  # fmt: skip
    assert named["PGPASSWORD"] == "p"
    assert "PGPASSWORD" not in database.of_programs({"PGPASSFILE": "/x"})  # else libpq would not look into the file


def test_the_database_is_what_is_named_else_what_was_used_last(tmp_path: Path) -> None:
    assert chosen_database(tmp_path, "") == "sqlite"
    note_installation(tmp_path, Installation(database=ADDRESS, version="1.23.2"))
    assert chosen_database(tmp_path, "") == ADDRESS
    assert chosen_database(tmp_path, "sqlite") == "sqlite"
    assert chosen_database(tmp_path, "postgresql://me@other/labels") == "postgresql://me@other:5432/labels"
    assert (tmp_path / "installation.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "installation.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"installation\.json"):
        installation(tmp_path)


def test_the_option_comes_before_the_variable_and_that_before_the_config(tmp_path: Path) -> None:
    from_config = Server(tmp_path, AnnotateSettings(database="postgresql://me@config/labels"))
    assert from_config.environment()["POSTGRE_HOST"] == "config"
    given = Server(tmp_path, AnnotateSettings(database="postgresql://me@config/labels"), database=ADDRESS)
    assert given.environment()["POSTGRE_HOST"] == "db.example"
    config = tmp_path / "own.toml"
    config.write_text(
        'extends = "mini"\n[annotate]\nvenv = "none"\ndatabase = "postgresql://me:pa55word@config/labels"\n'
    )
    command = ["--config", str(config), "--home", str(tmp_path / "home"), "annotate", "server", "start"]
    from_variable = CliRunner(env={"LABEL_STUDIO_DATABASE": ADDRESS}).invoke(app, command)
    assert "not installed" in str(from_variable.exception)  # the config's would have been refused
    for refused in (
        CliRunner().invoke(app, command),
        CliRunner().invoke(app, [*command, "--database", "postgresql://me:pa55word@option/labels"]),
        CliRunner(env={"LABEL_STUDIO_DATABASE": "postgresql://me:pa55word@env/labels"}).invoke(app, command),
    ):
        assert isinstance(refused.exception, ConfigError)
        assert "pa55word" not in str(refused.exception)
        assert "pa55word" not in refused.output
    notes = [path.read_text() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert "pa55word" not in json.dumps(notes)  # a lock's note has its holder's command line


def test_a_server_is_not_started_on_what_a_newer_one_wrote(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "label-studio").write_text("#!/bin/sh\nexit 3\n")
    (venv / "bin" / "label-studio").chmod(0o755)
    site = venv / "lib" / "python3.11" / "site-packages"
    (site / "label_studio-1.9.2.dist-info").mkdir(parents=True)
    server = Server(tmp_path / "home", AnnotateSettings(venv=str(venv), port=_free_port()))
    server.folder.mkdir(parents=True)
    note_installation(server.folder, Installation(database="sqlite", version="1.10.0"))
    with pytest.raises(ServerFailed, match=r"1\.9\.2 cannot use a database that 1\.10\.0 has written"):
        server.start()
    shutil.rmtree(site / "label_studio-1.9.2.dist-info")
    (site / "label_studio-1.10.0.post0.dist-info").mkdir()
    with pytest.raises(ServerFailed, match="it ended"):
        server.start()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
