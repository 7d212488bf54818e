"""Stage locks: one holder, told by name, freed by death."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sdg_data.errors import ExitCode, StoreLocked
from sdg_data.locks import Holder, holder, stage_lock

HOLD = """
import pathlib, sys
from sdg_data.locks import stage_lock
with stage_lock(pathlib.Path(sys.argv[1]), "generate"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_holder(home: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", HOLD, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_free_lock_has_no_holder_and_a_held_one_names_it(home: Path) -> None:
    assert holder(home, "generate") is None
    with stage_lock(home, "generate"):
        held = holder(home, "generate")
        assert held is not None
        assert held.pid == os.getpid()
    assert holder(home, "generate") is None


def test_who_does_not_wait_is_told_who_holds_it(home: Path) -> None:
    with another_holder(home) as process:
        with (
            pytest.raises(StoreLocked, match=f"process {process.pid} ") as caught,
            stage_lock(home, "generate", wait=0),
        ):
            pass
        assert caught.value.exit_code == ExitCode.LOCKED
        with stage_lock(home, "other", wait=0):
            pass  # another stage is another lock


def test_who_waits_gets_it_when_the_holder_ends(home: Path) -> None:
    waited_for: list[Holder | None] = []
    with another_holder(home) as process:
        assert process.stdin is not None

        def on_wait(who: Holder | None) -> None:
            waited_for.append(who)
            process.stdin.close()  # type: ignore[union-attr]  # now the holder ends

        with stage_lock(home, "generate", on_wait=on_wait):
            held = holder(home, "generate")
            assert held is not None
            assert held.pid == os.getpid()
    assert [who.pid for who in waited_for if who] == [process.pid]


def test_sigkill_frees_the_lock(home: Path) -> None:
    with another_holder(home) as process:
        process.kill()
        process.wait()
        assert holder(home, "generate") is None
        with stage_lock(home, "generate", wait=0):
            pass


def test_an_error_inside_frees_the_lock(home: Path) -> None:
    with pytest.raises(KeyError), stage_lock(home, "generate"):
        raise KeyError
    with stage_lock(home, "generate", wait=0):
        pass
