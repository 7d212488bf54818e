"""`sdg eval`: measure predictions against a ground truth, both from the store or both from files."""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.records import Split
from sdg_data.console import Names, command_group, names_option, print_json, print_table, say, settings_of
from sdg_data.errors import ExitCode
from sdg_data.metrics.compare_cli import compare_command
from sdg_data.metrics.heatmap_cli import heatmaps_command
from sdg_data.metrics.inputs import Inputs, check_common, fills_missing, read_inputs, some
from sdg_data.metrics.protocol import Protocol
from sdg_data.words import counted

if TYPE_CHECKING:
    from sdg_data.metrics.sdg_eval import Evaluation
    from sdg_data.metrics.similarity import Similarity
    from sdg_data.metrics.tables import Pairs

app = command_group("Measure predictions against a ground truth.")

_SOURCES = "a JSONL file in the public release's form, or gold, prelabel:MODEL, annotator:NAME, … of the store"


app.command("compare")(compare_command)
app.command("heatmaps")(heatmaps_command)

_AXIS_ORDER_IMAGES = 1_000
"""Images with boxes on both sides that are looked at to tell transposed boxes; a dozen can be enough."""


@app.command("run")
def run_command(
    ctx: typer.Context,
    gt: Annotated[str, typer.Option(help=f"Ground truth: {_SOURCES}")],
    pred: Annotated[str, typer.Option(help="Predictions: the same, joined by filepath or image id")],
    protocol: Annotated[Protocol, typer.Option(help="The paper's definitions, or the release's scripts")] = (
        Protocol.PAPER
    ),
    similarity: Annotated[
        str, typer.Option(help="How reasons are compared: lexical (built in), or a sentence-transformers model")
    ] = "lexical",
    ceiling: Annotated[
        str | None,
        typer.Option(
            help="A second person's annotation of the same images: the human ceiling. With sources of the store it is "
            "measured on images that several people judged, unless this names another source, or 'none'"
        ),
    ] = None,
    split: Annotated[Split | None, typer.Option(help="Store: only images of this split")] = None,
    models: Annotated[
        Names | None, names_option(help="Store: only images of these generators, separated by commas")
    ] = None,
    missing: Annotated[
        str, typer.Option(help="Images without a prediction: left out (exclude), or counted as failures (fail)")
    ] = "exclude",
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples of the intervals; 0 for none")] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples")] = 0,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write everything here ('-' is stdout)")] = None,
    report: Annotated[Path | None, typer.Option(help="Write report.md and its figures into this folder")] = None,
) -> None:
    """Run SDG-Eval on two sources; docs/evaluation.md says what each number means.

    Rows that cannot be read are counted and named, never fatal. Without --json a table goes to stdout. The exit code is
    10 where two files were compared and rows or images were left out.

    Raises:
        typer.Exit: With `ExitCode.PARTIAL`.
    """
    from sdg_data.metrics.confusion import confusion
    from sdg_data.metrics.report import summary_rows, write_json, write_report
    from sdg_data.metrics.sdg_eval import evaluate, pair_up
    from sdg_data.metrics.similarity import similarity_named
    from sdg_data.metrics.store_sources import Filter

    fill_missing = fills_missing(missing)
    compare_reasons = similarity_named(similarity)
    chosen = Filter(None if models is None else tuple(models), split)
    inputs = read_inputs(settings_of(ctx), gt, pred, ceiling, protocol, chosen)
    pairs = pair_up(inputs.gt, inputs.pred, protocol, fill_missing=fill_missing)
    check_common(pairs)
    left_out = [*inputs.left_out, *_unpaired(pairs, fill=fill_missing)]
    if pairs.missing and fill_missing:
        images = counted(len(pairs.missing), "image")
        say(f"{images} without a prediction, counted as failures: {some(pairs.missing)}")
    for note in (*inputs.notes, *left_out, *_axis_order(pairs)):
        say(note)

    def measure(pairs: "Pairs") -> "Evaluation":
        return evaluate(pairs, protocol=protocol, similarity=compare_reasons, resamples=resamples, seed=seed)

    result = measure(pairs)
    human = None if inputs.ceiling is None else measure(pair_up(*inputs.ceiling, protocol))
    document = {
        **result.as_dict(ceiling=human, rows=inputs.rows),
        **_charged_with_missing(inputs, pairs, protocol, compare_reasons),
        "confusion": confusion(pairs),
        "agreement": inputs.agreement,
    }
    if report is not None:
        say(f"report: {write_report(document, report)}")
    if json_out is not None:
        write_json(document, None if str(json_out) == "-" else json_out)
    if json_out is None or str(json_out) != "-":
        print_table(summary_rows(document))
        typer.echo(_coverage(pairs, filled=fill_missing))
        sys.stdout.flush()
    if left_out and inputs.from_files:
        raise typer.Exit(int(ExitCode.PARTIAL))


