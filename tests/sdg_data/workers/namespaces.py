"""Machines as network namespaces of this one: own addresses, one bridge between them; three with Ray, one with S3.

Needs root and `ip`; everything is named after this process, and removed at the end.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

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


class Network:
    """Machines with addresses of their own, and what runs on them."""

    def __init__(self, folder: Path, machines: Sequence[int]) -> None:
        """`folder`: receives log files. `machines`: their numbers, which are the last part of their addresses."""
        self.folder, self.machines = folder, machines
        self._tag = f"{os.getpid() % 100000}"
        self._subnet = f"10.{64 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
        self._bridge = f"sdgb{self._tag}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def address(self, machine: int) -> str:
        """The address of a machine."""
        return f"{self._subnet}.{machine}"

    @property
    def environment(self) -> dict[str, str]:
        """What every process gets."""
        return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}

    def __enter__(self) -> Self:
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("address", "add", f"{self.address(254)}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for machine in self.machines:
                self._plug(machine)
            self.begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def begin(self) -> None:
        """Start what runs on the machines from the beginning: nothing."""

    def __exit__(self, *_: object) -> None:
        for machine in self.machines:
            for process in self.processes(machine):
                kill(process)
            subprocess.run(["ip", "netns", "delete", self._name(machine)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True, check=False)
        for process in self._processes:
            process.wait()

    def interface(self, machine: int) -> str:
        """The name of a machine's network card."""
        return f"sdgw{self._tag}{machine}"

    def run(
        self, machine: int, command: list[str], environment: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[bytes]:
        """Start a command on a machine. `environment`: what it gets beside what all get."""
        inside = ["ip", "netns", "exec", self._name(machine), *command]
        process = subprocess.Popen(inside, env=self.environment | (environment or {}), start_new_session=True, **more)
        self._processes.append(process)
        return process

    def processes(self, machine: int, word: str = "") -> list[psutil.Process]:
        """The processes of a machine, those whose command line has a word."""
        found = []
        pids = subprocess.run(["ip", "netns", "pids", self._name(machine)], capture_output=True, text=True, check=False)
        for pid in pids.stdout.split():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(int(pid))
                if word in " ".join(process.cmdline()):
                    found.append(process)
        return found

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
        name, outer, inner = self._name(machine), f"sdgv{self._tag}{machine}", self.interface(machine)
        _ip("netns", "add", name)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", inner, "netns", name)
        _ip("link", "set", outer, "master", self._bridge, "up")
        _ip("-n", name, "address", "add", f"{self.address(machine)}/24", "dev", inner)
        _ip("-n", name, "link", "set", inner, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "route", "add", "default", "via", self.address(254))


class Machines(Network):
    """Machines 1, 2 and 3 with a Ray node each, 1 its head, and a machine with the object store."""

    def __init__(self, folder: Path, *, cpus: int = 2) -> None:
        super().__init__(folder, (1, 2, 3, S3))
        self.cpus = cpus
        self._sockets = Path(tempfile.mkdtemp(prefix="ray-"))  # a socket's path may have 107 bytes, and Ray adds 66

    @property
    def head(self) -> str:
        """Where Ray's head is."""
        return f"{self.address(1)}:{PORT}"

    @property
    def environment(self) -> dict[str, str]:
        """What every process gets."""
        return super().environment | {
            "AWS_ENDPOINT_URL": f"http://{self.address(S3)}:5000",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "RAY_AUTH_MODE": "disabled",
        }

    def begin(self) -> None:
        """Start the object store and Ray's head."""
        self._start_object_store()
        self.start_node(1)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def start_node(self, machine: int, memory: "Memory | None" = None) -> None:
        """Have a machine join the cluster; the first one starts it. `memory`: what it believes to have.

        Raises:
            TimeoutError: It does not, as often as it is tried: Ray waits no longer than 30 s for itself.
        """
        where = [f"--address={self.head}"]
        if machine == 1:
            where = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self._sockets}"]
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "start", *where, f"--node-ip-address={self.address(machine)}", f"--num-cpus={self.cpus}"]
        arguments = [*command, "--disable-usage-stats", "--object-store-memory=80000000", "--block"]
        if memory is not None:
            arguments = ["sh", "-c", f'mount --bind {memory.groups} /sys/fs/cgroup && exec "$@"', "sh", *arguments]
        for _ in range(_NODE_TRIES):
            log = self.folder / f"node-{machine}-{len(self._processes)}.log"
            with log.open("ab") as output:
                process = self.run(machine, arguments, stdout=output, stderr=output)
            until(lambda: b"runtime started" in log.read_bytes() or process.poll() is not None, "it is up or not")  # noqa: B023
            if process.poll() is None:
                return
        raise TimeoutError(f"node {machine} does not come up ({log})")

    def kill_node(self, machine: int) -> None:
        """Kill the raylet of a machine."""
        for process in self.processes(machine, "raylet/raylet"):
            kill(process)

    def kill_head(self) -> None:
        """Kill what makes machine 1 the head."""
        for process in self.processes(1, "gcs/gcs_server"):
            kill(process)

    def stop_node(self, machine: int) -> None:
        """Kill everything on a machine."""
        while processes := self.processes(machine):
            for process in processes:
                kill(process)

    def workers(self) -> list[psutil.Process]:
        """The processes that compute, on all machines."""
        return [process for machine in (1, 2, 3) for process in self.at(machine)]

    def at(self, machine: int) -> list[psutil.Process]:
        """The processes that compute, on one machine."""
        return self.processes(machine, "ray::Actor")

    def _start_object_store(self) -> None:
        server = [sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", "5000"]
        with (self.folder / "s3.log").open("ab") as output:
            self.run(S3, server, stdout=output, stderr=output)
        url = f"http://{self.address(S3)}:5000/{BUCKET}"
        until(lambda: _made(url), "the object store answers")


class Memory:
    """What a machine's control group says of its memory: Ray kills workers when it is nearly full."""

    def __init__(self, groups: Path) -> None:
        """`groups`: stands for the folder of control groups, of the first version."""
        self.groups, self.limit = groups, psutil.virtual_memory().total * 9 // 10
        (groups / "memory").mkdir(parents=True)
        self._write("memory.limit_in_bytes", str(self.limit))
        self.use(0.1)

    def use(self, share: float) -> None:
        """Let so much of it be used."""
        used = int(self.limit * share)
        figures = {name: 0 for kind in ("cache", "inactive_file", "active_file") for name in (kind, f"total_{kind}")}
        self._write(
            "memory.stat",
            "\n".join(f"{name} {value}" for name, value in ({"rss": used, "total_rss": used} | figures).items()),
        )
        self._write("memory.usage_in_bytes", str(used))

    def _write(self, name: str, text: str) -> None:
        (self.groups / "memory" / name).write_text(f"{text}\n", encoding="ascii")


def kill(process: psutil.Process) -> None:
    """Kill a process, if it is still there."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


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


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
