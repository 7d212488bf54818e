"""A store survives: a disk that fills while it is made, killed snapshots, folders that cannot be written, strangers."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.records import Prompt
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import BlobCorrupt, ExitCode, StoreError
from sdg_data.store import prompts
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from sdg_data.store.snapshot import publish, snapshot_path

MAKE = """
import resource, signal, sys
from pathlib import Path
from sdg_data.errors import StoreError
from sdg_data.store.connection import Store

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with Store(Path(sys.argv[1])).write():
        pass
except StoreError as error:
    sys.exit(f"named: {error}")
"""


@pytest.mark.parametrize("room", [0, 4096, 12_288, 100_000, 300_000])
def test_a_disk_that_fills_while_the_store_is_made(home: Path, room: int) -> None:
    """No file may be larger than `room`: either the store is whole, or it is not there and the next try makes it."""
    made = subprocess.run([sys.executable, "-c", MAKE, home, str(room)], capture_output=True, text=True, check=False)
    assert made.returncode == 0 or "named: " in made.stderr, made.stderr
    assert (home / "store.duckdb").exists() == (made.returncode == 0)
    with Store(home).write() as tx:
        assert prompts.count(tx) == 0
    assert [path.name for path in home.iterdir()] == ["store.duckdb"]


def test_many_who_make_a_store_at_once_share_it(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sdg_data.store.connection import Store\n"
        "with Store(Path(sys.argv[1])).write() as tx: tx.execute('CREATE TABLE IF NOT EXISTS seen (n VARCHAR)')\n"
        "with Store(Path(sys.argv[1])).write() as tx: tx.execute('INSERT INTO seen VALUES (?)', [sys.argv[2]])"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, home, str(number)]) for number in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    with Store(home).read() as tx:
        assert tx.execute("SELECT count(*) FROM seen").fetchall() == [(4,)]
    assert [path.name for path in home.iterdir()] == ["store.duckdb"]


KILLED = """
import os, signal, sys
from pathlib import Path
from sdg_data.store import snapshot
from sdg_data.store.connection import Store

snapshot.publish(Store(Path(sys.argv[1])), prepare=lambda tx: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_a_killed_snapshot_left_is_swept_and_a_living_one_spared(
    store: Store, make_prompt: Callable[..., Prompt]
) -> None:
    with store.write() as tx:
        prompts.insert(tx, [make_prompt("a cat")])
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", KILLED, str(store.home)], check=False)
        assert ended.returncode == -9
    folder = snapshot_path(store.home).parent
    assert len([path for path in folder.iterdir() if path.name.endswith(".duckdb")]) == 1
    (folder / ".0123456789abcdef.tmp").write_bytes(b"of an earlier version")
    (folder / ".mine.tmp").write_text("mine")

    def other(tx: Any) -> None:
        publish(store)  # sweeps, while the outer one is being made

    publish(store, prepare=other)
    assert {path.name for path in folder.iterdir()} == {"store.duckdb", ".mine.tmp"}
    with Store(folder).read() as tx:
        assert prompts.count(tx) == 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_snapshot_that_cannot_be_written_is_a_named_error(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Every call that would change the folder is refused, deleting what is not there too."""
    with store.write():
        pass

    def refuse(*arguments: Any, **named: Any) -> None:
        raise OSError(number, os.strerror(number))

    real = os.open
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(os, "open", lambda path, flags, *more: refuse() if flags & os.O_CREAT else real(path, flags))
    with pytest.raises(StoreError, match="cannot publish the snapshot") as caught:
        publish(store)
    assert caught.value.hint is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_home_that_is_really_read_only(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with store.write():
        pass
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    if subprocess.run(
        ["mount", "--bind", "-o", "ro", store.home, mounted], capture_output=True, check=False
    ).returncode:
        pytest.skip("no mounting here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", mounted], check=True)
        assert run(["--home", str(mounted), "store", "snapshot"]) == ExitCode.STORE
        assert "Read-only" in capsys.readouterr().err
    finally:
        subprocess.run(["umount", mounted], check=True)


# --- strangers beside blobs


def test_strangers_among_the_blobs_are_counted_and_never_read(
    store: Store, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = Blobs(home / "blobs")
    with store.write():
        pass
    name = blobs.put(b"content")
    before = store_digest(store, blobs)
    folder = home / "blobs" / name[:2]
    other = [f"{name[:2]}{digit * 62}" for digit in "0123"]
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / ".nfs000000000123").write_bytes(b"x")
    (folder / name[:-1]).write_bytes(b"x")
    (folder / other[0]).mkdir()
    os.mkfifo(folder / other[1])
    (folder / other[2]).symlink_to("/dev/zero")
    (folder / other[3]).symlink_to("nowhere")
    (home / "blobs" / "zz").mkdir()
    (home / "blobs" / "aa" if name[:2] != "aa" else home / "blobs" / "ab").write_bytes(b"a file")
    (home / "blobs" / ".DS_Store").write_bytes(b"x")
    assert list(blobs.iterate()) == [name]
    assert len(blobs.strangers()) == 8
    assert store_digest(store, blobs) == before
    assert run(["--home", str(home), "store", "digest"]) == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out.strip() == before
    assert "8 entries of the blob folder are no blobs" in captured.err
    for number in range(3):
        with pytest.raises(BlobCorrupt, match="no file"):
            blobs.get(other[number])


def test_a_fifo_under_a_blobs_name_is_replaced_by_the_blob(home: Path) -> None:
    blobs = Blobs(home / "blobs")
    name = blobs.put(b"content")
    path = Path(blobs.path(name))
    path.unlink()
    os.mkfifo(path)
    assert blobs.put(b"content") == name
    assert blobs.get(name) == b"content"
