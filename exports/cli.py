"""`sdg export`: run, verify, formats. `sdg import`: webdataset, coco, release-jsonl, richhf."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdg_data.console import print_json, print_table, say, settings_of

if TYPE_CHECKING:
    from exports.dataset.select import Selection
    from exports.imports.ours import Imported

app = typer.Typer(help="Write datasets from the store, and check them.", no_args_is_help=True, add_completion=False)
import_app = typer.Typer(
    help="Bring datasets in, with their defects: our exports, and others'.", no_args_is_help=True, add_completion=False
)

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count, write nothing")]
Images = Annotated[Path | None, typer.Option(help="The images' folder; default: the file's own")]
Licence = Annotated[str, typer.Option(help="The images' licence; exports filter by it")]
Limit = Annotated[int | None, typer.Option(min=1, help="Read this many rows")]
Origin = Annotated[str | None, typer.Option("--source", help="Where they are from; default: the file's name")]


@app.command()
def run(
    ctx: typer.Context,
    format_name: Annotated[str, typer.Option("--format", help="See `sdg export formats`")] = "webdataset",
    name: Annotated[str, typer.Option(help="The dataset's name; files begin with it")] = "sdg",
    output: Annotated[
        str | None, typer.Option(help="Folder or URL; default: HOME/exports/NAME-FORMAT. Run again to go on")
    ] = None,
    select: Annotated[str, typer.Option(help="gold, prelabel:MODEL, annotator:NAME or source:PREFIX")] = "gold",
    rounds: Annotated[int, typer.Option(min=1, help="Gold accepted in at least this round of review")] = 1,
    unreviewed: Annotated[bool, typer.Option(help="Gold: also single annotations that nobody reviewed")] = False,
    fill_prelabels: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Gold: this model's prelabels where nobody annotated")
    ] = None,
    without_source: Annotated[
        list[str] | None, typer.Option(help="Gold: no annotations whose source begins so")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split (may be given again)")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only images of this model (may be given again)")] = None,
    licence: Annotated[list[str] | None, typer.Option(help="Only images of this licence (may be given again)")] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="Only labels that are accepted, unreviewed, prelabel or annotator")
    ] = None,
    which: Annotated[str, typer.Option(help="all, clean or defective images")] = "all",
    since: Annotated[datetime | None, typer.Option(help="Labels stated then or later (UTC)")] = None,
    until: Annotated[datetime | None, typer.Option(help="Labels stated before (UTC)")] = None,
    min_agreement: Annotated[float | None, typer.Option(help="Least agreement of two annotators, both types")] = None,
    min_quality: Annotated[float | None, typer.Option(help="Least quality, 0..1 (docs/exports.md)")] = None,
    max_quality: Annotated[float | None, typer.Option(help="Highest quality")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="So many, in proportion to split, model and kind")] = None,
    seed: Annotated[int, typer.Option(help="Shapes the order and the sampling")] = 0,
    names: Annotated[bool, typer.Option(help="People's names instead of pseudonyms")] = False,
    shard_mb: Annotated[float, typer.Option(min=0.000001, help="Size of a shard in MB (10^6 bytes)")] = 512,
    axis_order: Annotated[str, typer.Option(help="ms-swift GRPO boxes: xyxy or yxyx")] = "xyxy",
    template: Annotated[str | None, typer.Option(help="The question of chat formats; default: detect-1")] = None,
    trace: Annotated[bool, typer.Option(help="Chat formats: the reasoning in the answers")] = True,
    system: Annotated[str | None, typer.Option(help="Chat formats: a system prompt")] = None,
    heatmap_side: Annotated[int, typer.Option(min=1, help="Cells a side of a heatmap")] = 512,
    margin: Annotated[float, typer.Option(help="Preferences: least difference in quality")] = 0.05,
    phash: Annotated[bool, typer.Option(help="Look for near-duplicate images across splits")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Files written at a time; the bytes do not depend on it")] = 2,
    overwrite: Annotated[bool, typer.Option(help="Replace whatever the folder holds")] = False,
    push_to_hub: Annotated[str | None, typer.Option(metavar="REPO", help="Upload the finished folder there")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write a dataset: the same bytes for the same store and settings. Interrupted or killed: run it again to go on."""
    from exports.dataset.select import select as select_samples
    from exports.files.options import ExportOptions
    from exports.files.target import Target
    from exports.run import run_export
    from sdg_data.blobs import Blobs
    from sdg_data.errors import ConfigError
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    selection = _selection(
        source=select,
        rounds=rounds,
        unreviewed=unreviewed,
        fill_prelabels=fill_prelabels,
        without_sources=without_source or (),
        splits=split or (),
        models=model or (),
        licences=licence or (),
        states=state or (),
        which=which,
        since=None if since is None else since.replace(tzinfo=UTC),
        until=None if until is None else until.replace(tzinfo=UTC),
        min_agreement=min_agreement,
        min_quality=min_quality,
        max_quality=max_quality,
        sample=sample,
        seed=seed,
        names=names,
    )
    store = Store(settings.home)
    if dry_run:
        spool, considered = select_samples(store, selection)
        with spool:
            counts = {str(one): len(spool.of_split(one)) for one in spool.splits}
        facts = {**asdict(considered), **counts}
        print_json(facts) if as_json else print_table([facts])
        return
    if axis_order not in ("xyxy", "yxyx"):
        raise ConfigError(f"an axis order is xyxy or yxyx, not {axis_order!r}")
    given = {} if template is None else {"template": template}
    options = ExportOptions(
        shard_bytes=round(shard_mb * 1e6) or 1,
        axis_order=axis_order,
        trace=trace,
        system=system,
        heatmap_side=heatmap_side,
        margin=margin,
        phash=phash,
        **given,
    )
    where = output or str(settings.home / "exports" / f"{name}-{format_name}")
    if push_to_hub is not None and "://" in where:
        raise ConfigError("--push-to-hub uploads a folder of this machine", item=where, hint="Leave --output out.")
    done = run_export(
        store,
        Blobs(settings.blob_url),
        Target(where),
        format_name=format_name,
        name=name,
        selection=selection,
        options=options,
        workers=workers,
        overwrite=overwrite,
    )
    row = {
        "output": done.url,
        **done.manifest.counts["split"],
        "files": len(done.manifest.files),
        "bytes": sum(entry.bytes for entry in done.manifest.files),
        "made": done.made,
        "kept": done.kept,
    }
    print_json({**row, "counts": done.manifest.counts}) if as_json else print_table([row])
    if push_to_hub is not None:
        from exports.describe.hub import push

        say(f"uploaded to {push(Path(where), push_to_hub)}")


