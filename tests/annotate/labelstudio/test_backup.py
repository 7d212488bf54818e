"""Backups: whole and consistent, or not there; restored only where every hash is right, and never over a server."""

import hashlib
import io
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from annotate.labelstudio import restoring
from annotate.labelstudio.backup import BackupFailed, BackupManifest, back_up, backup_before
from annotate.labelstudio.connection import credentials
from annotate.labelstudio.database import Installation, note_installation
from annotate.labelstudio.restoring import NotRestored, restore
from annotate.labelstudio.server import Server, ServerFailed
from sdg_data.cli import app
from sdg_data.errors import ConfigError, InputError
from sdg_data.settings import AnnotateSettings

BLOB = "ab" * 32
UPLOADS = {".env": b"SECRET_KEY=k\n", "media/upload/1/a b.png": b"\x89PNG upload", "media/avatars/\xe9.jpg": b""}


def used_server(home: Path, *rows: str, version: str = "1.23.2") -> Server:
    """A server's folder as a Label Studio that was stopped leaves it, with these rows in its database."""
    server = Server(home, AnnotateSettings(venv=str(home / "none")))
    data = server.folder / "data"
    for name, content in UPLOADS.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    image = server.media / "images" / "ab" / f"{BLOB}.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"\x89PNG image")
    with closing(sqlite3.connect(data / "label_studio.sqlite3")) as database, database:
        database.execute("CREATE TABLE answers (words TEXT)")
        database.executemany("INSERT INTO answers VALUES (?)", [(row,) for row in rows])
    credentials(home)
    note_installation(server.folder, Installation(database="sqlite", version=version))
    (server.folder / "server.log").write_text("secret of the log")
    return server


def rows_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [words for (words,) in database.execute("SELECT words FROM answers ORDER BY rowid")]


def state(server: Server) -> dict[str, bytes]:
    """Everything in the server's folder, by path; the database by its rows."""
    files = {
        path.relative_to(server.folder).as_posix(): path.read_bytes()
        for path in server.folder.rglob("*")
        if path.is_file()
    }
    database = "data/label_studio.sqlite3"
    if database in files:
        files[database] = json.dumps(rows_of(server.folder / database)).encode()
    return files


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_a_backup_restored_elsewhere_is_the_same_server(tmp_path: Path, name: str) -> None:
    server = used_server(tmp_path / "home", "one", "two")
    target = tmp_path / "kept" / name
    made = back_up(server, target)
    assert sorted(path.name for path in target.parent.iterdir()) == [name]
    assert stat.S_IMODE(target.stat().st_mode) & 0o077 == 0
    other = Server(tmp_path / "other", AnnotateSettings())
    done = restore(other, target)
    expected = state(server)
    del expected["server.log"]  # it is the old machine's
    assert state(other) == expected
    assert (done.database, done.version, done.files, done.replaced) == ("sqlite", "1.23.2", len(made.files), None)
    assert credentials(other.home) == credentials(server.home)
    for path in [other.folder, *other.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_manifest_names_every_file_with_its_hash(tmp_path: Path) -> None:
    server = used_server(tmp_path / "home", "one")
    target = tmp_path / "backup"
    back_up(server, target)
    manifest = BackupManifest.model_validate_json((target / "manifest.json").read_bytes())
    files = {
        path.relative_to(target).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in target.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert {name: file.sha256 for name, file in manifest.files.items()} == files
    assert set(files) == {
        "credentials.json", "database.sqlite3", f"media/images/ab/{BLOB}.png", *(f"data/{name}" for name in UPLOADS),
    }  # fmt: skip
    back_up(server, tmp_path / "backup.tar")
    with tarfile.open(tmp_path / "backup.tar") as tar:
        assert set(tar.getnames()) == {*files, "manifest.json"}
        assert {entry.mode for entry in tar} == {0o600}


def test_a_backup_of_a_database_that_is_written_to_is_of_one_moment(tmp_path: Path) -> None:
    server = used_server(tmp_path / "home")
    path = server.folder / "data" / "label_studio.sqlite3"
    stop, began = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, timeout=60)) as database:
            database.execute("PRAGMA synchronous = OFF")
            number = 0
            while not stop.is_set():
                with database:  # always an even number of rows
                    database.execute("INSERT INTO answers VALUES (?)", [f"{number} left"])
                    database.execute("INSERT INTO answers VALUES (?)", [f"{number} right"])
                number += 1
                began.set()

    writer = threading.Thread(target=write)
    writer.start()
    began.wait()
    try:
        for number in range(3):
            back_up(server, tmp_path / f"backup-{number}")
    finally:
        stop.set()
        writer.join()
    lengths = []
    for number in range(3):
        rows = rows_of(tmp_path / f"backup-{number}" / "database.sqlite3")
        assert rows == [f"{index // 2} {'right' if index % 2 else 'left'}" for index in range(len(rows))]
        assert len(rows) % 2 == 0
        lengths.append(len(rows))
    assert lengths == sorted(lengths)
    assert lengths[0] > 0


