"""`sdg eval`: measure predictions against a ground truth, both from the store or both from files."""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.records import Split
from sdg_data.console import Names, names_option, print_json, print_table, say, settings_of
from sdg_data.errors import ConfigError, ExitCode, InputError
from sdg_data.metrics.heatmap_cli import heatmaps_command
from sdg_data.metrics.protocol import Protocol

if TYPE_CHECKING:
    from sdg_data.metrics.release_files import FileReport
    from sdg_data.metrics.sdg_eval import Evaluation
    from sdg_data.metrics.store_sources import Filter
    from sdg_data.metrics.tables import DefectTable, Pairs
    from sdg_data.settings import Settings

app = typer.Typer(help="Measure predictions against a ground truth.", no_args_is_help=True, add_completion=False)

_SOURCES = "a JSONL file in the public release's form, or gold, prelabel:MODEL, annotator:NAME, … of the store"


app.command("heatmaps")(heatmaps_command)

_AXIS_ORDER_IMAGES = 1_000
"""Images with boxes on both sides that are looked at to tell transposed boxes; a dozen can be enough."""


@app.callback()
def _eval() -> None:
    """Measure predictions against a ground truth."""


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

    fill_missing = _fill_missing(missing)
    compare_reasons = similarity_named(similarity)
    chosen = Filter(None if models is None else tuple(models), split)
    inputs = _read(ctx, gt, pred, ceiling, protocol, chosen)
    pairs = pair_up(inputs.gt, inputs.pred, protocol, fill_missing=fill_missing)
    _check_common(pairs)
    left_out = [*inputs.left_out, *_unpaired(pairs, fill=fill_missing)]
    if pairs.missing and fill_missing:
        say(f"{len(pairs.missing)} images have no prediction, counted as failures: {_some(pairs.missing)}")
    for note in (*inputs.notes, *left_out, *_axis_order(pairs)):
        say(note)

    def measure(pairs: "Pairs") -> "Evaluation":
        return evaluate(pairs, protocol=protocol, similarity=compare_reasons, resamples=resamples, seed=seed)

    result = measure(pairs)
    human = None if inputs.ceiling is None else measure(pair_up(*inputs.ceiling, protocol))
    document = {
        **result.as_dict(ceiling=human, rows=inputs.rows),
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


@dataclass(frozen=True)
class _Inputs:
    """What a comparison is made of.

    Attributes:
        gt: The ground truth.
        pred: The predictions.
        ceiling: Ground truth and a second person's annotation, for the human ceiling.
        agreement: How far people agree, for the JSON.
        rows: What each side held, for the JSON.
        notes: What the user must know of the sides, a line each.
        left_out: The same, of rows and images that no figure counts.
        from_files: Whether two files were compared. They are meant to name the same images; two sources of a store are
            not, as a person sees a part of it.
    """

    gt: "DefectTable"
    pred: "DefectTable"
    ceiling: "tuple[DefectTable, DefectTable] | None"
    agreement: dict[str, Any] | None
    rows: dict[str, Any]
    notes: list[str]
    left_out: list[str] = field(default_factory=list)
    from_files: bool = False


def _fill_missing(missing: str) -> bool:
    """What `--missing` says: whether an image without a prediction counts as a failure."""
    if missing not in ("exclude", "fail"):
        raise ConfigError(f"--missing is exclude or fail, not {missing}")
    return missing == "fail"


def _read(ctx: typer.Context, gt: str, pred: str, ceiling: str | None, protocol: Protocol, chosen: "Filter") -> _Inputs:
    """Read both sides and the ceiling, all of them from files or all from the store."""
    from sdg_data.metrics.store_sources import parse_source

    from_files = parse_source(gt) is None
    if from_files != (parse_source(pred) is None):
        raise ConfigError(
            "one is a file, the other a source of the store: their images have no common name",
            item=f"--gt {gt} --pred {pred}",
            hint="Write the store's side with `sdg export run --format release-jsonl`, and compare two files.",
        )
    if not from_files:
        return _read_store(settings_of(ctx), gt, pred, ceiling, chosen)
    if chosen.split is not None or chosen.models is not None:
        raise ConfigError("--split and --models choose images of the store, not rows of files")
    return _read_files(gt, pred, ceiling, protocol)


def _read_files(gt: str, pred: str, ceiling: str | None, protocol: Protocol) -> _Inputs:
    """All sides are release JSONL files."""
    from sdg_data.metrics.release_files import ANNOTATIONS, ReleaseFile, copies, without_answers

    truth, guess = ReleaseFile(Path(gt), "gt", protocol), ReleaseFile(Path(pred), "pred", protocol)
    files, both, notes = {"gt": truth, "pred": guess}, None, []
    truth_table = truth.read()
    guess_table, joined = _named_like(guess.read(), truth_table)
    if joined:
        notes.append(f"{pred}: {joined} images joined by the end of their path, as their folders differ")
    if guess.report.answers == ANNOTATIONS:
        if copies(truth_table, guess_table) and not Path(gt).samefile(pred):
            guess_table = without_answers(guess_table, guess.report)
            notes.append(f"{pred}: no row has a `response`, and its annotations are the ground truth's own: no answers")
        else:
            notes.append(f"{pred}: no row has a `response`, so its annotations are measured like predictions")
    if ceiling not in (None, "none"):
        files["ceiling"] = ReleaseFile(Path(str(ceiling)), "gt", protocol)
        both = truth_table, _named_like(files["ceiling"].read(), truth_table)[0]
    rows = {side: file.report.as_dict() for side, file in files.items()}
    for file in (truth, guess):
        notes += _notes(file.report)
    left_out = [note for file in (truth, guess) for note in _left_out(file.report)]
    return _Inputs(truth_table, guess_table, both, None, rows, notes, left_out, from_files=True)


def _named_like(table: "DefectTable", truth: "DefectTable") -> tuple["DefectTable", int]:
    """The table with the ground truth's names of its images, and how many were joined by the end of their path."""
    from sdg_data.metrics.image_paths import normalised, partners

    names = partners(truth.keys, table.keys)
    keys = tuple(names.get(key, key) for key in table.keys)
    joined = sum(normalised(key) != normalised(name) for key, name in names.items())
    return replace(table, keys=keys), joined


def _left_out(report: "FileReport") -> Iterator[str]:
    if report.rejected:
        first = ", ".join(f"line {line['line']} ({line['code']})" for line in report.rejected_lines[:3])
        yield f"{report.path}: {report.rejected} lines are no row: {first}"
    if report.conflicting:
        images = f"{len(report.conflicting)} images left out, their rows contradict each other"
        yield f"{report.path}: {images}: {_some(tuple(report.conflicting))}"


def _notes(report: "FileReport") -> Iterator[str]:
    for code, count in report.reasons.most_common():
        names = tuple(failure["filepath"] for failure in report.failures if failure["code"] == code)
        yield f"{report.path}: answers that could not be read: {code} {count} ({_some(names)})"
    if report.dropped:
        yield f"{report.path}: {report.dropped} items without box_2d or label were dropped"
    if report.misplaced:
        yield f"{report.path}: {report.misplaced} items whose box is not four numbers match nothing"


def _read_store(settings: "Settings", gt: str, pred: str, ceiling: str | None, chosen: "Filter") -> _Inputs:
    """All sides are sources of the store; the ceiling is what people judged twice, unless it names another source."""
    from sdg_data.blobs import Blobs
    from sdg_data.metrics.agreement import agreement
    from sdg_data.metrics.ceiling import overlapping, second_opinions
    from sdg_data.metrics.store_sources import KINDS, StoreSource, parse_source
    from sdg_data.store.connection import Store

    store, rows = Store(settings.home), {}

    def read(name: str, side: str) -> "DefectTable":
        source = parse_source(name)
        if source is None:
            raise ConfigError(
                f"there is no source {name!r}", item=f"--{side}", hint=f"A source of the store is {KINDS}."
            )
        table = StoreSource(store, source, chosen, Blobs(settings.blob_url)).read()
        rows[side] = {"source": name, "images": len(table), "split": chosen.split, "models": chosen.models}
        return table

    truth, guess = read(gt, "gt"), read(pred, "pred")
    if ceiling == "none":
        return _Inputs(truth, guess, None, None, rows, [])
    with store.read() as tx:
        people = overlapping(tx, chosen)
    agreed = asdict(agreement(people)) if people else None
    if ceiling is not None:
        return _Inputs(truth, guess, (truth, read(ceiling, "ceiling")), agreed, rows, [])
    if not people:
        notes = ["no human ceiling: no image was judged by two people independently"]
        return _Inputs(truth, guess, None, None, rows, notes)
    return _Inputs(truth, guess, second_opinions(people), agreed, rows, [])


def _check_common(pairs: "Pairs") -> None:
    """Raise an InputError where there is no image to measure."""
    if not pairs.common:
        raise InputError(
            f"no image in common: the ground truth has {_some(pairs.missing)}; the predictions {_some(pairs.extra)}",
            hint="Files are joined by `filepath`: the whole path, or the end of a longer one.",
        )
    if not len(pairs.gt):
        raise InputError("no image has a ground truth that can be read", item=_some(pairs.unreadable))


def _coverage(pairs: "Pairs", *, filled: bool) -> str:
    """One line under the table: on how many images the figures stand, and what was left out of them."""
    from sdg_data.metrics.tables import PARSED

    unread = int((pairs.pred.outcomes != PARSED).sum())
    images = pairs.common + len(pairs.missing)
    parts = [f"{len(pairs.gt)} of {images} images measured"]
    if unread:
        parts.append(f"{unread} of them without an answer that can be read (no boxes)")
    if pairs.missing:
        parts.append(f"{len(pairs.missing)} without a prediction {'counted as failures' if filled else 'left out'}")
    if pairs.extra:
        parts.append(f"{len(pairs.extra)} predictions without ground truth left out")
    if pairs.unreadable:
        parts.append(f"{len(pairs.unreadable)} left out, their ground truth cannot be read")
    return ", ".join(parts) + "."


def _unpaired(pairs: "Pairs", *, fill: bool) -> Iterator[str]:
    if pairs.unreadable:
        yield f"{len(pairs.unreadable)} images left out: their ground truth cannot be read"
    if pairs.missing and not fill:
        yield f"{len(pairs.missing)} images have no prediction, left out: {_some(pairs.missing)}"
    if pairs.extra:
        yield f"{len(pairs.extra)} predictions have no ground truth, left out: {_some(pairs.extra)}"


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
        yield (
            f"the predictions' boxes look transposed: on {evidence.for_transposed} images they fit the ground truth "
            f"better with x and y swapped, on {evidence.for_as_read} as they are; were they written as y, x, y, x?"
        )


def _some(keys: tuple[str, ...]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
