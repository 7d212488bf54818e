"""Actors of a Ray that is started on this machine. Skipped where the `ray` extra is not installed."""

import io
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import psutil
import pytest

from sdg_data.errors import WorkerError
from sdg_data.progress import Progress
from sdg_data.workers.executor import WorkersExecutor
from sdg_data.workers.messages import Event
from sdg_data.workers.ray_pool import RayOptions, RayPool
from tests.sdg_data.workers.numbers import Numbers

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


class Watched(RayPool):
    """Kills the process that talks to Ray once, after so many events; keeps what the events were."""

    def __init__(self, log_file: Path, *, kill_after: int | None = None) -> None:
        super().__init__(RayOptions("", 2), log_file)
        self.seen: list[Event] = []
        self._kill_after = kill_after

    def events(self, timeout: float) -> list[Event]:
        events = super().events(timeout)
        self.seen += events
        if self._kill_after is not None and len(self.seen) >= self._kill_after:
            self._kill_after = None
            assert self._bridge is not None
            psutil.Process(self._bridge.pid).send_signal(signal.SIGKILL)
        return events

    def named(self, kind: str) -> Sequence[Any]:
        return [event for event in self.seen if type(event).__name__ == kind]


def execute(stage: Numbers, pool: RayPool) -> int:
    return WorkersExecutor(lambda: pool).execute(stage, progress=Progress("numbers", stream=io.StringIO()))


def test_an_actor_that_is_killed_and_then_ray_itself_lose_nothing(tmp_path: Path) -> None:
    (tmp_path / "7").touch()  # the actor that is given number 7 is killed, once
    stage, pool = Numbers(200, slips=str(tmp_path)), Watched(tmp_path / "log", kill_after=12)
    assert execute(stage, pool) == 200
    assert stage.rows == {number: number * number for number in range(200)}
    assert not stage.twice
    (died,) = pool.named("Died")
    assert died.code == "worker-died"
    lost = pool.named("PoolLost")  # more than once where Ray takes longer to start than it waits for itself
    assert lost
    assert "the connection to the Ray cluster has ended" in lost[-1].reason


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_connect_timeout_s", "1")
    monkeypatch.setenv("RAY_num_gcs_rpc_connect_retries", "1")
    pool = RayPool(RayOptions("127.0.0.1:1", 2), tmp_path / "log")
    with pytest.raises(WorkerError, match=r"cannot use the Ray cluster 127\.0\.0\.1:1"):
        execute(Numbers(3), pool)


def test_what_listens_and_is_no_ray_is_said() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        ours, theirs = Pipe()
        code = (
            "from multiprocessing.connection import Connection\n"
            "from sdg_data.workers.ray_bridge import Bridge\n"
            "from sdg_data.workers.ray_pool import RayOptions\n"
            f"Bridge(Connection({theirs.fileno()}), RayOptions({address!r}, 1), b'', patience=5.0).connect()"
        )
        bridge = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
        theirs.close()
        error = ours.recv()
        assert bridge.wait() == 1
    assert isinstance(error, WorkerError)
    assert error.message == (
        f"cannot use the Ray cluster {address} (what listens there has not let this machine in for 5 s)"
    )
