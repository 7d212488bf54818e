"""What every command shares: the settings it was called with, JSON on stdout, and tables for people."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from sdg_data.settings import Settings


@dataclass(frozen=True)
class Globals:
    """The options in front of the command."""

    home: Path | None = None
    config: Path | None = None


def settings_of(ctx: typer.Context) -> "Settings":
    """The settings of this call: options, then environment, then the profile. Raises ConfigError."""
    from sdg_data.settings import load_settings

    given = ctx.obj if isinstance(ctx.obj, Globals) else Globals()
    return load_settings(home=given.home, config=given.config)


def chosen_test_share(settings: "Settings", given: float | None) -> float:
    """The fraction of prompts for the test split: the option, else the settings'. ConfigError outside 0..1."""
    from sdg_data.errors import ConfigError

    share = settings.prompts.test_share if given is None else given
    if not 0 <= share <= 1:
        raise ConfigError(f"--test-share is a fraction from 0 to 1, not {share}")
    return share


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_json_line(value: Any) -> None:
    """One line of a JSONL stream on stdout."""
    print(json.dumps(value, ensure_ascii=False, default=str))


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Rows for people on stdout; numbers stand to the right. Nothing for no rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    names = list(columns or rows[0])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        number = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if row.get(name) is None else str(row[name])) for name in names))
    # Wide where nobody looks at a terminal: a piped table must not wrap at 80 columns.
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)
