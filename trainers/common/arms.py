"""Running an experiment with several arms: each step of an arm is a process of its own, some of them at a time.

An arm is a name; what its next step is follows from the files that are there, so an experiment that was killed goes on
where it stopped. Each process has one thread, and its output is added to the arm's log.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sdg_data.progress import duration
from trainers.files import replace_file

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.2


class ArmStep(NamedTuple):
    """A step of an arm: what it is, and the arguments of the Python interpreter that does it."""

    title: str
    arguments: list[str]


def run_arms(names: Sequence[str], next_step: Callable[[str], ArmStep | None], logs: Path, *, workers: int) -> set[str]:
    """Do every step that is not done yet.

    Args:
        names: the arms; earlier ones first.
        next_step: an arm's next step by what is there now; None where nothing is left, or it waits for another arm.
        logs: folder that receives `NAME.log`.
        workers: processes at a time.

    Returns:
        The arms that failed: a process ended with an error, or its step is still the next one. They are not tried
        again before the next call.
    """
    logs.mkdir(parents=True, exist_ok=True)
    running: dict[str, tuple[str, subprocess.Popen[bytes]]] = {}
    failed: set[str] = set()
    started = time.monotonic()
    left = {name for name in names if next_step(name) is not None}
    total = len(left)
    log.info("%d of %d are done or wait for another", len(names) - total, len(names))
    try:
        while True:
            for name in names:
                step = None
                if len(running) < workers and name not in running and name not in failed:
                    step = next_step(name)
                if step is not None:
                    log.info(step.title)
                    running[name] = step.title, _start(step.arguments, logs / f"{name}.log")
            if not running:
                return failed
            time.sleep(_POLL_SECONDS)
            for name in [name for name, (_, process) in running.items() if process.poll() is not None]:
                title, process = running.pop(name)
                following = next_step(name)
                if process.returncode or (following is not None and following.title == title):
                    failed.add(name)
                    log.error("%s failed (%d), see %s", title, process.returncode, logs / f"{name}.log")
                else:
                    log.info("%s: done", title)
                if name in left and (following is None or name in failed):
                    left.remove(name)
                    rest = duration((time.monotonic() - started) / (total - len(left)) * len(left))
                    log.info("%d/%d, %s left", total - len(left), total, rest)
    finally:
        for _, process in running.values():
            process.terminate()


def stop_children_on_sigterm() -> None:
    """Turn SIGTERM into an orderly exit (143), so that `run_arms` ends its processes when it is ended from outside."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def write_report(
    summary: Mapping[str, Any], facts: Mapping[str, Any], json_file: Path, pages: Iterable[tuple[Path, str]]
) -> None:
    """Write an experiment's summary with its facts as JSON, and its texts (table, figure) into their files."""
    text = json.dumps({"facts": dict(facts), **summary}, indent=2) + "\n"
    for path, content in ((json_file, text), *pages):
        replace_file(path, content, parents=True)


def _start(arguments: Sequence[str], path: Path) -> subprocess.Popen[bytes]:
    with path.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
