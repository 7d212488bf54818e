"""What can go wrong while writing: nothing incomplete has its final name, a rerun makes only what is missing."""

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exports.files.manifest import Manifest
from exports.files.options import ExportOptions
from exports.files.staged_file import StagedFile
from exports.files.target import ExportError, Target
from exports.run import ExportResult, run_export
from exports.verify import verify
from sdg_data.blobs import Blobs
from sdg_data.store.connection import Store
from tests.exports.worlds import EVERYTHING, fill

Export = Callable[..., ExportResult]
World = tuple[Store, Blobs]


@pytest.fixture(scope="module")
def hashes(shards: Path) -> dict[str, str]:
    """The files of a whole export, by their sha256."""
    manifest = Manifest.model_validate_json((shards / "manifest.json").read_bytes())
    return {entry.path: entry.sha256 for entry in manifest.files}


def shards_in(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tar")}


def assert_only_whole(folder: Path, hashes: dict[str, str]) -> None:
    assert shards_in(folder).items() <= hashes.items()


@pytest.mark.parametrize("after", [0, 9_000, 45_000])
def test_a_full_disk(
    export: Export, hashes: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The writes after so many bytes fail as a full disk lets them fail, the last one half written."""
    left = after
    real = os.writev

    def writev(fd: int, parts: Any) -> int:
        nonlocal left
        data = b"".join(parts)
        if len(data) > left:
            os.write(fd, data[:left])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left -= len(data)
        return real(fd, parts)

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", writev)
        with pytest.raises(ExportError, match="No space left") as caught:
            export(tmp_path, shard_bytes=20_000)
    assert "free some space" in str(caught.value)
    assert_only_whole(tmp_path, hashes)
    assert not list(tmp_path.rglob(".tmp-*"))
    assert not (tmp_path / "manifest.json").exists()
    done = shards_in(tmp_path)
    second = export(tmp_path, shard_bytes=20_000)
    assert second.kept == len(done)
    assert shards_in(tmp_path).items() <= hashes.items()
    assert verify(Target(tmp_path)).sound


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(export: Export, hashes: dict[str, str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no mounting here")
    try:
        with pytest.raises(ExportError, match="No space left"):
            export(disk / "out", shard_bytes=20_000)
        assert shards_in(disk / "out")
        assert_only_whole(disk / "out", hashes)
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        again = export(disk / "out", shard_bytes=20_000)
        assert again.kept > 0
        assert verify(Target(disk / "out")).sound
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_image_that_is_there_again(tmp_path: Path, export: Export) -> None:
    """Left out while its blob is damaged, back when it is whole; the other shards are kept."""
    store = fill(tmp_path / "home", 12)
    blobs = Blobs(tmp_path / "home" / "blobs")
    out = tmp_path / "out"
    victim = Path(blobs.path(sorted(blobs.iterate())[4]))
    original = victim.read_bytes()
    victim.write_bytes(original[:-1] + b"?")
    first = export(out, shard_bytes=9_000, world=(store, blobs))
    assert [error.code for error in first.left_out] == ["corrupt-blob"]
    assert first.manifest.samples == 11
    assert verify(Target(out)).sound
    victim.write_bytes(original)
    done = export(out, shard_bytes=9_000, world=(store, blobs))
    assert done.left_out == ()
    assert done.kept > 0
    assert done.manifest.samples == 12
    assert verify(Target(out)).sound


KILLED = """
import os, sys
from pathlib import Path
from exports.files.options import ExportOptions
from exports.run import run_export
from exports.dataset.select import Selection
from exports.files.target import Target
from sdg_data.blobs import Blobs
from sdg_data.store.connection import Store

home, out, fatal = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
calls = 0


def deadly(name):
    real = getattr(os, name)

    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == fatal:
            os.kill(os.getpid(), 9)
        return real(*arguments, **options)

    setattr(os, name, call)


for name in ("writev", "fsync", "rename", "open"):
    deadly(name)
run_export(
    Store(home), Blobs(home / "blobs"), Target(out), format_name="webdataset", name="mini",
    selection=Selection(unreviewed=True, fill_prelabels="vlm"),
    options=ExportOptions(shard_bytes=20_000, phash=False),
)
print(calls)
"""


@pytest.mark.slow
def test_killed_at_random_moments(world: World, hashes: dict[str, str], tmp_path: Path) -> None:
    """SIGKILL at a system call drawn by chance, again and again in one folder, until it is done."""
    home, out = world[0].home, tmp_path / "out"
    rng = random.Random(1)
    kills = 0
    for attempt in range(12):
        fatal = 10**9 if attempt >= 5 else rng.randrange(3, 60)
        ran = subprocess.run(
            [sys.executable, "-c", KILLED, home, out, str(fatal)], capture_output=True, cwd=Path.cwd(), check=False
        )
        assert_only_whole(out, hashes)
        if ran.returncode == 0:
            break
        assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()
        kills += 1
    assert kills >= 3
    assert shards_in(out) == {name: digest for name, digest in hashes.items() if name.endswith(".tar")}
    assert verify(Target(out)).sound
    assert not list(out.rglob(".tmp-*"))


class Flaky:
    """An fsspec file system whose uploads fail half the time, half of those with half of the bytes written."""

    def __init__(self, real: Any, seed: int) -> None:
        self._real, self._rng = real, random.Random(seed)
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def put_file(self, local: str, remote: str, **options: Any) -> None:
        luck = self._rng.random()
        if luck < 0.5:
            self.failures += 1
            if luck < 0.25:
                self._real.pipe_file(remote, Path(local).read_bytes()[: Path(local).stat().st_size // 2])
            raise OSError(errno.EIO, "the upload broke")
        self._real.put_file(local, remote, **options)


def attempt(world: World, target: Target) -> str | None:
    """Why an export gave up; None when it is done."""
    options = ExportOptions(shard_bytes=20_000, phash=False)
    try:
        run_export(*world, target, format_name="webdataset", name="mini", selection=EVERYTHING, options=options)
    except ExportError as error:
        return str(error)
    return None


def test_a_store_that_fails_half_the_puts(world: World, hashes: dict[str, str]) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for seed in range(3):
        url = f"memory://flaky-{seed}"
        pauses: list[float] = []
        target = Target(url, pause=pauses.append)
        flaky = target._fs = Flaky(memory, seed)
        for _ in range(20):
            error = attempt(world, target)
            for path in memory.find(f"/flaky-{seed}"):
                name = path.rpartition("/")[2]
                if name.endswith(".tar") and not name.startswith(".tmp-"):
                    assert hashlib.sha256(memory.cat_file(path)).hexdigest() == hashes[name]
            if error is None:
                break
            assert "the upload broke" in error
        assert flaky.failures > 5
        assert len(pauses) <= flaky.failures
        assert verify(Target(url)).sound
        assert not [path for path in memory.find(f"/flaky-{seed}") if ".tmp-" in path or "/.state/" in path]


def test_a_staged_file_writes_what_the_kernel_takes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: real(fd, [b"".join(parts)[:7]]))
    data = bytes(range(256)) * 40
    with Target(tmp_path).stage("x") as staged:
        staged.write(data[:100], data[100:5_000])
        staged.write(data[5_000:])
    assert (tmp_path / "x").read_bytes() == data
    assert staged.digest() == hashlib.sha256(data).hexdigest()
    assert isinstance(staged, StagedFile)


def test_an_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> None:
        with Target(tmp_path).stage("a/x") as staged:
            staged.write(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        broken()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
