"""`sdg import`: webdataset, coco, release-jsonl, richhf."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdg_data.console import print_json, print_table, say, settings_of

if TYPE_CHECKING:
    from exports.imports.ours import ImportResult

import_app = typer.Typer(
    help="Bring datasets in, with their defects: our exports, and others'.", no_args_is_help=True, add_completion=False
)

FILES = "Where the images are"
ASSUMED = "Where the file does not say"
HOW = "How to run"

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout", rich_help_panel=HOW)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count, write nothing", rich_help_panel=HOW)]
Limit = Annotated[int | None, typer.Option(min=1, help="Read this many rows", rich_help_panel=HOW)]
Images = Annotated[Path | None, typer.Option(help="The images' folder; default: the file's own", rich_help_panel=FILES)]
Licence = Annotated[str, typer.Option(help="The images' licence; exports filter by it", rich_help_panel=ASSUMED)]
Model = Annotated[str, typer.Option(help="The model that made the images", rich_help_panel=ASSUMED)]
Origin = Annotated[
    str | None, typer.Option("--source", help="Where they are from; default: the file's name", rich_help_panel=ASSUMED)
]


@import_app.command("webdataset")
def import_webdataset(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="Our shards: an export's folder or URL, a tar file, a pattern")],
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring shards back that `sdg export` wrote: prompts, images, and where their defects came from."""
    from exports.imports.ours import import_rows, webdataset_rows

    store, blobs = _stores(ctx)
    _report(import_rows(store, blobs, source, webdataset_rows(source), limit=limit, dry_run=dry_run), dry_run, as_json)


@import_app.command("coco")
def import_coco(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A COCO detection file, ours or another's")],
    images: Images = None,
    licence: Licence = "unknown",
    model: Model = "unknown",
    reason: Annotated[
        str | None, typer.Option(help="A reason for boxes that have none", rich_help_panel=ASSUMED)
    ] = None,
    origin: Origin = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring COCO boxes in. Categories are called artifact and misalignment; images have a prompt or a caption."""
    from exports.imports.ours import coco_rows, import_rows
    from exports.imports.records import ExternalOptions
    from exports.imports.release import external_coco

    store, blobs = _stores(ctx)
    share = settings_of(ctx).prompts.test_share
    external = external_coco(ExternalOptions(origin or file.name, images, share, licence, model, reason))
    rows = coco_rows(file, images, external)
    _report(import_rows(store, blobs, str(file), rows, limit=limit, dry_run=dry_run), dry_run, as_json)


@import_app.command("release-jsonl")
def import_release(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Rows of the public SDG-30K, or of `--format release-jsonl`")],
    images: Images = None,
    licence: Licence = "unknown",
    origin: Origin = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring the public release in: images, people's defects, traces; its own splits are kept."""
    from exports.imports.ours import import_rows
    from exports.imports.records import ExternalOptions
    from exports.imports.release import release_rows

    store, blobs = _stores(ctx)
    share = settings_of(ctx).prompts.test_share
    rows = release_rows(file, ExternalOptions(origin or file.name, images, share, licence))
    _report(import_rows(store, blobs, str(file), rows, limit=limit, dry_run=dry_run), dry_run, as_json)


@import_app.command("richhf")
def import_richhf(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="RichHF-18K's rows: a TFRecord or a parquet file")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="The prompts, by file name (JSON); not needed where rows have them", rich_help_panel=FILES),
    ] = None,
    images: Images = None,
    split: Annotated[
        str | None,
        typer.Option(help="All rows' split: train or test; default: from the file's name", rich_help_panel=ASSUMED),
    ] = None,
    threshold: Annotated[float, typer.Option(help="Least heat of a box's cells (maps are 0..1)")] = 0.25,
    licence: Licence = "unknown",
    model: Model = "unknown",
    origin: Origin = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring heatmap rows in: connected regions of heat become boxes; scores and marked words are kept."""
    from exports.imports.ours import import_rows
    from exports.imports.records import ExternalOptions
    from exports.imports.richhf import RichHFOptions, read_prompts, richhf_rows, split_of_file

    store, blobs = _stores(ctx)
    options = ExternalOptions(origin or file.name, images, settings_of(ctx).prompts.test_share, licence, model)
    texts = {} if prompts is None else read_prompts(prompts)
    rows = richhf_rows(file, RichHFOptions(options, texts, split_of_file(file, split), threshold))
    _report(import_rows(store, blobs, str(file), rows, limit=limit, dry_run=dry_run), dry_run, as_json)


def _stores(ctx: typer.Context) -> tuple[Any, Any]:
    from sdg_data.blobs import Blobs
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    return Store(settings.home), Blobs(settings.blob_url)


def _report(counts: "ImportResult", dry_run: bool, as_json: bool) -> None:
    from sdg_data.errors import ExitCode

    if as_json:
        print_json(asdict(counts))
    else:
        print_table([asdict(counts)], ["source", "read", "new", "already_there", "labels", "failed"])
    if dry_run:
        say("dry run: nothing was stored")
    if counts.failed:
        reasons = ", ".join(f"{number} {code}" for code, number in sorted(counts.failed_by_code.items()))
        say(f"{counts.failed} rows could not be used: {reasons}")
        raise typer.Exit(int(ExitCode.PARTIAL))
