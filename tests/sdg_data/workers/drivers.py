"""A command on machine 1 of `namespaces` that makes what is missing, and what is killed under it."""

import itertools
import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sdg_data.blobs import Blobs
from sdg_data.locks import note_path
from sdg_data.progress import read_note
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from tests.sdg_data.workers.namespaces import Machines, kill, until


def turns(kills: int) -> list[str]:
    """What is killed, one after the other: three workers to a raylet and a driver."""
    return list(itertools.islice(itertools.cycle(("worker", "worker", "raylet", "worker", "driver")), kills))


class Driver:
    """A command that computes one stage of a home, started again where it was killed."""

    def __init__(self, machines: Machines, command: list[str], home: Path, stage: str, log: Path) -> None:
        self.machines, self.home, self.stage, self.log = machines, home, stage, log
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the command."""
        with self.log.open("ab") as output:
            self._process = self.machines.run(1, self._command, stdout=output, stderr=output)

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def done(self) -> int:
        """How many items this start of the command has made."""
        note = read_note(note_path(self.home, self.stage))
        return 0 if note is None else note.done

    def more(self, items: int) -> bool:
        """Wait until so many more items are made; whether the command goes on."""
        goal = self.done() + items
        until(lambda: self.ended or self.done() >= goal, f"{items} items are made ({self.log})", 600.0)
        return not self.ended

    def kill(self) -> None:
        """Kill the command, and start it again."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        note_path(self.home, self.stage).unlink(missing_ok=True)  # the next one counts from 0
        self.start()

    def finish(self, *codes: int, seconds: float = 3600.0) -> str:
        """Wait for the end, with one of these exit codes (0 where none is given); returns what was said.

        Raises:
            AssertionError: It ended with another exit code, or with a traceback.
        """
        until(lambda: self.ended, f"the driver ends ({self.log})", seconds)
        assert self._process is not None
        said = self.log.read_text(encoding="utf-8")
        assert self._process.returncode in (codes or (0,)), said
        assert "Traceback" not in said
        return said


def kill_in_turns(
    machines: Machines, driver: Driver, turns: Iterable[str], chance: random.Random, *, apart: int
) -> Counter[str]:
    """Kill a worker, a raylet or the driver after every `apart` items, as `turns` says.

    Returns:
        How many of each were killed: fewer than there are turns where the driver ended before.
    """
    killed: Counter[str] = Counter()
    for what in turns:
        if not driver.more(apart):
            break
        if what == "worker":
            until(lambda: driver.ended or bool(machines.workers()), "a worker is there")
            for worker in chance.sample(machines.workers(), 1):
                kill(worker)
        elif what == "raylet":
            machine = chance.choice([2, 3])
            machines.kill_node(machine)
            machines.start_node(machine)
        else:
            driver.kill()
        killed[what] += 1
    return killed


def digest(home: Path, blobs: str, machines: Machines | None = None) -> str:
    """The digest of a home whose blobs may be in the object store of the machines."""
    with _environment({} if machines is None else machines.environment):
        return store_digest(Store(home), Blobs(blobs))


@contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
