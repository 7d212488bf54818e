"""Trainings by `accelerate launch` with a file of configs/accelerate, two processes on gloo; beside the same in one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.trainers.detector.runs import entries

ROOT = Path(__file__).parents[2]
SHARDING = Path(__file__).with_name("sdg_on_cpus.py")
SCRIPTED = Path(__file__).parent / "detector" / "scripted_on_cpus.py"
PATIENCE = 1800.0


def start(arguments: list[str], file: str | None, log: Path, script: Path) -> "subprocess.Popen[bytes]":
    """A script with `sdg`'s arguments in one process, or in two by a file of configs/accelerate."""
    launch = [
        *(str(Path(sys.executable).with_name("accelerate")), "launch", "--num_processes", "2"),
        *("--main_process_port", "0", "--config_file", f"configs/accelerate/{file}.yaml"),
    ]
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT), "HEARD": str(log.with_suffix(".heard")),
    }  # fmt: skip
    command = [sys.executable] if file is None else launch
    with log.open("ab") as sink:
        return subprocess.Popen(
            [*command, str(script), *arguments], stdout=sink, stderr=sink, env=environment, cwd=ROOT
        )


def finished(arguments: list[str], file: str | None, log: Path, script: Path = SHARDING) -> None:
    """Train to the end."""
    process = start(arguments, file, log, script)
    assert process.wait(PATIENCE) == 0, log.read_text()[-4000:]


def killed_at(arguments: list[str], file: str, step: int, run: Path, log: Path, *, counter: str = "step") -> None:
    """Train until that step (or what the log counts) is logged, and kill the launcher and what it launched."""
    process = start(arguments, file, log, SHARDING)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if max((entry[counter] for entry in entries(run)), default=0) >= step:
            launcher = psutil.Process(process.pid)
            launched = launcher.children(recursive=True)  # each in a session of its own
            for each in (launcher, *launched):
                each.kill()
            psutil.wait_procs(launched)
        time.sleep(0.01)
    assert process.wait(PATIENCE) == -signal.SIGKILL, log.read_text()[-4000:]
