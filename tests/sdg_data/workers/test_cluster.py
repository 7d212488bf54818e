"""Three machines with a Ray node each and an object store: what is killed or cut off changes nothing of the result.

Network namespaces of this machine stand for the machines; the model waits and draws. It takes minutes, and needs root.
"""

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.workers import waiting
from sdg_data.locks import note_path
from sdg_data.progress import read_note
from tests.sdg_data.workers.drivers import Driver, digest, kill_in_turns, turns
from tests.sdg_data.workers.namespaces import BUCKET, Machines, Memory, possible, until

pytest.importorskip("ray")
pytest.importorskip("moto")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not possible(), reason="needs root and network namespaces")]

IMAGES = int(os.environ.get("SDG_TEST_CLUSTER_IMAGES", "300"))
KILLS = int(os.environ.get("SDG_TEST_CLUSTER_KILLS", "10"))
SECONDS = 0.3
"""Of each image; so there is something to kill."""
RENDER = [sys.executable, "-m", "tests.sdg_data.workers.rendered"]


class Run(Driver):
    """A driver whose model waits, and its home."""

    def __init__(self, machines: Machines, folder: Path, name: str) -> None:
        home, self.blobs = folder / name, f"s3://{BUCKET}/{name}"
        waiting.fill(home, IMAGES // 2)  # two models
        command = [*RENDER, str(home), self.blobs, machines.head, str(SECONDS)]
        super().__init__(machines, command, home, "generate", folder / f"{name}.log")

    def workers(self) -> str:
        """Where the workers are, as the driver wrote down last."""
        note = read_note(note_path(self.home, self.stage))
        return "" if note is None else " ".join(worker.place for worker in note.workers)

    def digest(self) -> str:
        """That of the home, when the driver has ended."""
        self.finish()
        return digest(self.home, self.blobs, self.machines)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with Machines(tmp_path_factory.mktemp("machines")) as machines:
        machines.start_node(2)
        yield machines


@pytest.fixture(scope="module")
def digest_of_one_process(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("alone")
    waiting.fill(home, IMAGES // 2)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*RENDER, str(home), str(home / "blobs"), "", "0.001"]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return digest(home, str(home / "blobs"))


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
    assert run.digest() == digest_of_one_process


def test_workers_raylets_and_drivers_are_killed(machines: Machines, digest_of_one_process: str, tmp_path: Path) -> None:
    run = Run(machines, tmp_path, "killed")
    run.start()
    killed = kill_in_turns(machines, run, turns(KILLS), random.Random(1), apart=3)
    assert killed == Counter(turns(KILLS))
    assert run.digest() == digest_of_one_process


def test_a_machine_runs_out_of_memory(machines: Machines, digest_of_one_process: str, tmp_path: Path) -> None:
    memory = Memory(tmp_path / "groups")
    machines.stop_node(3)
    machines.start_node(3, memory)
    run = Run(machines, tmp_path, "memory")
    run.start()
    until(lambda: f"{machines.address(3)} process" in run.workers(), "the machine's workers work")
    assert run.more(10)
    memory.use(0.99)
    until(lambda: run.ended or "its machine's memory ran out" in run.log.read_text(), "a worker is killed for memory")
    memory.use(0.1)
    said = run.finish()
    assert run.digest() == digest_of_one_process
    worker = rf"worker \d on {machines.address(3)} process \d+"
    assert re.search(
        rf"{worker} was killed, because its machine's memory ran out; it was at \d+ items, the first", said
    )


def test_the_head_dies_and_the_same_command_goes_on_when_it_is_back(
    machines: Machines, digest_of_one_process: str, tmp_path: Path
) -> None:
    run = Run(machines, tmp_path, "head")
    run.start()
    assert run.more(10)
    machines.kill_head()
    said = run.finish(11)
    assert "and it did not come back in 61 s" in said
    assert "run the same command again" in said
    for machine in (1, 2, 3):
        machines.stop_node(machine)
    machines.start_node(1)
    machines.start_node(2)
    run.start()
    assert run.digest() == digest_of_one_process
