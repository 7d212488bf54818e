"""The options that every experiment's command line has."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Sequence

from sdg_data.console import Names
from sdg_data.errors import ConfigError
from trainers.common.config import parse_changes


def parse_arm_options(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    arms: Collection[str],
    *,
    usual: Sequence[str] | None = None,
) -> argparse.Namespace:
    """Parse an experiment's command line, with the options `--arms` and `--set` that each has.

    A setting that is none, or an unknown arm, ends the program as any other wrong option does.

    Args:
        parser: with the experiment's own options.
        arguments: the command line; None: the process's.
        arms: the names that there are.
        usual: the arms where none are named; None: all.

    Returns:
        The options: `arms` in the order given, and `changes`, what stood behind each `--set`.
    """
    parser.add_argument("--arms", type=Names.parse, default=list(arms if usual is None else usual))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    options = parser.parse_args(arguments)
    try:
        parse_changes(options.changes)
    except ConfigError as error:
        parser.error(str(error))
    unknown = set(options.arms) - set(arms)
    if unknown:
        parser.error(f"there is no arm {', '.join(sorted(unknown))}; there are {', '.join(arms)}")
    return options


def set_options(changes: Iterable[str]) -> list[str]:
    """Changes of settings as the options of a command."""
    return [part for change in changes for part in ("--set", change)]
