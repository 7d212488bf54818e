"""`sdg eval`: measure predictions against a ground truth, both from the store or both from files."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.records import Split
from sdg_data.console import Names, names_option, print_json, print_table, say, settings_of
from sdg_data.errors import ConfigError
from sdg_data.metrics.protocol import Protocol

if TYPE_CHECKING:
    from sdg_data.metrics.release_files import FileReport, Role
    from sdg_data.metrics.sdg_eval import Evaluation
    from sdg_data.metrics.store_sources import Filter, SourceName
    from sdg_data.metrics.tables import DefectTable, Pairs

app = typer.Typer(help="Measure predictions against a ground truth.", no_args_is_help=True, add_completion=False)

_SOURCES = "a JSONL file in the public release's form, or gold, prelabel:MODEL, annotator:NAME, … of the store"


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

    Rows that cannot be read are counted and named, never fatal. Without --json a table goes to stdout.
    """
    from sdg_data.metrics.confusion import confusion
    from sdg_data.metrics.report import summary_rows, write_json, write_report
    from sdg_data.metrics.sdg_eval import evaluate, pair_up
    from sdg_data.metrics.similarity import similarity_named
    from sdg_data.metrics.store_sources import Filter, parse_source

    if missing not in ("exclude", "fail"):
        raise ConfigError(f"--missing is exclude or fail, not {missing}")
    measure = similarity_named(similarity)
    names = parse_source(gt), parse_source(pred)
    if (names[0] is None) != (names[1] is None):
        raise ConfigError(
            "one is a file, the other a source of the store: their images have no common name",
            item=f"--gt {gt} --pred {pred}",
            hint="Write the store's side with `sdg export run --format release-jsonl`, and compare two files.",
        )
    chosen = Filter(models, split)

    def judge(pairs: "Pairs") -> "Evaluation":
        return evaluate(pairs, protocol=protocol, similarity=measure, resamples=resamples, seed=seed)

    reader: _Files | _OfStore
    if names[0] is None:
        if split is not None or models is not None:
            raise ConfigError("--split and --models choose images of the store, not rows of files")
        reader = _Files(protocol)
    else:
        reader = _OfStore(ctx, chosen)
    table = reader.read(gt, "gt")
    pairs = pair_up(table, reader.read(pred, "pred"), protocol, fill_missing=missing == "fail")
    reader.tell()
    _tell(pairs, fill=missing == "fail")
    result = judge(pairs)
    human, people = reader.ceiling(ceiling, table, protocol, judge)
    document = {**result.as_dict(ceiling=human, rows=reader.rows), "confusion": confusion(pairs), "agreement": people}
    if report is not None:
        say(f"report: {write_report(document, report)}")
    if json_out is not None:
        write_json(document, None if str(json_out) == "-" else json_out)
    if json_out is None or str(json_out) != "-":
        print_table(summary_rows(document))
        sys.stdout.flush()


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


@dataclass
class _Files:
    """Both sides are release JSONL files. `rows` is what they held, for the JSON."""

    protocol: Protocol
    reports: "dict[str, FileReport]" = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, Any]:
        return {side: report.as_dict() for side, report in self.reports.items()}

    def read(self, name: str, side: "Role") -> "DefectTable":
        return self._read(name, side, side)

    def _read(self, name: str, side: str, role: "Role") -> "DefectTable":
        from sdg_data.metrics.release_files import ReleaseFile

        file = ReleaseFile(Path(name), role, self.protocol)
        table = file.read()
        self.reports[side] = file.report
        return table

    def ceiling(
        self, name: str | None, truth: "DefectTable", protocol: Protocol, judge: "Callable[[Pairs], Evaluation]"
    ) -> "tuple[Evaluation | None, dict[str, Any] | None]":
        from sdg_data.metrics.sdg_eval import pair_up

        if name is None or name == "none":
            return None, None
        return judge(pair_up(truth, self._read(name, "ceiling", "gt"), protocol)), None

    def tell(self) -> None:
        for report in self.reports.values():
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


@dataclass
class _OfStore:
    """Both sides are sources of the store."""

    ctx: typer.Context
    chosen: "Filter"
    rows: dict[str, Any] = field(default_factory=dict)

    def read(self, name: str, side: str) -> "DefectTable":
        from sdg_data.blobs import Blobs
        from sdg_data.metrics.store_sources import KINDS, StoreSource, parse_source
        from sdg_data.store.connection import Store

        source: SourceName | None = parse_source(name)
        if source is None:
            raise ConfigError(
                f"there is no source {name!r}", item=f"--{side}", hint=f"A source of the store is {KINDS}."
            )
        settings = settings_of(self.ctx)
        table = StoreSource(Store(settings.home), source, self.chosen, Blobs(settings.blob_url)).read()
        self.rows[side] = {
            "source": name,
            "images": len(table),
            "split": self.chosen.split,
            "models": self.chosen.models,
        }
        return table

    def ceiling(
        self, name: str | None, truth: "DefectTable", protocol: Protocol, judge: "Callable[[Pairs], Evaluation]"
    ) -> "tuple[Evaluation | None, dict[str, Any] | None]":
        """What `name` says; by default the images that several people judged: second verdict against first."""
        from sdg_data.metrics.agreement import agreement
        from sdg_data.metrics.ceiling import as_dict, overlapping, second_opinions
        from sdg_data.metrics.sdg_eval import pair_up
        from sdg_data.store.connection import Store

        if name == "none":
            return None, None
        with Store(settings_of(self.ctx).home).read() as tx:
            people = overlapping(tx, self.chosen)
        agreed = as_dict(agreement(people)) if people else None
        if name is not None:
            return judge(pair_up(truth, self.read(name, "ceiling"), protocol)), agreed
        if not people:
            say("no human ceiling: no image was judged by two people independently")
            return None, None
        return judge(pair_up(*second_opinions(people), protocol)), agreed

    def tell(self) -> None:
        """A store has no lines that are none."""


def _tell(pairs: "Pairs", *, fill: bool) -> None:
    if pairs.unreadable:
        say(f"{len(pairs.unreadable)} images left out: their ground truth cannot be read")
    if pairs.missing:
        fate = "counted as failures" if fill else "left out"
        say(f"{len(pairs.missing)} images have no prediction, {fate}: {_some(pairs.missing)}")
    if pairs.extra:
        say(f"{len(pairs.extra)} predictions have no ground truth, left out: {_some(pairs.extra)}")


def _some(keys: tuple[str, ...]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
