"""Disks that are full or read-only: a clear error, nothing half-written, and the same command goes on afterwards."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sdg_data import cli
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobError, ExitCode, SdgError, StoreError
from sdg_data.progress import Progress
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from sdg_data.work import LocalExecutor

sys.path.insert(0, str(Path(__file__).parent))
import toy_stage

Mount = Callable[[str, str], Path]


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _can_mount() -> bool:
    """Whether a tmpfs can be mounted here: for root outside of a strict container."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return False
    probe = "d=$(mktemp -d) && mount -t tmpfs tmpfs $d && umount $d && rmdir $d"
    return subprocess.run(["sh", "-c", probe], check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def _mounting() -> None:
    if not _can_mount():
        pytest.skip("mounting a small disk needs root outside of a strict container")


@contextmanager
def disk(path: Path, options: str) -> Iterator[Path]:
    path.mkdir()
    _mount("-t", "tmpfs", "-o", options, "tmpfs", str(path))
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill_up(folder: Path) -> Path:
    """A file that takes all the room there is."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return path


def everything(home: Path) -> tuple[int, int]:
    """How many images and how many blobs there are, each checked."""
    blobs = Blobs(home / "blobs")
    names = list(blobs.iterate())
    assert all(blobs.content_hash(name) == name for name in names)
    with Store(home).read() as tx:
        rows = tx.execute("SELECT blob FROM images").fetchall()
    assert {blob for (blob,) in rows} <= set(names)
    return len(rows), len(names)


def run_toy(home: Path) -> int:
    stage = toy_stage.ToyStage(home)
    stage.blobs.sweep_temporary()
    return LocalExecutor().execute(stage, progress=Progress("toy", stream=io.StringIO()))


@pytest.mark.usefixtures("_mounting")
def test_a_full_disk_stops_a_stage_with_a_hint_and_with_room_again_it_goes_on(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    toy_stage.fill_prompts(whole)
    assert run_toy(whole) == 36
    with disk(tmp_path / "disk", "size=6m") as small:
        home = small / "home"
        toy_stage.fill_prompts(home)
        ballast = fill_up(small)
        with pytest.raises(SdgError, match="free some space") as caught:
            run_toy(home)
        assert caught.value.exit_code in (ExitCode.BLOB, ExitCode.STORE)
        ballast.unlink()
        assert everything(home)[0] < 36
        run_toy(home)
        assert everything(home)[0] == 36
        assert store_digest(Store(home), Blobs(home / "blobs")) == store_digest(Store(whole), Blobs(whole / "blobs"))
        assert not list((home / "blobs" / ".tmp").iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("_mounting")
def test_a_disk_that_fills_up_at_any_point_loses_nothing(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "size=6m") as small:
        home = small / "home"
        toy_stage.fill_prompts(home)
        done, said = 0, []
        for room in (4, 8, 40, 100, 400):
            ballast = fill_up(small)
            with ballast.open("rb+") as file:
                file.truncate(ballast.stat().st_size - room * 1024)
            try:
                run_toy(home)
            except SdgError as error:
                said.append(str(error))
            ballast.unlink()
            images, _ = everything(home)
            assert images >= done
            done = images
        run_toy(home)
        assert everything(home)[0] == 36
        assert said
        assert all("free some space" in text for text in said)


@pytest.mark.usefixtures("_mounting")
def test_a_prompt_import_on_a_full_disk_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with disk(tmp_path / "disk", "size=3m") as small:
        source = tmp_path / "p.txt"
        source.write_text("".join(f"prompt {number} {'x' * 500}\n" for number in range(20_000)))
        assert cli.run(["prompts", "import", str(source), "--home", str(small / "home")]) == ExitCode.STORE
        assert "disk is full" in capsys.readouterr().err


@pytest.mark.usefixtures("_mounting")
def test_a_read_only_blob_folder_is_named_and_nothing_is_stored(tmp_path: Path) -> None:
    home = tmp_path / "home"
    toy_stage.fill_prompts(home)
    with disk(home / "blobs", "size=1m"):
        _mount("-o", "remount,ro", str(home / "blobs"))
        with pytest.raises(BlobError, match="read-only") as caught:
            run_toy(home)
        assert str(home / "blobs") in str(caught.value)
        assert everything(home) == (0, 0)
    assert run_toy(home) == 36


@pytest.mark.usefixtures("_mounting")
def test_a_read_only_home_can_be_read_but_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with disk(tmp_path / "disk", "size=6m") as small:
        toy_stage.fill_prompts(small / "home")
        _mount("-o", "remount,ro", str(small))
        assert cli.run(["prompts", "stats", "--home", str(small / "home")]) == 0
        capsys.readouterr()
        (tmp_path / "p.txt").write_text("a new prompt\n")
        line = ["prompts", "import", str(tmp_path / "p.txt"), "--home", str(small / "home")]
        assert cli.run(line) == ExitCode.STORE
        assert "cannot be written" in capsys.readouterr().err


def test_a_file_where_a_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(StoreError, match="cannot make the folder"), Store(tmp_path / "home").write():
        pass
    with pytest.raises(BlobError, match="Not a directory"):
        Blobs(tmp_path / "home" / "blobs").put(b"x")


@pytest.mark.slow
def test_two_runs_of_a_stage_at_once_end_as_one_run_does(tmp_path: Path) -> None:
    whole, both = tmp_path / "whole", tmp_path / "both"
    for home in (whole, both):
        toy_stage.fill_prompts(home)
    run_toy(whole)
    # Without the stage lock that a command takes: even then nothing is lost or there twice.
    command = [sys.executable, toy_stage.__file__, str(both)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outcomes = [(run.communicate(), run.returncode) for run in runs]
    assert [code for _, code in outcomes] == [0, 0], outcomes
    assert store_digest(Store(both), Blobs(both / "blobs")) == store_digest(Store(whole), Blobs(whole / "blobs"))