@app.command("sources")
def sources_command(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout")] = False
) -> None:
    """List what in the store can be compared, and for how many images it speaks."""
    from sdg_data.metrics.store_sources import listed
    from sdg_data.store.connection import Store

    with Store(settings_of(ctx).home).read() as tx:
        rows = listed(tx)
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ["source", "images"])


def _charged_with_missing(
    inputs: Inputs, pairs: "Pairs", protocol: Protocol, similarity: "Similarity"
) -> dict[str, Any]:
    """`at_worst` once more where a file of predictions lacks images: they are unanswered too.

    A source of the store is not meant to speak for every image, so there only what was asked counts.

    Returns:
        The key `at_worst` of the document; nothing where it stays as it is.
    """
    from sdg_data.metrics.sdg_eval import evaluate, pair_up

    if not (inputs.from_files and pairs.missing):
        return {}
    whole = pair_up(inputs.gt, inputs.pred, protocol, fill_missing=True)
    summary = evaluate(whole, protocol=protocol, similarity=similarity, resamples=0).summary
    return {"at_worst": summary["at_worst"]}


def _coverage(pairs: "Pairs", *, filled: bool) -> str:
    """One line under the table: on how many images the figures stand, and what was left out of them."""
    from sdg_data.metrics.tables import PARSED

    unread = int((pairs.pred.outcomes != PARSED).sum())
    images = pairs.common + len(pairs.missing)
    parts = [f"{len(pairs.gt):,} of {counted(images, 'image')} measured"]
    if unread:
        parts.append(f"{unread:,} of them without an answer that can be read (no boxes)")
    if pairs.missing:
        parts.append(f"{len(pairs.missing):,} without a prediction {'counted as failures' if filled else 'left out'}")
    if pairs.extra:
        parts.append(f"{counted(len(pairs.extra), 'prediction')} without ground truth left out")
    if pairs.unreadable:
        parts.append(f"{len(pairs.unreadable):,} left out with a ground truth that cannot be read")
    return ", ".join(parts) + "."


def _unpaired(pairs: "Pairs", *, fill: bool) -> Iterator[str]:
    if pairs.unreadable:
        yield f"{counted(len(pairs.unreadable), 'image')} left out with a ground truth that cannot be read"
    if pairs.missing and not fill:
        yield f"{counted(len(pairs.missing), 'image')} without a prediction left out: {some(pairs.missing)}"
    if pairs.extra:
        yield f"{counted(len(pairs.extra), 'prediction')} without ground truth left out: {some(pairs.extra)}"


def _axis_order(pairs: "Pairs") -> Iterator[str]:
    """Say whether the predictions fit the ground truth better with x and y swapped.

    A Gemini answer read as Qwen's does. Nothing else gives that away, because a mirrored box is a valid box.

    Yields:
        A line for the user, where they do.
    """
    from schemas.axis_order import AxisOrder, axis_order

    images = zip(pairs.pred.box_lists(), pairs.gt.box_lists(), strict=True)
    both = ((guess, truth) for guess, truth in images if guess and truth)
    evidence = axis_order(islice(both, _AXIS_ORDER_IMAGES))
    if evidence.verdict is AxisOrder.TRANSPOSED:
        swapped, as_read = counted(evidence.for_transposed, "image"), evidence.for_as_read
        yield (
            f"the predictions' boxes look transposed: on {swapped} they fit the ground truth better with x and y "
            f"swapped, on {as_read} as they are; were they written as y, x, y, x?"
        )
