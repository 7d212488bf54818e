"""Runs `sdg` in this process, many sources to a store, and reads what came of each.

A store is opened and closed for each transaction, which costs as much as the rest of a small import. So the connection
to a store is kept open between commands here (`kept_open`), and closed before the store is looked at as a whole.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from sdg_data import cli
from sdg_data.store import engine

SECONDS = 20
"""A command that keeps a processor busy for longer hangs. The clock would say more of the machine's other work."""
WAITED = 1200
"""Nor may it wait for so long, by the clock."""


class Hang(BaseException):
    """One of the alarms went off."""


@dataclass(frozen=True)
class Outcome:
    """What a command did. `raised` is the traceback of what nobody caught."""

    arguments: list[str]
    code: int
    stdout: str
    stderr: str
    raised: str | None
    report: Any = None

    @property
    def source(self) -> dict[str, Any] | None:
        """The report's only source."""
        sources = [] if self.report is None else self.report["sources"]
        return sources[0] if sources else None


def sdg(home: Path, arguments: list[str], *, report: Path | None = None) -> Outcome:
    """Run one command line."""
    line = ["--home", str(home), *arguments, *(["--report", str(report)] if report else [])]
    out, err = io.StringIO(), io.StringIO()
    code, raised = -1, None
    signal.signal(signal.SIGALRM, _alarm)
    signal.signal(signal.SIGPROF, _alarm)
    with _native_words() as words:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAITED)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.run(line)
        except BaseException:  # noqa: BLE001 (whatever it is, it is what is looked for: a panic of Rust is no Exception)
            raised = traceback.format_exc()
        finally:
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
    if raised is None and any("panicked" in word for word in words):
        raised = "".join(words)[:2000]
    content = None
    if report is not None and report.exists():
        content = json.loads(report.read_text())
        report.unlink()
    return Outcome(line, code, out.getvalue(), err.getvalue(), raised, content)


def peak_megabytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@contextlib.contextmanager
def _native_words() -> Iterator[list[str]]:
    """Collects what libraries write to the process's own stderr, past Python's."""
    words: list[str] = []
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield words
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            words += file.read().decode("utf-8", "replace").splitlines(keepends=True)


class Homes:
    """Makes homes quickly: copies of one with an empty store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._template = folder / "template"
        text = folder / "first.txt"
        text.write_text("the first prompt\n")
        first = sdg(self._template, ["prompts", "import", str(text)])
        if first.code != 0:
            raise RuntimeError(first.raised or first.stderr)
        self._number = 0

    def make(self) -> Path:
        """A home with a store of one prompt."""
        self._number += 1
        home = self._folder / f"home-{self._number}"
        shutil.copytree(self._template, home)
        return home


@contextlib.contextmanager
def built_once() -> Iterator[None]:
    """Within, each command's parser is built once; in a process of its own it is built for its only call."""
    load, group = cli.Lazy.load, cli.get_group
    cli.Lazy.load = cache(load)  # type: ignore[method-assign]
    cli.get_group = cache(group)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        cli.Lazy.load = load  # type: ignore[method-assign]
        cli.get_group = group  # type: ignore[attr-defined]


@contextlib.contextmanager
def kept_open(home: Path) -> Iterator[None]:
    """Within, connections to the store of `home` are one that stays open."""
    path = home / "store.duckdb"
    real = engine.attached

    with contextlib.ExitStack() as kept:
        open_connections: list[duckdb.DuckDBPyConnection] = []

        @contextlib.contextmanager
        def attached(file: Path, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
            if file != path:
                with real(file, read_only=read_only) as connection:
                    yield connection
                return
            if not open_connections:
                open_connections.append(kept.enter_context(real(file, read_only=False)))
            yield open_connections[0]

        engine.attached = attached
        try:
            yield
        finally:
            engine.attached = real


def _alarm(*_: object) -> None:
    raise Hang(f"busy for more than {SECONDS} s, or waiting for more than {WAITED}")
