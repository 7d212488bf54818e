"""Stages: every batch once, commits behind, errors and Ctrl-C without loss, and SIGKILL at any point."""

import io
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sdg_data.blobs import Blobs
from sdg_data.errors import ExitCode, Interrupted
from sdg_data.progress import Progress
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from sdg_data.work import LocalExecutor, Plan

TOY = Path(__file__).parent / "toy_stage.py"


class Squares:
    """Squares numbers; keeps what was committed, and in which portions."""

    name = "squares"

    def __init__(self, total: int = 10, size: int = 2) -> None:
        self.total, self.size = total, size
        self.planned = 0
        self.portions: list[list[int]] = []

    def plan(self) -> Plan[int]:
        return Plan(self.total, self._batches())

    def _batches(self) -> Iterator[list[int]]:
        for start in range(0, self.total, self.size):
            self.planned += 1
            yield list(range(start, min(start + self.size, self.total)))

    def run(self, batch: Sequence[int]) -> list[int]:
        return [number * number for number in batch]

    def persist(self, results: Sequence[int]) -> list[int]:
        return [result + 1 for result in results]

    def commit(self, results: Sequence[int]) -> None:
        self.portions.append(list(results))

    @property
    def committed(self) -> list[int]:
        return [result for portion in self.portions for result in portion]


def quiet() -> Progress:
    return Progress("test", stream=io.StringIO())


def test_every_batch_is_computed_persisted_and_committed_once_in_order() -> None:
    stage = Squares(total=11)
    assert LocalExecutor().execute(stage, progress=quiet()) == 11
    assert stage.committed == [number * number + 1 for number in range(11)]


def test_nothing_to_do_commits_nothing() -> None:
    stage = Squares(total=0)
    assert LocalExecutor().execute(stage, progress=quiet()) == 0
    assert stage.portions == []


def test_batches_finished_during_a_commit_go_into_the_next_one_together() -> None:
    class Slow(Squares):
        def __init__(self) -> None:
            super().__init__(total=6, size=1)
            self.first_commit = threading.Event()
            self.computed = 0

        def run(self, batch: Sequence[int]) -> list[int]:
            self.computed += 1
            if self.computed == 2:
                assert self.first_commit.wait(30)
            if self.computed == 5:
                self.go_on.set()
            return super().run(batch)

        go_on = threading.Event()

        def commit(self, results: Sequence[int]) -> None:
            if not self.portions:
                self.first_commit.set()
                assert self.go_on.wait(30)
            super().commit(results)

    stage = Slow()
    LocalExecutor().execute(stage, progress=quiet())
    assert stage.committed == [number * number + 1 for number in range(6)]
    assert stage.portions[0] == [1]
    assert len(stage.portions) < 6


def test_an_error_in_the_computation_keeps_what_was_finished_before() -> None:
    class Breaks(Squares):
        def run(self, batch: Sequence[int]) -> list[int]:
            if batch[0] == 4:
                raise ArithmeticError("four")
            return super().run(batch)

    stage = Breaks()
    with pytest.raises(ArithmeticError, match="four"):
        LocalExecutor().execute(stage, progress=quiet())
    assert stage.committed == [1, 2, 5, 10]


@pytest.mark.parametrize("where", ["persist", "commit"])
def test_an_error_while_committing_stops_the_run_and_is_raised(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Squares(total=1000, size=1)

    def fail(results: Sequence[int]) -> list[int]:
        raise OSError("disk full")

    monkeypatch.setattr(stage, where, fail)
    with pytest.raises(OSError, match="disk full"):
        LocalExecutor().execute(stage, progress=quiet())
    assert stage.planned < 1000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_at_the_end_of_the_batch_and_loses_nothing(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(number)

    class Pressed(Squares):
        def run(self, batch: Sequence[int]) -> list[int]:
            if batch[0] == 4:
                os.kill(os.getpid(), number)
            return super().run(batch)

    stage = Pressed()
    with pytest.raises(Interrupted, match="6 of 10 done") as caught:
        LocalExecutor().execute(stage, progress=quiet())
    assert caught.value.exit_code == ExitCode.INTERRUPTED
    assert "Ctrl-C once more stops at once" in caplog.text
    assert stage.committed == [number * number + 1 for number in range(6)]
    assert signal.getsignal(number) is before


def test_an_interrupt_during_the_last_batch_is_a_finished_run() -> None:
    class Pressed(Squares):
        def run(self, batch: Sequence[int]) -> list[int]:
            if batch[0] == 8:
                os.kill(os.getpid(), signal.SIGINT)
            return super().run(batch)

    assert LocalExecutor().execute(Pressed(), progress=quiet()) == 10


def test_a_second_interrupt_stops_at_once() -> None:
    class Pressed(Squares):
        def run(self, batch: Sequence[int]) -> list[int]:
            if batch[0] == 4:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                raise AssertionError("it went on")
            return super().run(batch)

    stage = Pressed()
    with pytest.raises(KeyboardInterrupt):
        LocalExecutor().execute(stage, progress=quiet())
    assert stage.committed == [1, 2, 5, 10]


# --- SIGKILL


def run_toy(home: Path, kill_at: int | None = None) -> int | None:
    """The number of events, or None if it was killed."""
    command = [sys.executable, str(TOY), str(home), *([] if kill_at is None else [str(kill_at)])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode == -signal.SIGKILL:
        return None
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


def filled(home: Path) -> Path:
    # By a process of its own, like the toy, so that this one never has the store open beside it.
    subprocess.run([sys.executable, str(TOY), "--fill", str(home)], check=True)
    return home


def digest(home: Path) -> str:
    return store_digest(Store(home), Blobs(home / "blobs"))


def check_kills(tmp_path: Path, kills: int, seed: int) -> None:
    whole = filled(tmp_path / "whole")
    events = run_toy(whole)
    assert events is not None
    with Store(whole).read() as tx:
        assert tx.execute("SELECT count(*) FROM images").fetchall() == [(36,)]

    broken = filled(tmp_path / "broken")
    draw = random.Random(seed)
    for _ in range(kills):
        # Early in what is left to do, so that many kills fit into one run; past its end it just finishes.
        run_toy(broken, kill_at=draw.randint(1, max(2, events // 6)))
    assert run_toy(broken) is not None
    assert digest(broken) == digest(whole)
    with Store(broken).read() as tx:
        rows = tx.execute("SELECT count(*), count(DISTINCT id), count(DISTINCT blob) FROM images").fetchall()
    assert rows == [(36, 36, len(list(Blobs(broken / "blobs").iterate())))]
    assert list((broken / "blobs" / ".tmp").iterdir()) == []
    assert sorted(path.name for path in broken.iterdir()) == sorted(path.name for path in whole.iterdir())


@pytest.mark.slow
def test_killed_at_a_few_points_and_resumed_it_ends_in_the_same_state(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=4, seed=1)


@pytest.mark.slow
def test_killed_at_many_points_and_resumed_it_ends_in_the_same_state(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=20, seed=100)
