"""Three machines with a Ray node each and an object store: what is killed or cut off changes nothing of the result.

Network namespaces of this machine stand for the machines; the model waits and draws. It takes minutes, and needs root.
"""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.workers import waiting
from sdg_data.blobs import Blobs
from sdg_data.locks import note_path
from sdg_data.progress import read_note
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from tests.sdg_data.workers.namespaces import BUCKET, Machines, possible, until

pytest.importorskip("ray")
pytest.importorskip("moto")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not possible(), reason="needs root and network namespaces")]

IMAGES = int(os.environ.get("SDG_TEST_CLUSTER_IMAGES", "300"))
KILLS = int(os.environ.get("SDG_TEST_CLUSTER_KILLS", "20"))
SECONDS = 0.3
"""Of each image; so there is something to kill."""


class Run:
    """A driver on machine 1, and its home."""

    def __init__(self, machines: Machines, folder: Path, name: str) -> None:
        self.machines, self.home, self.blobs = machines, folder / name, f"s3://{BUCKET}/{name}"
        waiting.fill(self.home, IMAGES // 2)  # two models
        self.log = folder / f"{name}.log"
        self.driver: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.sdg_data.workers.rendered", str(self.home), self.blobs]
        with self.log.open("ab") as output:
            self.driver = self.machines.run(
                1, [*command, self.machines.head, str(SECONDS)], stdout=output, stderr=output
            )

    @property
    def ended(self) -> bool:
        return self.driver is not None and self.driver.poll() is not None

    def done(self) -> int:
        note = read_note(note_path(self.home, "generate"))
        return 0 if note is None else note.done

    def more(self, images: int) -> bool:
        """Wait until so many more images are made; whether the run goes on."""
        goal = self.done() + images
        until(lambda: self.ended or self.done() >= goal, f"{goal} images are made ({self.log})", 400.0)
        return not self.ended

    def finish(self) -> str:
        """Wait for the end, and return the digest."""
        until(lambda: self.ended, f"the driver ends ({self.log})", 900.0)
        assert self.driver is not None
        assert self.driver.returncode == 0, self.log.read_text()
        assert "Traceback" not in self.log.read_text()
        with moto_environment(self.machines):
            return store_digest(Store(self.home), Blobs(self.blobs))


@contextmanager
def moto_environment(machines: Machines) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(machines.environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with Machines(tmp_path_factory.mktemp("machines")) as machines:
        machines.start_node(2)
        yield machines


@pytest.fixture(scope="module")
def digest_of_one_process(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("alone")
    waiting.fill(home, IMAGES // 2)
    command = [sys.executable, "-m", "tests.sdg_data.workers.rendered", str(home), str(home / "blobs"), "", "0.001"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return store_digest(Store(home), Blobs(home / "blobs"))


def test_a_machine_joins_late_and_one_is_cut_off_for_half_a_minute(
    machines: Machines, digest_of_one_process: str, tmp_path: Path
) -> None:
    run = Run(machines, tmp_path, "cut")
    run.start()
    assert run.more(1)
    machines.start_node(3)
    until(lambda: run.ended or machines.at(3) != [], "the machine that joined late has workers", 300.0)
    assert run.more(10)
    with machines.unplugged(3):
        time.sleep(30)
    assert run.finish() == digest_of_one_process


def test_workers_raylets_and_drivers_are_killed(machines: Machines, digest_of_one_process: str, tmp_path: Path) -> None:
    chance = random.Random(1)
    run = Run(machines, tmp_path, "killed")
    run.start()
    kills: dict[str, int] = {"worker": 0, "raylet": 0, "driver": 0}
    turns = itertools.cycle(["worker", "worker", "raylet", "worker", "driver"])
    while sum(kills.values()) < KILLS and run.more(3):
        what = next(turns)
        if what == "worker":
            workers = machines.workers()
            if workers:
                _kill(chance.choice(workers))
        elif what == "raylet":
            machine = chance.choice([2, 3])
            machines.kill_node(machine)
            machines.start_node(machine)
        else:
            assert run.driver is not None
            for child in [*psutil.Process(run.driver.pid).children(), psutil.Process(run.driver.pid)]:
                if "rendered" in " ".join(child.cmdline()):
                    _kill(child)
            run.driver.wait()
            run.start()
        kills[what] += 1
    print(kills)
    assert all(kills.values())
    assert run.finish() == digest_of_one_process


def _kill(process: psutil.Process) -> None:
    if process.is_running():
        process.send_signal(signal.SIGKILL)
