"""What every command shares: its settings, options that several commands have, how a stage is run, and output.

Data goes to stdout (`print_json`, `print_table`), everything else to stderr (`say`). Nothing here imports more than
typer when it is imported, because every command imports this module and `sdg --help` has to answer at once.
"""

import contextlib
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from schemas.records import Split
    from sdg_data.settings import Settings
    from sdg_data.work import Executor, PortableStage

_FIGURE = re.compile(r"[-+–<>≥≤~$€]?[\d.,:/%×e–+ -]*[\d%]?( [a-zA-Z%]{1,3})?")
"""What is read as one figure, also where it is text: "0.72–0.93", "12/40", "3.1 s", or nothing."""
_TEXT_COLUMN = 12
"""Characters that a column of text has at the least."""


@dataclass(frozen=True)
class Globals:
    """The options that stand in front of the command: `--home` and `--config`."""

    home: Path | None = None
    config: Path | None = None


def settings_of(ctx: typer.Context) -> "Settings":
    """The settings of this call: options, then environment, then the profile.

    Raises:
        ConfigError: The profile or a value in it is wrong; the message names the file and the key.
    """
    from sdg_data.settings import load_settings

    given = ctx.obj if isinstance(ctx.obj, Globals) else Globals()
    return load_settings(home=given.home, config=given.config)


def chosen_test_share(settings: "Settings", given: float | None) -> float:
    """The fraction of prompts that go into the test split.

    Args:
        settings: Has the fraction that is used where the option is not given.
        given: The option `--test-share`.

    Raises:
        ConfigError: The fraction is outside 0..1.
    """
    from sdg_data.errors import ConfigError

    share = settings.prompts.test_share if given is None else given
    if not 0 <= share <= 1:
        raise ConfigError(f"--test-share is a fraction from 0 to 1, not {share}")
    return share


def command_group(help: str, *, cls: type[TyperGroup] | None = None) -> typer.Typer:
    """A group of commands, which shows its help where no command is named.

    Args:
        help: What the commands are for.
        cls: The class that finds them; None: typer's own, for commands that are added to the group.
    """
    group = typer.Typer(cls=cls, help=help, no_args_is_help=True, add_completion=False)
    group.callback()(lambda: None)  # without one, a group of a single command would be that command
    return group


class Names(tuple[str, ...]):
    """Names that an option took separated by commas: `--models a,b`."""

    @classmethod
    def parse(cls, text: str) -> "Names":
        """Split at commas; spaces around a name and empty names are dropped. Also a `type=` for argparse."""
        return cls(name for part in text.split(",") if (name := part.strip()))


def names_option(*flags: str, help: str, metavar: str = "<str>") -> Any:
    """A typer option for a parameter of type `Names` or `Names | None`, given separated by commas.

    Args:
        flags: The option's names, such as `"--models"`; without any, the parameter's own name.
        help: The option's line in `--help`.
        metavar: What stands for the value there.
    """
    return typer.Option(*flags, help=help, metavar=metavar, parser=Names.parse)


Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
"""Of a command whose result a program may read."""
RetryFailures = Annotated[
    Names | None,
    names_option(
        "--retry-failures",
        metavar="[CODE]",
        help="Try again what failed before: everything, or only failures of these codes by comma",
    ),
]
"""Of a `RetryCommand`. `("all",)` where it is given without codes."""


@dataclass(frozen=True)
class WorkOptions:
    """Who computes: the options of every command whose stage may run on workers. None: what `[work]` says."""

    executor: Annotated[
        str | None, typer.Option(help="local: processes of this machine; ray: a Ray cluster", rich_help_panel="Workers")
    ] = None
    workers: Annotated[
        str | None,
        typer.Option(
            help="So many worker processes; auto: one a GPU, with ray as many as there is room for",
            rich_help_panel="Workers",
        ),
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs of each worker; with ray also a part of one", rich_help_panel="Workers"),
    ] = None
    address: Annotated[
        str | None, typer.Option(help="The Ray cluster's: HOST:PORT of its head", rich_help_panel="Workers")
    ] = None


class RetryCommand(TyperCommand):
    """A command whose `--retry-failures` takes codes by comma, or stands alone and then means `all`.

    Typer knows options that always take a value and flags that never do, so the value is put in before it parses.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments with `all` behind a `--retry-failures` that nothing, or another option, follows."""
        complete: list[str] = []
        for argument, following in zip(args, [*args[1:], "--"], strict=False):
            complete.append(argument)
            if argument == "--retry-failures" and following.startswith("-"):
                complete.append("all")
        return super().parse_args(ctx, complete)


def chosen_split(name: str | None) -> "Split | None":
    """The split that `--split` names, None where it was not given.

    Raises:
        ConfigError: There is no split of that name.
    """
    from schemas.records import Split
    from sdg_data.errors import ConfigError

    if name is None:
        return None
    if name not in list(Split):
        raise ConfigError(f"there is no split {name!r}", item="--split", hint=f"It is {' or '.join(Split)}.")
    return Split(name)


