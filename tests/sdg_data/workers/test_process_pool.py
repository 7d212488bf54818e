"""Processes of this machine: they compute, are started anew when they are killed, and end with their driver."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sdg_data.errors import WorkerError
from sdg_data.progress import Progress
from sdg_data.workers.executor import WorkersExecutor
from sdg_data.workers.process_pool import ProcessPool, Slot, slots
from tests.sdg_data.workers.numbers import Numbers


def execute(stage: Numbers, folder: Path, workers: int = 2) -> int:
    pool = ProcessPool([Slot(f"worker {number}") for number in range(workers)], folder / "logs" / "workers.log")
    return WorkersExecutor(lambda: pool).execute(stage, progress=Progress("numbers", stream=io.StringIO()))


def test_processes_compute_and_one_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "7").touch()  # the process that is given number 7 is killed, once
    stage = Numbers(20, slips=str(tmp_path))
    assert execute(stage, tmp_path) == 20
    assert stage.rows == {number: number * number for number in range(20)}
    assert not stage.twice
    assert not (tmp_path / "7").exists()


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(WorkerError, match=r"worker 0: a worker cannot be started \(File exists\)\n.*logs/workers\.log"):
        execute(Numbers(3), tmp_path)


@pytest.mark.slow
def test_an_item_that_kills_every_process_is_a_failure(tmp_path: Path) -> None:
    stage = Numbers(20, deadly=[7])
    assert execute(stage, tmp_path) == 20
    assert stage.failed.keys() == {7}
    assert stage.failed[7][0] == "worker-died"
    assert "was killed by SIGKILL" in stage.failed[7][1]
    assert len(stage.rows) == 19


@pytest.mark.slow
def test_no_process_outlives_a_driver_that_was_killed(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from tests.sdg_data.workers.numbers import Numbers
from sdg_data.workers.process_pool import ProcessPool, Slot
import pickle
pool = ProcessPool([Slot("a"), Slot("b")], Path({str(tmp_path)!r}) / "log")
pool.start(pickle.dumps(Numbers(3)))
ready = 0
while ready < 2:
    ready += len(pool.events(1.0))
print("ready", flush=True)
time.sleep(600)
"""
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
        workers = psutil.Process(driver.pid).children(recursive=True)
        assert len(workers) == 2
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


@pytest.mark.parametrize(
    ("workers", "gpus", "each", "expected"),
    [
        (2, [], 1, [("worker 0", None), ("worker 1", None)]),
        (2, ["0", "1"], 0, [("worker 0", ()), ("worker 1", ())]),
        (2, ["0", "3"], 1, [("gpu 0", ("0",)), ("gpu 3", ("3",))]),
        (2, ["0", "1", "2", "3"], 2, [("gpu 0+1", ("0", "1")), ("gpu 2+3", ("2", "3"))]),
        (3, ["0", "1"], 1, [("gpu 0 worker 0", ("0",)), ("gpu 1 worker 1", ("1",)), ("gpu 0 worker 2", ("0",))]),
    ],
)
def test_gpus_are_dealt_out(
    workers: int, gpus: list[str], each: int, expected: list[tuple[str, tuple[str, ...] | None]]
) -> None:
    assert [(slot.name, slot.gpus) for slot in slots(workers, gpus, each)] == expected


def test_a_process_sees_its_own_gpus_and_its_share_of_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pool = ProcessPool(slots(2, ["0", "3"], 1), tmp_path / "log")
    environments = [pool._environment(slot) for slot in pool._slots.values()]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["0", "3"]
    cores = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {environment["OMP_NUM_THREADS"] for environment in environments} == {str(cores)}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert pool._environment(Slot("a"))["OMP_NUM_THREADS"] == "5"