KILLED = """
import os, signal, sys
from pathlib import Path
from annotate.labelstudio import backup
from annotate.labelstudio.server import Server
from sdg_data.settings import AnnotateSettings

class Deadly(backup.{writer}):
    left = {after}
    def add(self, name, size, source):
        if not Deadly.left:
            os.kill(os.getpid(), signal.SIGKILL)
        Deadly.left -= 1
        return super().add(name, size, source)

backup.{writer} = Deadly
backup.back_up(Server(Path(sys.argv[1]), AnnotateSettings()), Path(sys.argv[2]))
"""


@pytest.mark.parametrize(("name", "writer", "after"), [("b", "FolderWriter", 5), ("b.tar", "TarWriter", 2)])
def test_a_killed_backup_leaves_nothing_under_its_name_and_the_next_one_sweeps(
    tmp_path: Path, name: str, writer: str, after: int
) -> None:
    server = used_server(tmp_path / "home", "one")
    target = tmp_path / "kept" / name
    script = KILLED.format(writer=writer, after=after)
    done = subprocess.run([sys.executable, "-c", script, str(server.home), str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = target.parent.iterdir()
    assert left.name.startswith(f".{name}.")
    back_up(server, target)
    assert [path.name for path in target.parent.iterdir()] == [name]
    restore(Server(tmp_path / "other", AnnotateSettings()), target)


def test_what_fails_leaves_nothing_and_nothing_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = used_server(tmp_path / "home", "one")
    with pytest.raises(InputError, match="already"):
        back_up(server, server.folder)
    for name in ("b.tar.gz", "b.tgz", "b.zip"):
        with pytest.raises(InputError, match="tar"):
            back_up(server, tmp_path / name)
    with pytest.raises(BackupFailed, match="no server"):
        back_up(Server(tmp_path / "none", AnnotateSettings()), tmp_path / "b")

    def full() -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "sync", full)
        with pytest.raises(BackupFailed, match="No space left"):
            back_up(server, tmp_path / "b.tar")
    database = server.folder / "data" / "label_studio.sqlite3"
    content = bytearray(database.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    database.write_bytes(content)
    with pytest.raises(BackupFailed):
        back_up(server, tmp_path / "b.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def _cut(backup: Path) -> None:
    with backup.open("r+b") as file:
        file.truncate(backup.stat().st_size // 3)


def _cut_in_the_last_file(backup: Path) -> None:
    with backup.open("r+b") as file:
        file.truncate(backup.stat().st_size - 11_000)


def _another_byte(backup: Path) -> None:
    content = backup.read_bytes().replace(b"PNG image", b"PNG Image")
    backup.write_bytes(content)


def _with_more(name: str, kind: bytes = tarfile.REGTYPE) -> Callable[[Path], None]:
    def change(backup: Path) -> None:
        with tarfile.open(backup, "a") as tar:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, 1 if kind == tarfile.REGTYPE else 0, "/etc/passwd"
            tar.addfile(entry, io.BytesIO(b"x"))

    return change


def _without(part: str) -> Callable[[Path], None]:
    def change(backup: Path) -> None:
        with tarfile.open(backup) as tar, tarfile.open(backup.with_suffix(".new"), "w") as fewer:
            for entry in tar:
                if part not in entry.name:
                    fewer.addfile(entry, tar.extractfile(entry))
        backup.with_suffix(".new").replace(backup)

    return change


def _empty(backup: Path) -> None:
    backup.write_bytes(b"")


def _text(backup: Path) -> None:
    backup.write_text("no archive at all, whatever its name says " * 40)


@pytest.mark.parametrize(
    "damage",
    [
        _cut, _cut_in_the_last_file, _another_byte, _empty, _text, _with_more("more"), _with_more("../out"),
        _with_more("/tmp/out"), _with_more("data/../out"), _with_more("data/.env"), _with_more("link", tarfile.SYMTYPE),
        _with_more("pipe", tarfile.FIFOTYPE), _without("manifest"), _without("database"), _without("images"),
    ],
)  # fmt: skip
def test_a_damaged_backup_is_refused_before_anything_is_touched(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    backup = tmp_path / "backup.tar"
    back_up(used_server(tmp_path / "home", "one"), backup)
    damage(backup)
    living = used_server(tmp_path / "living", "two")
    before = state(living)
    with pytest.raises(InputError):
        restore(living, backup, replace=True)
    assert state(living) == before
    assert not (tmp_path / "living" / "out").exists()


def test_a_damaged_folder_is_refused_too(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    back_up(used_server(tmp_path / "home", "one"), backup)
    other = Server(tmp_path / "other", AnnotateSettings())
    image = backup / "media" / "images" / "ab" / f"{BLOB}.png"
    image.unlink()
    with pytest.raises(InputError, match=f"1 files.*{BLOB}"):
        restore(other, backup)
    image.symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="no file"):
        restore(other, backup)
    image.unlink()
    image.write_bytes(b"\x89PNG image")
    (backup / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(InputError, match="newer"):
        restore(other, backup)
    assert [path for path in other.folder.rglob("*") if path.is_file()] == []


def test_a_server_that_is_there_is_replaced_only_when_told_and_can_be_had_back(tmp_path: Path) -> None:
    old = used_server(tmp_path / "home", "old", version="1.22.0")
    target = tmp_path / "old.tar"
    back_up(old, target)
    living = used_server(tmp_path / "living", "new")
    own = credentials(living.home)
    before = state(living)
    with pytest.raises(NotRestored, match="already"):
        restore(living, target)
    assert state(living) == before
    done = restore(living, target, replace=True)
    assert done.version == "1.22.0"
    assert rows_of(living.folder / "data" / "label_studio.sqlite3") == ["old"]
    assert credentials(living.home) == credentials(old.home)
    assert done.replaced is not None
    again = restore(living, done.replaced, replace=True)
    assert again.version == "1.23.2"
    assert rows_of(living.folder / "data" / "label_studio.sqlite3") == ["new"]
    assert credentials(living.home) == own
    assert (living.media / "images" / "ab" / f"{BLOB}.png").exists()  # not in that backup, and not taken away


def test_a_restore_that_was_interrupted_is_run_again_before_the_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup"
    back_up(used_server(tmp_path / "home", "old"), target)
    living = used_server(tmp_path / "living", "new")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(restoring, "_put_files", interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore(living, target, replace=True)
    program = tmp_path / "living" / "none" / "bin" / "label-studio"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(ServerFailed, match="interrupted"):
        living.start()
    restore(living, target)  # what was there stands backed up already
    assert rows_of(living.folder / "data" / "label_studio.sqlite3") == ["old"]
    assert len(list(living.folder.glob("replaced-*"))) == 1


def test_a_backup_of_one_kind_of_database_is_not_put_into_the_other(tmp_path: Path) -> None:
    target = tmp_path / "backup"
    back_up(used_server(tmp_path / "home", "one"), target)
    other = Server(tmp_path / "other", AnnotateSettings(), database="postgresql://me@127.0.0.1:1/labels")
    with pytest.raises(ConfigError, match="other way round"):
        restore(other, target)


def test_before_another_version_is_installed_the_server_is_backed_up(tmp_path: Path) -> None:
    assert backup_before(Server(tmp_path / "none", AnnotateSettings()), "1.24.0") is None
    server = used_server(tmp_path / "home", "one")
    made = backup_before(server, "1.24.0")
    assert made is not None
    assert made.parent == server.folder / "backups"
    assert rows_of(made / "database.sqlite3") == ["one"]
    assert not (made / "media").exists()  # images stay where they are


def test_the_commands(tmp_path: Path) -> None:
    used_server(tmp_path / "home", "one")
    target = tmp_path / "b.tar"
    home = ["--home", str(tmp_path / "home"), "annotate", "server"]
    made = CliRunner().invoke(app, [*home, "backup", str(target), "--json"])
    assert (made.exit_code, json.loads(made.stdout)["database"]) == (0, "sqlite")
    assert CliRunner().invoke(app, [*home, "backup", str(target)]).exit_code != 0
    assert CliRunner().invoke(app, [*home, "restore", str(target)]).exit_code != 0
    other = ["--home", str(tmp_path / "other"), "annotate", "server"]
    done = CliRunner().invoke(app, [*other, "restore", str(target), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["replaced"] is None
