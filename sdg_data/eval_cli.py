"""`sdg eval`: measure predictions against a ground truth."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdg_data.console import print_table, say
from sdg_data.errors import ConfigError
from sdg_data.metrics.protocol import Protocol

if TYPE_CHECKING:
    from sdg_data.metrics.release_files import FileReport
    from sdg_data.metrics.tables import Pairs

app = typer.Typer(help="Measure predictions against a ground truth.", no_args_is_help=True, add_completion=False)


@app.callback()
def _eval() -> None:
    """Measure predictions against a ground truth."""


@app.command("run")
def run_command(
    gt: Annotated[Path, typer.Option(help="Ground truth: JSONL in the public release's form")],
    pred: Annotated[Path, typer.Option(help="Predictions: JSONL in the same form, joined by filepath")],
    protocol: Annotated[Protocol, typer.Option(help="The paper's definitions, or the release's scripts")] = (
        Protocol.PAPER
    ),
    similarity: Annotated[
        str, typer.Option(help="How reasons are compared: lexical (built in), or a sentence-transformers model")
    ] = "lexical",
    ceiling: Annotated[
        Path | None, typer.Option(help="A second person's annotation of the same images: the human ceiling")
    ] = None,
    missing: Annotated[
        str, typer.Option(help="Images without a prediction: left out (exclude), or counted as failures (fail)")
    ] = "exclude",
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples of the intervals; 0 for none")] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples")] = 0,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write everything here ('-' is stdout)")] = None,
    report: Annotated[Path | None, typer.Option(help="Write report.md and its figures into this folder")] = None,
) -> None:
    """Run SDG-Eval on two files; docs/evaluation.md says what each number means.

    Rows that cannot be read are counted and named, never fatal. Without --json a table goes to stdout.
    """
    from sdg_data.metrics.release_files import ReleaseFile
    from sdg_data.metrics.report import summary_rows, write_json, write_report
    from sdg_data.metrics.sdg_eval import evaluate, pair_up
    from sdg_data.metrics.similarity import similarity_named

    if missing not in ("exclude", "fail"):
        raise ConfigError(f"--missing is exclude or fail, not {missing}")
    measure = similarity_named(similarity)
    truth, predictions = ReleaseFile(gt, "gt", protocol), ReleaseFile(pred, "pred", protocol)
    table = truth.read()
    pairs = pair_up(table, predictions.read(), protocol, fill_missing=missing == "fail")
    _tell(pairs, truth.report, predictions.report, fill=missing == "fail")
    result = evaluate(pairs, protocol=protocol, similarity=measure, resamples=resamples, seed=seed)
    rows: dict[str, Any] = {"gt": truth.report.as_dict(), "pred": predictions.report.as_dict()}
    human = None
    if ceiling is not None:
        second = ReleaseFile(ceiling, "gt", protocol)
        again = pair_up(table, second.read(), protocol)
        rows["ceiling"] = second.report.as_dict()
        human = evaluate(again, protocol=protocol, similarity=measure, resamples=resamples, seed=seed)
    document = result.as_dict(ceiling=human, rows=rows)
    if report is not None:
        say(f"report: {write_report(document, report)}")
    if json_out is not None:
        write_json(document, None if str(json_out) == "-" else json_out)
    if json_out is None or str(json_out) != "-":
        print_table(summary_rows(document))
        sys.stdout.flush()


def _tell(pairs: "Pairs", gt: "FileReport", pred: "FileReport", *, fill: bool) -> None:
    for report in (gt, pred):
        if report.rejected:
            first = ", ".join(f"line {line['line']} ({line['code']})" for line in report.rejected_lines[:3])
            say(f"{report.path}: {report.rejected} lines are no row: {first}")
        if report.conflicting:
            say(f"{report.path}: {len(report.conflicting)} images left out, their rows contradict each other")
        if report.reasons:
            codes = ", ".join(f"{code} {count}" for code, count in report.reasons.most_common())
            say(f"{report.path}: answers that could not be read: {codes}")
        if report.dropped:
            say(f"{report.path}: {report.dropped} items without a box of four numbers or a label were dropped")
    if pairs.unreadable:
        say(f"{len(pairs.unreadable)} images left out: their ground truth cannot be read")
    if pairs.missing:
        fate = "counted as failures" if fill else "left out"
        say(f"{len(pairs.missing)} images have no prediction, {fate}: {_some(pairs.missing)}")
    if pairs.extra:
        say(f"{len(pairs.extra)} predictions have no ground truth, left out: {_some(pairs.extra)}")


def _some(keys: tuple[str, ...]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
