"""Options that commands share: a command with groups is the command that spells its options out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from sdg_data.option_groups import grouped


@dataclass(frozen=True)
class Range:
    first: Annotated[int, typer.Option(min=1, help="The first row")] = 1
    # As text, which is what a module with postponed annotations gives.
    last: "Annotated[int | None, typer.Option('--until', help='The last row')]" = None


@dataclass(frozen=True)
class How:
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing", rich_help_panel="How")] = False
    words: Annotated[list[str] | None, typer.Option("--word")] = None
    key: Annotated[str, typer.Option(help="Needed")] = ...  # type: ignore[assignment]  # Typer's mark of a must


def commands() -> typer.Typer:
    app = typer.Typer()

    @app.command("short")
    @grouped
    def short(ctx: typer.Context, file: Path, *, rows: Range, quiet: bool = False, how: How) -> None:
        """Read rows."""
        assert ctx.info_name == "short"
        typer.echo(repr((file, rows.first, rows.last, quiet, how.dry_run, how.words, how.key)))

    @app.command("plain")
    def plain(
        ctx: typer.Context,
        file: Path,
        first: Annotated[int, typer.Option(min=1, help="The first row")] = 1,
        last: Annotated[int | None, typer.Option("--until", help="The last row")] = None,
        quiet: bool = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing", rich_help_panel="How")] = False,
        words: Annotated[list[str] | None, typer.Option("--word")] = None,
        key: Annotated[str, typer.Option(help="Needed")] = ...,  # type: ignore[assignment]
    ) -> None:
        """Read rows."""
        assert ctx.info_name == "plain"
        typer.echo(repr((file, first, last, quiet, dry_run, words, key)))

    return app


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["a.txt", "--key", "k"],
        ["a.txt", "--key", "k", "--first", "3", "--until", "9", "--quiet", "--dry-run", "--word", "a", "--word", "b"],
        ["a.txt"],
        ["a.txt", "--key", "k", "--first", "0"],
        ["a.txt", "--key", "k", "--last", "9"],
        ["--key", "k"],
    ],
)
def test_a_group_is_its_options_spelled_out(arguments: list[str]) -> None:
    short, plain = (CliRunner().invoke(commands(), [name, *arguments]) for name in ("short", "plain"))
    assert short.exit_code == plain.exit_code
    assert short.output == plain.output.replace("plain", "short")


def test_values_arrive_in_their_groups() -> None:
    said = CliRunner().invoke(commands(), ["short", "a.txt", "--key", "k", "--until", "9", "--word", "x"])
    assert said.output == "(PosixPath('a.txt'), 1, 9, False, False, ['x'], 'k')\n"


def test_one_name_for_two_options_is_an_error() -> None:
    def command(rows: Range, first: int) -> None: ...

    with pytest.raises(TypeError, match="command has two options of the name first"):
        grouped(command)
