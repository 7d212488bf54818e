"""Blobs: there whole or not at all, checked when read, and no file left behind."""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sdg_data.blobs import Blobs
from sdg_data.errors import BlobCorrupt, BlobError, BlobMissing


@pytest.fixture(params=["local", "memory"])
def any_blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs" if request.param == "local" else f"memory://{secrets.token_hex(4)}")


def test_what_is_put_can_be_got_under_its_sha256(any_blobs: Blobs) -> None:
    contents = [b"", b"a", bytes(range(256)) * 1000]
    names = any_blobs.put_many(contents)
    assert names == [hashlib.sha256(content).hexdigest() for content in contents]
    assert [any_blobs.get(name) for name in names] == contents
    assert list(any_blobs.iterate()) == sorted(names)
    assert all(any_blobs.exists(name) for name in names)
    assert [any_blobs.content_hash(name) for name in names] == names


def test_an_absent_blob_is_missing(any_blobs: Blobs) -> None:
    name = hashlib.sha256(b"never").hexdigest()
    assert not any_blobs.exists(name)
    with pytest.raises(BlobMissing, match=name):
        any_blobs.get(name)
    assert list(any_blobs.iterate()) == []


def test_the_layout_is_a_folder_by_the_first_two_digits(blobs: Blobs, home: Path) -> None:
    name = blobs.put(b"x")
    assert Path(blobs.path(name)) == home / "blobs" / name[:2] / name
    assert Path(blobs.path(name)).read_bytes() == b"x"


def test_putting_again_writes_nothing(blobs: Blobs) -> None:
    name = blobs.put(b"x")
    before = Path(blobs.path(name)).stat()
    assert blobs.put(b"x") == name
    after = Path(blobs.path(name)).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_damaged_blob_is_found_out_and_mended_by_putting_it_again(blobs: Blobs) -> None:
    name = blobs.put(b"right")
    Path(blobs.path(name)).write_bytes(b"wrong")
    with pytest.raises(BlobCorrupt, match=name):
        blobs.get(name)
    assert blobs.content_hash(name) == hashlib.sha256(b"wrong").hexdigest()
    blobs.put(b"right")
    assert blobs.get(name) == b"right"


def test_folders_that_are_gone_are_made_again(blobs: Blobs) -> None:
    first = blobs.put(b"one")
    shutil.rmtree(blobs.url)
    assert not blobs.exists(first)
    assert [blobs.get(name) for name in (blobs.put(b"one"), blobs.put(b"two"))] == [b"one", b"two"]


def test_no_temporary_file_is_left_after_a_put(blobs: Blobs, home: Path) -> None:
    blobs.put_many([b"a", b"b"])
    assert list((home / "blobs" / ".tmp").iterdir()) == []
    assert sum(path.is_file() for path in (home / "blobs").rglob("*")) == 2


def test_a_sweep_takes_what_a_dead_writer_left_and_spares_a_living_one(blobs: Blobs, home: Path) -> None:
    blobs.put(b"x")
    temporary = home / "blobs" / ".tmp"
    (temporary / "dead").write_bytes(b"half")
    (temporary / "alive").write_bytes(b"half")
    with (temporary / "alive").open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert blobs.sweep_temporary() == 1
        assert [path.name for path in temporary.iterdir()] == ["alive"]
    assert blobs.sweep_temporary() == 1
    assert list(temporary.iterdir()) == []
    assert len(list(blobs.iterate())) == 1


def test_a_writer_killed_between_write_and_rename_leaves_only_what_a_sweep_takes(blobs: Blobs, home: Path) -> None:
    code = (
        "import os, pathlib, signal, sys; from sdg_data.blobs import Blobs\n"
        "pathlib.Path.rename = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Blobs(sys.argv[1]).put(b'content')"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(home / "blobs")], check=False)
    assert ended.returncode == -9
    assert len(list((home / "blobs" / ".tmp").iterdir())) == 1
    assert list(blobs.iterate()) == []
    assert blobs.sweep_temporary() == 1
    assert not any(path.is_file() for path in (home / "blobs").rglob("*"))


def test_many_writers_of_one_blob_agree(home: Path) -> None:
    code = (
        "import sys; from sdg_data.blobs import Blobs; [Blobs(sys.argv[1]).put(bytes([i]) * 50000) for i in range(20)]"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(home / "blobs")]) for _ in range(3)]
    sweeper = Blobs(home / "blobs")
    while any(writer.poll() is None for writer in writers):
        sweeper.sweep_temporary()
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    expected = {hashlib.sha256(bytes([i]) * 50000).hexdigest() for i in range(20)}
    assert set(sweeper.iterate()) == expected
    assert all(sweeper.content_hash(name) == name for name in expected)
    assert os.listdir(home / "blobs" / ".tmp") == []  # noqa: PTH208


@pytest.mark.parametrize("error", [PermissionError("Forbidden"), OSError(errno.ECONNREFUSED, "Connection refused")])
def test_a_store_that_refuses_is_a_blob_error_whatever_is_asked(
    monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    for method in ("exists", "pipe_file", "cat_file", "glob", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, method, refuse)
    blobs, name = Blobs(f"memory://{secrets.token_hex(4)}"), "ab" * 32
    for call in (
        lambda: blobs.put(b"x"),
        lambda: blobs.exists(name),
        lambda: blobs.get(name),
        lambda: list(blobs.iterate()),
        blobs.strangers,
        lambda: blobs.delete_many([name]),
    ):
        with pytest.raises(BlobError, match=r"Forbidden|Connection refused"):
            call()
