"""Processes that outlive the command that started them: a server of a home, found again by its id and start."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from schemas.base import Record
from sdg_data.errors import SdgError

HOST = "127.0.0.1"
STOP_SECONDS = 20.0
PORT_SECONDS = 5.0


class StillRunning(SdgError):
    """A process does not end."""


class Running(Record):
    """A process that was started: its id, and when it started, which tells a reused id apart; and its port."""

    pid: int
    started: int
    port: int


def noted(state: Path, pid: int, port: int) -> None:
    """Write down a process that was just started; nothing is written where it has ended already."""
    started = _start_time(pid)
    if started is not None:
        state.touch(mode=0o600)
        state.write_text(Running(pid=pid, started=started, port=port).model_dump_json(), encoding="utf-8")


def running(state: Path) -> Running | None:
    """The process that was written down, None where it does not run."""
    try:
        value = Running.model_validate_json(state.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
    return value if _start_time(value.pid) == value.started else None


def wait_until(
    answers: Callable[[], bool], ended: Callable[[], bool], error: Callable[[bool], SdgError], *, timeout: float
) -> None:
    """Wait until a server that was started answers.

    Args:
        answers: Whether it does.
        ended: Whether its process has ended.
        error: What to raise where it does not, given whether its process has ended.
        timeout: Seconds to wait.

    Raises:
        SdgError: What `error` made.
    """
    deadline = time.monotonic() + timeout
    while not answers():
        has_ended = ended()
        if has_ended or time.monotonic() > deadline:
            raise error(has_ended)
        time.sleep(0.2)


def stop(state: Path, *, kill: bool = False) -> bool:
    """End the process and its group, at once with `kill`; returns whether it ran.

    Raises:
        StillRunning: The process does not end.
    """
    process = running(state)
    if process is None:
        return False
    deadline = time.monotonic() + STOP_SECONDS
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
    while running(state) is not None:
        if time.monotonic() > deadline:
            if kill:
                raise StillRunning("the process does not end", item=str(process.pid))
            return stop(state, kill=True)
        with contextlib.suppress(ChildProcessError):  # a child that has ended stays a zombie until it is collected
            os.waitpid(process.pid, os.WNOHANG)
        time.sleep(0.05)
    state.unlink(missing_ok=True)
    return True


def log_tail(log: Path, lines: int = 5) -> str:
    """The last lines of a process's log, indented as a hint."""
    try:
        return "\n  ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def port_free(port: int) -> bool:
    """Whether the port is free, now or within seconds: the kernel frees the port of a killed server after a moment."""
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def _start_time(pid: int) -> int | None:
    """When a process started, in the kernel's ticks since boot; None where there is none, or it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