@contextlib.contextmanager
def command_lock(settings: "Settings", name: str, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a stage while a command runs, and say on stderr whom it waits for.

    Args:
        settings: Their home is what is locked.
        name: Of the stage.
        wait: Whether to wait for another command that holds the lock.

    Raises:
        StoreLocked: Another command holds the lock, and `wait` is false.
    """
    from sdg_data.locks import note_path, stage_lock
    from sdg_data.progress import noted_in

    def say_holder(holder: Any) -> None:
        say(f"waiting for {holder or 'another process'}")

    with (
        stage_lock(settings.home, name, wait=None if wait else 0, on_wait=say_holder),
        noted_in(note_path(settings.home, name)),
    ):
        yield


def run_stage(
    stage: "PortableStage[Any, Any]",
    *,
    unit: str,
    summarise: Callable[[float], dict[str, Any]],
    conclude: Callable[[dict[str, Any]], str],
    as_json: bool,
    executor: "Executor | None" = None,
) -> None:
    """Run a stage to its end, close it, and report: a sentence on stderr, JSON on stdout if wanted.

    The report comes after an interruption too, because what was finished by then is stored.

    Args:
        stage: The work. It is closed, where it has a `close`.
        unit: What the progress counts, such as "images".
        summarise: From the seconds that the work took to the summary. Where its `failed`, `failed_models` or
            `out_of_budget` is filled, the command ends with the exit code for work that is done in part.
        conclude: From the summary to the sentence.
        as_json: Whether the summary goes to stdout.
        executor: Who computes; None: this process.

    Raises:
        Interrupted: Ctrl-C stopped the work before its end.
        typer.Exit: With `ExitCode.PARTIAL`.
    """
    import time

    from sdg_data.errors import ExitCode, Interrupted
    from sdg_data.progress import Progress
    from sdg_data.work import LocalExecutor

    started = time.perf_counter()
    interruption: Interrupted | None = None
    try:
        (executor or LocalExecutor()).execute(stage, progress=Progress(stage.name, unit=unit))
    except Interrupted as error:
        interruption = error
    finally:
        getattr(stage, "close", lambda: None)()
    summary = summarise(time.perf_counter() - started)
    say(conclude(summary))
    if as_json:
        print_json(summary)
    if interruption is not None:
        raise interruption
    if summary["failed"] or summary.get("failed_models") or summary.get("out_of_budget"):
        raise typer.Exit(int(ExitCode.PARTIAL))


def print_json(value: Any) -> None:
    """Print a value as one indented JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_json_line(value: Any) -> None:
    """Print a value as one line of a JSONL stream on stdout."""
    print(json.dumps(value, ensure_ascii=False, default=str))


def print_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, *, width: int | None = None
) -> None:
    """Rows for people on stdout; numbers stand to the right, and are never broken. Nothing for no rows.

    Args:
        rows: Each with the same keys.
        columns: Which of the keys, in this order; None: those of the first row.
        width: Of the screen, in characters; None: the terminal's, and wide where nobody looks at one, because a piped
            table must not wrap at 80 columns. Where the numbers do not fit side by side, each row is a block of lines.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sdg_data.words import heading

    if not rows:
        return
    names = list(columns or rows[0])
    cells = {name: ["" if row.get(name) is None else str(row[name]) for row in rows] for name in names}
    numbers = {name for name in names if all(isinstance(row.get(name), int | float) for row in rows)}
    whole = numbers | {name for name in names if all(_FIGURE.fullmatch(cell) for cell in cells[name])}
    console = Console(
        file=sys.stdout, width=width or (None if sys.stdout.isatty() else 200), highlight=False, soft_wrap=False
    )
    least = [
        max(len(heading(name)), *map(len, cells[name]))
        if name in whole
        else min(_TEXT_COLUMN, max(map(len, cells[name])))
        for name in names
    ]
    if sum(least) + len(names) - 1 > console.width:
        for place in range(len(rows)):
            for name in names:
                console.print(Text(f"{heading(name)}: {cells[name][place]}"))
            if place + 1 < len(rows):
                console.print()
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(
            heading(name), justify="right" if name in numbers else "left", overflow="fold", no_wrap=name in whole
        )
    for place in range(len(rows)):
        table.add_row(*(Text(cells[name][place]) for name in names))
    console.print(table)


class ToStderr(logging.StreamHandler["TextIO"]):
    """Log lines on what is stderr when they come: a progress bar puts something there that writes above the bar."""

    def __init__(self) -> None:
        super().__init__()

    @property
    def stream(self) -> TextIO:
        """The stream that a line goes to now."""
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Do nothing: the stream is looked up for each line."""


def say(text: str) -> None:
    """Print a line for people on stderr, so that stdout stays for data."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def say_warnings() -> Iterator[None]:
    """Say each warning of the block once on stderr; Python itself hides a DeprecationWarning from a command's user."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for message in dict.fromkeys(str(warning.message) for warning in caught):
                say(message)
