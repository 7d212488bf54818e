"""Write the reference of all `sdg` commands and options as Markdown.

    python -m sdg_data.cli_reference > docs/reference/cli.md

`walk` yields the command tree, which the tests of the documentation read too. Every command's module is imported, so
all the libraries of the extras `generate` and `dev` have to be installed.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.main import get_group

from sdg_data.cli import app

# A default that is a folder of the packages is written relative to them, so that the page is the same on every machine.
_ROOT = f"{Path(__file__).parent.parent}/"
_HEAD = """# Every command and option

This page is generated from the command line's own help: run `make reference` after a change.
[The `sdg` command](../cli.md) says where files lie, what the exit codes mean and how commands take turns; the pages of
[the index](../index.md) show the commands at work.
"""


@dataclass(frozen=True)
class Command:
    """A command of the tree: its whole name ("sdg eval run"), the parser's object and its context.

    `children` are the names of its subcommands, in the order of the help page; empty for a command that does work.
    """

    name: str
    parser: Any
    context: Any
    children: tuple[str, ...]

    def options(self, with_value: bool = False) -> set[str]:
        """Every spelling of every option, such as `--trace`, `--no-trace` and `-v`.

        Args:
            with_value: Only those that take a value.
        """
        return {
            spelling
            for parameter in self.parser.params
            if parameter.param_type_name == "option" and not (with_value and parameter.is_flag)
            for spelling in (*parameter.opts, *parameter.secondary_opts)
        }


def walk() -> Iterator[Command]:
    """All commands, each group before its subcommands, as a command line would resolve them."""
    yield from _walk("sdg", get_group(app), None)


def _walk(name: str, parser: Any, parent: Any) -> Iterator[Command]:
    context = parser.context_class(parser, info_name=name, parent=parent)
    children = tuple(getattr(parser, "commands", ()))
    yield Command(context.command_path, parser, context, children)
    for child in children:
        # What is listed in a lazy group is a stand-in; resolving the name imports the real command.
        _, command, _ = parser.resolve_command(context, [child])
        yield from _walk(child, command, context)


def _table(command: Command) -> list[str]:
    """One table for each of the command's help panels, arguments first."""
    panels: dict[str, list[str]] = {}
    for parameter in command.parser.params:
        record = parameter.get_help_record(command.context)
        if record is None or getattr(parameter, "hidden", False):
            continue
        default_panel = "Arguments" if parameter.param_type_name == "argument" else "Options"
        rows = panels.setdefault(getattr(parameter, "rich_help_panel", None) or default_panel, [])
        spelling, text = (" ".join(part.split()).replace("|", "\\|").replace(_ROOT, "") for part in record)
        rows.append(f"| `{spelling}` | {text} |")
    lines: list[str] = []
    for panel, rows in panels.items():
        lines += ["", f"| {panel} | |", "|---|---|", *rows]
    return lines


def markdown() -> str:
    """The reference page of all commands with their options, as Markdown."""
    lines = [_HEAD.rstrip()]
    for command in walk():
        heading = "##" if command.name.count(" ") < 2 else "###"
        lines += ["", f"{heading} {command.name}"]
        if command.parser.help:
            lines += ["", *(line.rstrip() for line in command.parser.help.strip().splitlines())]
        if command.children:
            children = ", ".join(
                f"[{child}](#{f'{command.name} {child}'.replace(' ', '-')})" for child in command.children
            )
            lines += ["", f"Commands: {children}."]
        lines += _table(command)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