@app.command()
def verify(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="An export: a folder or a URL")], as_json: Json = False
) -> None:
    """Check an export: manifest, hashes, schema, splits, every image. Exit code 0 if it is sound, 1 if not."""
    from exports.files.target import Target
    from exports.verify import verify as check
    from sdg_data.errors import ExitCode
    from sdg_data.progress import Progress

    progress = Progress("verify", unit="steps")
    with progress.running(None):
        report = check(Target(folder), advance=progress.advance)
    if as_json:
        print_json({**asdict(report), "sound": report.sound})
    else:
        for problem in report.problems:
            print(problem)
        if report.unsaid:
            print(f"… and {report.unsaid} more")
    checked = ", ".join(f"{number} {what}" for what, number in report.checked.items())
    say(f"{report.url}: {'sound' if report.sound else 'DAMAGED'} ({checked})")
    if not report.sound:
        raise typer.Exit(int(ExitCode.ERROR))


@app.command()
def formats(as_json: Json = False) -> None:
    """List the formats."""
    from exports.formats import format_names, load_format

    descriptions = {name: load_format(name).description for name in format_names()}
    if as_json:
        print_json(descriptions)
    else:
        print_table([{"format": name, "what": what} for name, what in descriptions.items()])


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
    _tell(import_rows(store, blobs, source, webdataset_rows(source), limit=limit, dry_run=dry_run), dry_run, as_json)


@import_app.command("coco")
def import_coco(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A COCO detection file, ours or another's")],
    images: Images = None,
    licence: Licence = "unknown",
    model: Annotated[str, typer.Option(help="The model that made the images, where the file does not say")] = "unknown",
    reason: Annotated[str | None, typer.Option(help="A reason for boxes that have none")] = None,
    origin: Origin = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring COCO boxes in. Categories are called artifact and misalignment; images have a prompt or a caption."""
    from exports.imports.ours import coco_rows, import_rows
    from exports.imports.records import ForeignOptions
    from exports.imports.release import foreign_coco

    store, blobs = _stores(ctx)
    share = settings_of(ctx).prompts.test_share
    foreign = foreign_coco(ForeignOptions(origin or file.name, images, share, licence, model, reason))
    rows = coco_rows(file, images, foreign)
    _tell(import_rows(store, blobs, str(file), rows, limit=limit, dry_run=dry_run), dry_run, as_json)


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
    from exports.imports.records import ForeignOptions
    from exports.imports.release import release_rows

    store, blobs = _stores(ctx)
    share = settings_of(ctx).prompts.test_share
    rows = release_rows(file, ForeignOptions(origin or file.name, images, share, licence))
    _tell(import_rows(store, blobs, str(file), rows, limit=limit, dry_run=dry_run), dry_run, as_json)


@import_app.command("richhf")
def import_richhf(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="RichHF-18K's rows: a TFRecord or a parquet file")],
    prompts: Annotated[
        Path | None, typer.Option(help="The prompts, by file name (JSON); not needed where the rows have them")
    ] = None,
    images: Images = None,
    split: Annotated[
        str | None, typer.Option(help="All rows' split: train or test; default: from the file's name")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Least heat of a box's cells (maps are 0..1)")] = 0.25,
    licence: Licence = "unknown",
    model: Annotated[str, typer.Option(help="The model that made the images, where the rows do not say")] = "unknown",
    origin: Origin = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring heatmap rows in: connected regions of heat become boxes; scores and marked words are kept."""
    from exports.imports.ours import import_rows
    from exports.imports.records import ForeignOptions
    from exports.imports.richhf import RichHF, read_prompts, richhf_rows, split_of_file

    store, blobs = _stores(ctx)
    options = ForeignOptions(origin or file.name, images, settings_of(ctx).prompts.test_share, licence, model)
    known = {} if prompts is None else read_prompts(prompts)
    wanted = RichHF(options, known, split_of_file(file, split), threshold)
    rows = richhf_rows(file, wanted)
    _tell(import_rows(store, blobs, str(file), rows, limit=limit, dry_run=dry_run), dry_run, as_json)


def _selection(**values: Any) -> "Selection":
    from pydantic import ValidationError

    from exports.dataset.select import Selection
    from sdg_data.errors import ConfigError

    try:
        return Selection(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", item="sdg export run") from error


def _stores(ctx: typer.Context) -> tuple[Any, Any]:
    from sdg_data.blobs import Blobs
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    return Store(settings.home), Blobs(settings.blob_url)


def _tell(counts: "Imported", dry_run: bool, as_json: bool) -> None:
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
