"""What the commands of `sdg import` share: their options, each defined once, and how such a command runs and ends.

A group of options is a dataclass; `sdg_data.option_groups` shows its fields to Typer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdg_data.console import print_json, print_table, say, settings_of
from sdg_data.ingest.report_cli import ReportFile

if TYPE_CHECKING:
    from exports.imports.records import ExternalOptions
    from exports.imports.richhf_names import FileNames
    from exports.imports.rows import ImportRow
    from exports.imports.splits import SplitRule

FILES = "Where the images are"
ASSUMED = "Where the file does not say"
HOW = "How to run"

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout", rich_help_panel=HOW)]
Prompts = Annotated[Path | None, typer.Option(help="The prompts, by picture name (JSON)", rich_help_panel=FILES)]
Model = Annotated[str, typer.Option(help="The model that made the images", rich_help_panel=ASSUMED)]
Reason = Annotated[
    str | None, typer.Option(help="A reason for boxes and regions that have none", rich_help_panel=ASSUMED)
]
OneSplit = Annotated[
    str | None,
    typer.Option("--split", help="The split of rows that say neither train nor test", rich_help_panel=ASSUMED),
]


@dataclass(frozen=True)
class HowToRun:
    """What every importing command is told of its run."""

    replace: Annotated[
        bool, typer.Option("--replace", help="Let it change what counts for images of the store", rich_help_panel=HOW)
    ] = False
    limit: Annotated[int | None, typer.Option(min=1, help="Read this many rows", rich_help_panel=HOW)] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, write nothing", rich_help_panel=HOW)] = False
    report: ReportFile = None
    as_json: Json = False


@dataclass(frozen=True)
class Published:
    """What holds for any file of others."""

    images: Annotated[
        Path | None, typer.Option(help="The images' folder; default: the file's own", rich_help_panel=FILES)
    ] = None
    licence: Annotated[str, typer.Option(help="The images' licence; exports filter by it", rich_help_panel=ASSUMED)] = (
        "unknown"
    )
    origin: Annotated[
        str | None,
        typer.Option("--source", help="Where they are from; default: the file's name", rich_help_panel=ASSUMED),
    ] = None


@dataclass(frozen=True)
class Splits:
    """What a file's words for splits mean."""

    split: OneSplit = None
    split_map: Annotated[
        list[str] | None,
        typer.Option(
            "--split-map",
            metavar="WORD=SPLIT",
            help="What another word for a split means: val=test",
            rich_help_panel=ASSUMED,
        ),
    ] = None

    def rule(self) -> "SplitRule":
        """The rule that they make."""
        from exports.imports.splits import split_rule

        return split_rule(self.split, self.split_map)


def external_options(ctx: typer.Context, file: Path, published: Published, **rest: Any) -> "ExternalOptions":
    """What an importer of a file of others is told; `rest` are further fields of it."""
    from exports.imports.records import ExternalOptions
    from sdg_data.ingest.prompts import stored_aliases
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    name = file.name if file.name not in ("", "..") else file.resolve().name  # a folder named from within it
    return ExternalOptions(
        published.origin or name,
        published.images,
        settings.prompts.test_share,
        published.licence,
        aliases=stored_aliases(Store(settings.home)),
        **rest,
    )


def prompts_by_name(file: Path | None) -> "FileNames":
    """The prompts of `--prompts`; none where there is no such file."""
    from exports.imports.richhf_names import FileNames, read_prompts

    return FileNames() if file is None else read_prompts(file)


def stated_options(external: "ExternalOptions", **rest: Any) -> dict[str, Any]:
    """The options as an import's entry holds them."""
    return {
        "source": external.where,
        "images": None if external.folder is None else str(external.folder),
        "licence": external.licence,
        "model": external.model,
        "reason": external.reason,
        "split": external.splits.given,
        "split_map": dict(external.splits.by_name),
        **rest,
    }


def run_import(
    ctx: typer.Context, name: str, source: str, rows: "Iterator[ImportRow]", options: dict[str, Any], how: HowToRun
) -> None:
    """Import the rows, say what became of them, and end the command.

    Args:
        ctx: The command's context.
        name: The command, such as `coco`.
        source: What is imported, for people.
        rows: What its generator gives.
        options: What the command was told, but for how to run.
        how: How to run.
    """
    from exports.imports.store_rows import UNIT, ImportCommand, import_rows
    from sdg_data.blobs import Blobs
    from sdg_data.ingest.report import ImportReport
    from sdg_data.ingest.report_cli import conclude
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    whole = {**options, "limit": how.limit, "replace": how.replace}
    command = ImportCommand(name, whole, limit=how.limit, dry_run=how.dry_run, replace=how.replace)
    with ImportReport(source, unit=UNIT) as report, _shown_though_it_fails(report, how):
        counts = import_rows(
            Store(settings.home), Blobs(settings.blob_url), source, rows, command=command, report=report
        )
        if how.as_json:
            print_json(asdict(counts))
        else:
            print_table([asdict(counts)], ["source", "read", "new", "already_there", "labels", "failed"])
        if how.dry_run:
            say("dry run: nothing was stored")
        conclude([report], report_file=how.report, as_json=how.as_json)


@contextmanager
def _shown_though_it_fails(report: Any, how: HowToRun) -> Iterator[None]:
    """Where nothing can be used the command is an error, but what was refused is shown and written."""
    from sdg_data.errors import InputError
    from sdg_data.ingest.report import write_report

    try:
        yield
    except InputError:
        if report.refused:
            if not how.as_json:
                print_table(report.rows())
            if how.report is not None:
                write_report([report], how.report)
        raise
