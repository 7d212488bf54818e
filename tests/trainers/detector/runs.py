"""Runs `sdg` as a process of its own, so that it can be killed, or started as several that train together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE = 300.0
_MAIN = "import sys; from sdg_data.cli import main; main()"


def start(arguments: list[str], *, processes: int = 1, log: Path) -> "subprocess.Popen[bytes]":
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    if processes == 1:
        command = [sys.executable, "-c", _MAIN, *arguments]
    else:
        script = log.with_suffix(".py")
        script.write_text(_MAIN)
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *torchrun, str(script), *arguments]
    with log.open("ab") as sink:
        return subprocess.Popen(command, stdout=sink, stderr=sink, env=environ, cwd=Path(__file__).parents[3])


def finished(arguments: list[str], *, processes: int = 1, log: Path) -> None:
    process = start(arguments, processes=processes, log=log)
    assert process.wait(PATIENCE) == 0, log.read_text()[-3000:]


def killed_at(arguments: list[str], step: int, run: Path, *, log: Path) -> int:
    """Kill it once that step is logged; returns the last step that was."""
    process = start(arguments, log=log)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if max((entry["step"] for entry in entries(run)), default=0) >= step:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.01)
    assert process.wait(PATIENCE) == -signal.SIGKILL, log.read_text()[-3000:]
    return max(entry["step"] for entry in entries(run))


def entries(run: Path) -> list[dict[str, Any]]:
    """What the run has logged, whole lines only."""
    path = run / "log.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def curve(run: Path, name: str = "loss") -> dict[int, float]:
    """step -> value; a step that was logged twice would show."""
    found = [(entry["step"], entry[name]) for entry in entries(run) if name in entry]
    assert len(found) == len(dict(found))
    return dict(found)
