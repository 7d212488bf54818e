"""`sdg generate run` as a process: killed, interrupted, doubled, out of disk. Nothing is lost, nothing half-written."""

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdg_data import cli
from sdg_data.blobs import TEMPORARY, Blobs
from sdg_data.errors import ExitCode
from sdg_data.store import images
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from tests.generators.forked import CANNOT_MOUNT, Running, start
from tests.generators.support import add_prompts, config_for

MODELS = {"tiny-flux": "FluxPipeline", "tiny-zimage": "ZImagePipeline"}
SAMPLES = 2
TEXTS = [f"a scene with {number} stars" + " and a moon" * (number % 4) for number in range(10)]

TOTAL = len(TEXTS) * SAMPLES * len(MODELS)


class Command:
    """`sdg generate run` on a home, with tiny models."""

    def __init__(self, config: Path, logs: Path) -> None:
        self._config, self._logs = config, logs

    def arguments(self, home: Path) -> list[str]:
        line = ["--home", str(home), "--config", str(self._config), "generate", "run", "--models", ",".join(MODELS)]
        return [*line, "--samples-per-prompt", str(SAMPLES)]

    def start(self, home: Path, *more: str, **mounted: Any) -> Running:
        return start([*self.arguments(home), *more], self._logs, **mounted)

    def run(self, home: Path, *more: str, **mounted: Any) -> tuple[int, str, str]:
        code, out, err = self.start(home, *more, **mounted).wait()
        if code == CANNOT_MOUNT:
            pytest.skip("this machine does not let a user mount anything")
        return code, out, err


@pytest.fixture(scope="module")
def command(folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Command:
    folder = tmp_path_factory.mktemp("command")
    return Command(config_for(folder / "tiny.toml", folders, MODELS), folder / "logs")


def prepared(home: Path) -> Path:
    add_prompts(Store(home), TEXTS)
    return home


@pytest.fixture(scope="module")
def reference(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that one undisturbed run has filled."""
    home = prepared(tmp_path_factory.mktemp("reference"))
    code, out, err = command.run(home, "--json")
    assert code == 0, err
    assert json.loads(out)["made"] == TOTAL
    return home


def digest(home: Path) -> str:
    return store_digest(Store(home), Blobs(home / "blobs"))


def count(home: Path) -> int:
    with Store(home).read() as tx:
        return sum(images.count_by_model(tx).values())


def leftovers(home: Path) -> list[Path]:
    return [*(home / "blobs" / TEMPORARY).glob("*"), *home.glob("*.wal"), *home.glob("*.tmp")]


def blob_count(home: Path) -> int:
    return sum(1 for _ in (home / "blobs").glob("[0-9a-f][0-9a-f]/*"))


def kill_and_resume(command: Command, home: Path, reference: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    prepared(home)
    killed = 0
    # From before the first blob to after the last, and some milliseconds on: between blob and row, or in a transaction.
    for target in sorted(chance.sample(range(TOTAL), kills)):
        running = command.start(home)
        if running.until(lambda target=target: blob_count(home) >= target):  # type: ignore[misc]
            running.process.join(timeout=chance.uniform(0, 0.06))
        running.process.kill()
        killed += running.wait()[0] == -signal.SIGKILL
    assert killed >= kills // 2
    code, _, err = command.run(home)
    assert code == 0, err
    assert count(home) == TOTAL
    assert digest(home) == digest(reference)
    assert leftovers(home) == []


@pytest.mark.slow
def test_killed_and_resumed_the_store_is_the_same(command: Command, home: Path, reference: Path) -> None:
    kill_and_resume(command, home, reference, kills=3, seed=1)


@pytest.mark.slow
def test_killed_at_twenty_random_moments(command: Command, home: Path, reference: Path) -> None:
    kill_and_resume(command, home, reference, kills=20, seed=2)


@pytest.mark.slow
def test_ctrl_c_ends_at_a_batchs_end(command: Command, home: Path, reference: Path) -> None:
    prepared(home)
    running = command.start(home)
    assert running.until(lambda: blob_count(home) >= 5)
    os.kill(running.process.pid or 0, signal.SIGINT)
    code, _, err = running.wait()
    assert code == ExitCode.INTERRUPTED, err
    assert "Run the same command again to go on" in err
    assert 5 <= count(home) < TOTAL
    assert count(home) == blob_count(home)
    assert leftovers(home) == []
    assert command.run(home)[0] == 0
    assert digest(home) == digest(reference)


@pytest.mark.slow
def test_two_at_once_take_turns(command: Command, home: Path, reference: Path) -> None:
    prepared(home)
    first = command.start(home)
    assert first.until(lambda: blob_count(home) >= 1)
    code, _, err = command.run(home, "--no-wait")
    assert code == ExitCode.LOCKED
    assert f"process {first.process.pid} on" in err
    code, out, err = command.run(home, "--json")
    assert first.wait()[0] == code == 0
    assert f"waiting for process {first.process.pid}" in err
    assert json.loads(out)["made"] == 0
    assert digest(home) == digest(reference)


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_next_run_goes_on(command: Command, home: Path, reference: Path) -> None:
    prepared(home)
    blobs, saved = home / "blobs", home / "saved"
    blobs.mkdir()
    # 40 images of some 12 kB do not fit.
    code, _, err = command.run(home, mount=["-t", "tmpfs", "-o", "size=160k", "tmpfs", str(blobs)], save=saved)
    assert code == ExitCode.BLOB, err
    assert "The disk is full" in err
    with Store(home).read() as tx:
        rows = images.page(tx)
    assert rows
    for row in rows:  # every row has its blob, whole
        assert len(Blobs(saved).get(row.blob)) == row.bytes
    assert list((saved / TEMPORARY).glob("*")) == []
    blobs.rmdir()
    saved.rename(blobs)
    assert command.run(home)[0] == 0
    assert digest(home) == digest(reference)


@pytest.mark.slow
def test_a_read_only_blob_folder_is_said(command: Command, home: Path) -> None:
    prepared(home)
    blobs = home / "blobs"
    blobs.mkdir()
    code, _, err = command.run(home, mount=["-t", "tmpfs", "-o", "ro", "tmpfs", str(blobs)])
    assert code == ExitCode.BLOB, err
    assert "read-only" in err.lower()
    assert count(home) == 0


def test_a_home_without_prompts_says_what_to_do(
    command: Command, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.run(command.arguments(home))  # in this process: nothing is drawn
    assert code == ExitCode.STORE
    assert "sdg prompts import" in capsys.readouterr().err
    assert not home.exists()
