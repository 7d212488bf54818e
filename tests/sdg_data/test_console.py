"""What commands share: names by comma, `--split`, and running a stage to its report."""

import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from schemas.records import Split
from sdg_data.console import (
    Names,
    RetryCommand,
    RetryFailures,
    ToStderr,
    chosen_split,
    names_option,
    print_table,
    run_stage,
)
from sdg_data.errors import ConfigError, ExitCode, Interrupted
from sdg_data.work import Plan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("a",)),
        ("a,b", ("a", "b")),
        (" a , b,,", ("a", "b")),
        (",", ()),
        ("", ()),
        ("b c,a,b c", ("b c", "a", "b c")),
    ],
)
def test_names_are_split_at_commas(text: str, expected: tuple[str, ...]) -> None:
    assert Names.parse(text) == expected


def test_a_command_gets_names_or_none() -> None:
    app = typer.Typer()

    @app.command()
    def show(models: Annotated[Names | None, names_option("--of", help="Which", metavar="WORDS")] = None) -> None:
        typer.echo(repr(models))

    run = CliRunner().invoke
    assert run(app, []).output.strip() == "None"
    assert run(app, ["--of", "x, y"]).output.strip() == repr(("x", "y"))
    assert "WORDS" in run(app, ["--help"]).output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], None),
        (["--retry-failures"], ("all",)),
        (["--retry-failures", "--limit", "3"], ("all",)),
        (["--limit", "3", "--retry-failures", "a,b"], ("a", "b")),
        (["--retry-failures=a"], ("a",)),
    ],
)
def test_failures_are_tried_again_all_or_by_code(arguments: list[str], expected: tuple[str, ...] | None) -> None:
    app = typer.Typer()

    @app.command(cls=RetryCommand)
    def show(retry_failures: RetryFailures = None, limit: int = 0) -> None:
        typer.echo(repr((retry_failures, limit)))

    assert CliRunner().invoke(app, arguments).output.strip() == repr((expected, 3 if "--limit" in arguments else 0))


def test_a_split_by_name() -> None:
    assert chosen_split(None) is None
    assert chosen_split("test") is Split.TEST
    with pytest.raises(ConfigError, match="no split 'val'"):
        chosen_split("val")


class Squares:
    """A stage of three numbers; number 1 may fail, number 2 may come with a Ctrl-C."""

    name = "squares"

    def __init__(self, *, fail: bool = False, interrupt: bool = False) -> None:
        self.interrupt, self.failed, self.closed = interrupt, {"odd": 1} if fail else {}, False
        self.stored: list[int] = []

    def plan(self) -> Plan[int]:
        return Plan(3, [[0], [1], [2]])

    def run(self, batch: Sequence[int]) -> Sequence[int]:
        if self.interrupt and batch[0] == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return [number**2 for number in batch]

    def persist(self, results: Sequence[int]) -> Sequence[int]:
        return results

    def commit(self, results: Sequence[int]) -> None:
        self.stored += results

    def close(self) -> None:
        self.closed = True


def report(stage: Squares, *, as_json: bool = True, **more: Any) -> None:
    run_stage(
        stage,
        unit="numbers",
        summarise=lambda seconds: {"stored": stage.stored, "failed": stage.failed, "took": seconds >= 0, **more},
        conclude=lambda summary: f"{len(summary['stored'])} squares",
        as_json=as_json,
    )


def test_a_stage_runs_and_reports(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Squares()
    report(stage)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"stored": [0, 1, 4], "failed": {}, "took": True}
    assert captured.err.splitlines()[-1] == "3 squares"
    assert stage.closed
    report(Squares(), as_json=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("stage", "more"), [(Squares(fail=True), {}), (Squares(), {"out_of_budget": True})])
def test_work_done_in_part_has_an_exit_code(stage: Squares, more: dict[str, Any]) -> None:
    with pytest.raises(typer.Exit) as end:
        report(stage, **more)
    assert end.value.exit_code == ExitCode.PARTIAL


def test_an_interrupted_stage_reports_what_it_stored(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Squares(fail=True, interrupt=True)
    with pytest.raises(Interrupted):
        report(stage)
    assert json.loads(capsys.readouterr().out)["stored"] == [0, 1]
    assert stage.closed


WIDE = [
    {
        "metric": f"BoxF1@0.{place}", "type": "misalignment", "value": "0.836", "n": 1234567,
        "95 % interval": "0.724–0.933", "ceiling": 1.0, "SDG SFT (published)": "0.776", "human (published)": "0.792",
        "at worst": "0.821", "note": "a sentence that goes on for a while and may be broken where it has to be",
    }
    for place in (1, 5)
]  # fmt: skip


@pytest.mark.parametrize("width", [200, 120, 80, 60, 40, 25])
def test_no_figure_is_broken_however_narrow_the_screen(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(WIDE, width=width)
    shown = capsys.readouterr().out
    assert all(len(line) <= width for line in shown.splitlines())
    for figure in ("0.836", "1234567", "0.724–0.933", "1.0", "0.776", "0.792", "0.821"):
        assert shown.split().count(figure) >= 2, figure


def test_a_table_that_fits_is_a_table_with_words_for_names(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"who": "ann", "tokens_in": 5}, {"who": "bo", "tokens_in": 12}], width=80)
    assert capsys.readouterr().out.splitlines() == ["person  tokens in", "ann             5", "bo             12"]
    print_table([])
    assert capsys.readouterr().out == ""


def test_log_lines_go_to_what_is_stderr_now(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    handler, first, second = ToStderr(), io.StringIO(), io.StringIO()
    record = logging.LogRecord("x", logging.INFO, "", 0, "a line", None, None)
    for stream in (first, second):
        monkeypatch.setattr(sys, "stderr", stream)
        handler.emit(record)
    assert (first.getvalue(), second.getvalue()) == ("a line\n", "a line\n")
