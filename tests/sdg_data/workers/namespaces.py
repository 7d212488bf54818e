"""Three machines and an object store, as network namespaces of this one: own addresses, one bridge between them.

Needs root and `ip`; everything is named after this process, and removed at the end.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

PORT = 6379
S3 = 9
BUCKET = "blobs"
_NODE_TRIES = 5


def possible() -> bool:
    """Whether this process may make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"sdgtry{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "delete", name], check=True)
    return made


class Machines:
    """Machines 1, 2 and 3 with a Ray node each, 1 its head, and a machine with the object store."""

    def __init__(self, folder: Path, *, cpus: int = 2) -> None:
        self.folder, self.cpus = folder, cpus
        self._tag = f"{os.getpid() % 100000}"
        self._subnet = f"10.{64 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
        self._bridge = f"sdgb{self._tag}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._sockets = Path(tempfile.mkdtemp(prefix="ray-"))  # a socket's path may have 107 bytes, and Ray adds 66

    def address(self, machine: int) -> str:
        """The address of a machine."""
        return f"{self._subnet}.{machine}"

    @property
    def head(self) -> str:
        """Where Ray's head is."""
        return f"{self.address(1)}:{PORT}"

    @property
    def environment(self) -> dict[str, str]:
        """What every process gets."""
        return os.environ | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "AWS_ENDPOINT_URL": f"http://{self.address(S3)}:5000",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "RAY_AUTH_MODE": "disabled",
            "OMP_NUM_THREADS": "1",
        }

    def __enter__(self) -> "Machines":
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("address", "add", f"{self.address(254)}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for machine in (1, 2, 3, S3):
                self._plug(machine)
            self._start_object_store()
            self.start_node(1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for machine in (1, 2, 3, S3):
            for pid in _pids(self._name(machine)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", self._name(machine)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True, check=False)
        for process in self._processes.values():
            process.wait()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def start_node(self, machine: int) -> None:
        """Have a machine join the cluster; the first one starts it.

        Raises:
            TimeoutError: It does not, as often as it is tried: Ray waits no longer than 30 s for itself.
        """
        where = (
            ["--head", f"--port={PORT}", "--include-dashboard=false"] if machine == 1 else [f"--address={self.head}"]
        )
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "start", *where, f"--node-ip-address={self.address(machine)}", f"--num-cpus={self.cpus}"]
        more = ["--disable-usage-stats", "--object-store-memory=80000000", f"--temp-dir={self._sockets}"]
        arguments = [*command, *(more if machine == 1 else more[:2]), "--block"]
        for _ in range(_NODE_TRIES):
            log = self.folder / f"node-{machine}-{len(self._processes)}.log"
            with log.open("ab") as output:
                process = self.run(machine, arguments, stdout=output, stderr=output)
            self._processes[f"node {machine} {len(self._processes)}"] = process
            until(lambda: b"runtime started" in log.read_bytes() or process.poll() is not None, "it is up or not")  # noqa: B023
            if process.poll() is None:
                return
        raise TimeoutError(f"node {machine} does not come up ({log})")

    def kill_node(self, machine: int) -> None:
        """Kill the raylet of a machine."""
        for pid in _pids(self._name(machine)):
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if "raylet" in psutil.Process(pid).name():
                    os.kill(pid, signal.SIGKILL)

    def workers(self) -> list[psutil.Process]:
        """The processes that compute, on all machines."""
        return [process for machine in (1, 2, 3) for process in self.at(machine)]

    def at(self, machine: int) -> list[psutil.Process]:
        """The processes that compute, on one machine."""
        found = []
        for pid in _pids(self._name(machine)):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if "ray::Actor" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def run(self, machine: int, command: list[str], **more: Any) -> subprocess.Popen[bytes]:
        """Start a command on a machine."""
        inside = ["ip", "netns", "exec", self._name(machine), *command]
        return subprocess.Popen(inside, env=self.environment, start_new_session=True, **more)

    @contextlib.contextmanager
    def unplugged(self, machine: int) -> Iterator[None]:
        """A machine whose network cable is out."""
        _ip("link", "set", f"sdgv{self._tag}{machine}", "down")
        try:
            yield
        finally:
            _ip("link", "set", f"sdgv{self._tag}{machine}", "up")

    def _name(self, machine: int) -> str:
        return f"sdg{self._tag}n{machine}"

    def _plug(self, machine: int) -> None:
        name, outer, inner = self._name(machine), f"sdgv{self._tag}{machine}", f"sdgw{self._tag}{machine}"
        _ip("netns", "add", name)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", inner, "netns", name)
        _ip("link", "set", outer, "master", self._bridge, "up")
        _ip("-n", name, "address", "add", f"{self.address(machine)}/24", "dev", inner)
        _ip("-n", name, "link", "set", inner, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "route", "add", "default", "via", self.address(254))

    def _start_object_store(self) -> None:
        with (self.folder / "s3.log").open("ab") as output:
            self._processes["s3"] = self.run(
                S3, [sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", "5000"], stdout=output, stderr=output
            )
        url = f"http://{self.address(S3)}:5000/{BUCKET}"
        until(lambda: _made(url), "the object store answers")


def until(condition: Callable[[], bool], what: str, seconds: float = 240.0) -> None:
    """Wait for something.

    Raises:
        TimeoutError: It does not come.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it is not so that {what}")
        time.sleep(0.2)


def _made(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def _pids(namespace: str) -> list[int]:
    found = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
