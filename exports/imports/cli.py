"""`sdg import`: webdataset, coco, fiftyone, datumaro, cvat, release-jsonl, richhf, masks; list and withdraw."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdg_data.console import print_json, print_table, say, settings_of
from sdg_data.ingest.report_cli import ReportFile

if TYPE_CHECKING:
    from exports.imports.records import ExternalOptions
    from exports.imports.richhf_names import FileNames
    from exports.imports.rows import ImportRow
    from schemas.defect import DefectType

import_app = typer.Typer(
    help="Bring datasets in, with their defects: our exports, and others'.", no_args_is_help=True, add_completion=False
)

FILES = "Where the images are"
ASSUMED = "Where the file does not say"
HOW = "How to run"

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout", rich_help_panel=HOW)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count, write nothing", rich_help_panel=HOW)]
Limit = Annotated[int | None, typer.Option(min=1, help="Read this many rows", rich_help_panel=HOW)]
Replace = Annotated[
    bool, typer.Option("--replace", help="Let it change what counts for images of the store", rich_help_panel=HOW)
]
TakeSound = Annotated[
    bool, typer.Option("--take-sound", help="Leave damaged shards out, instead of refusing all", rich_help_panel=HOW)
]
Images = Annotated[Path | None, typer.Option(help="The images' folder; default: the file's own", rich_help_panel=FILES)]
Prompts = Annotated[Path | None, typer.Option(help="The prompts, by picture name (JSON)", rich_help_panel=FILES)]
Reason = Annotated[str | None, typer.Option(help="A reason for shapes that have none", rich_help_panel=ASSUMED)]
Licence = Annotated[str, typer.Option(help="The images' licence; exports filter by it", rich_help_panel=ASSUMED)]
Model = Annotated[str, typer.Option(help="The model that made the images", rich_help_panel=ASSUMED)]
Origin = Annotated[
    str | None, typer.Option("--source", help="Where they are from; default: the file's name", rich_help_panel=ASSUMED)
]
OneSplit = Annotated[
    str | None,
    typer.Option("--split", help="The split of rows that say neither train nor test", rich_help_panel=ASSUMED),
]
SplitMap = Annotated[
    list[str] | None,
    typer.Option(
        "--split-map",
        metavar="WORD=SPLIT",
        help="What another word for a split means: val=test",
        rich_help_panel=ASSUMED,
    ),
]


@import_app.command("webdataset")
def import_webdataset(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="Our shards: an export's folder or URL, a tar file, a pattern")],
    take_sound: TakeSound = False,
    seal: Annotated[
        str | None,
        typer.Option(
            help="The manifest's digest, as its maker told you: pictures are not decoded again", rich_help_panel=FILES
        ),
    ] = None,
    replace: Replace = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Bring shards back that `sdg export` wrote: prompts, images, and where their defects came from."""
    from exports.imports.ours import webdataset_rows

    options: dict[str, Any] = {"take_sound": take_sound} if seal is None else {"take_sound": take_sound, "seal": seal}
    run = _Run(ctx, "webdataset", source, options, limit, replace, dry_run, report, as_json)
    run.store(webdataset_rows(source, take_sound=take_sound, seal=seal))


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
    split: OneSplit = None,
    split_map: SplitMap = None,
    origin: Origin = None,
    replace: Replace = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Bring COCO boxes in. Categories are called artifact and misalignment; images have a prompt or a caption."""
    from exports.imports.coco import coco_rows
    from exports.imports.splits import split_rule

    external = _external(ctx, file, images, licence, model, origin, reason=reason, splits=split_rule(split, split_map))
    run = _Run(ctx, "coco", str(file), _told(external), limit, replace, dry_run, report, as_json)
    run.store(coco_rows(file, external))


@import_app.command("fiftyone")
def import_fiftyone(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A FiftyOneDataset's folder, with samples.json")],
    images: Images = None,
    field: Annotated[str, typer.Option(help="The samples' field with the detections")] = "detections",
    licence: Licence = "unknown",
    model: Model = "unknown",
    reason: Annotated[
        str | None, typer.Option(help="A reason for boxes that have none", rich_help_panel=ASSUMED)
    ] = None,
    split: OneSplit = None,
    split_map: SplitMap = None,
    origin: Origin = None,
    replace: Replace = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Bring FiftyOne's detections in. Labels are artifact and misalignment; samples have a prompt or a caption."""
    from exports.imports.fiftyone import fiftyone_rows
    from exports.imports.splits import split_rule

    external = _external(
        ctx, folder, images, licence, model, origin, reason=reason, splits=split_rule(split, split_map)
    )
    run = _Run(
        ctx, "fiftyone", str(folder), {**_told(external), "field": field}, limit, replace, dry_run, report, as_json
    )
    run.store(fiftyone_rows(folder, external, field=field))


@import_app.command("release-jsonl")
def import_release(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Rows of the public SDG-30K, or of `--format release-jsonl`")],
    images: Images = None,
    licence: Licence = "unknown",
    split: OneSplit = None,
    split_map: SplitMap = None,
    origin: Origin = None,
    replace: Replace = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Bring the public release in: images, people's defects, traces; its own splits are kept."""
    from exports.imports.release import release_rows
    from exports.imports.splits import split_rule

    external = _external(ctx, file, images, licence, "unknown", origin, splits=split_rule(split, split_map))
    run = _Run(ctx, "release-jsonl", str(file), _told(external), limit, replace, dry_run, report, as_json)
    run.store(release_rows(file, external))


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
    replace: Replace = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Bring heatmap rows in: connected regions of heat become boxes; scores and marked words are kept."""
    from exports.imports.richhf import RichHFOptions, richhf_rows, split_of_file
    from exports.imports.richhf_names import FileNames, read_prompts

    external = _external(ctx, file, images, licence, model, origin)
    names = FileNames() if prompts is None else read_prompts(prompts)
    rows = richhf_rows(file, RichHFOptions(external, names, split_of_file(file, split), threshold))
    options = {**_told(external), "prompts": str(prompts or ""), "split": split, "threshold": threshold}
    _Run(ctx, "richhf", str(file), options, limit, replace, dry_run, report, as_json).store(rows)


@import_app.command("masks")
def import_masks(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(help="A folder with images/ and masks/CATEGORY/, SynthScars' JSON, or X-AIGD's parquet"),
    ],
    prompts: Annotated[
        Path | None, typer.Option(help="The prompts, by picture name (JSON)", rich_help_panel=FILES)
    ] = None,
    images: Images = None,
    category: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TYPE",
            help="A category's defect type: style=misalignment; else artifact",
            rich_help_panel=ASSUMED,
        ),
    ] = None,
    min_pixels: Annotated[int, typer.Option(min=1, help="The smallest region that becomes a box")] = 16,
    reason: Annotated[
        str | None, typer.Option(help="A reason for regions that have none", rich_help_panel=ASSUMED)
    ] = None,
    licence: Licence = "unknown",
    model: Model = "unknown",
    split: OneSplit = None,
    origin: Origin = None,
    replace: Replace = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Bring masks in: connected regions become boxes, categories and explanations their reasons."""
    from exports.imports.masks import MaskOptions, mask_rows
    from exports.imports.richhf_names import FileNames, read_prompts
    from exports.imports.splits import split_rule

    external = _external(ctx, source, images, licence, model, origin, reason=reason, splits=split_rule(split, None))
    names = FileNames() if prompts is None else read_prompts(prompts)
    rows = mask_rows(source, MaskOptions(external, names, _types(category), min_pixels))
    told = {"prompts": str(prompts or ""), "category": sorted(category or []), "min_pixels": min_pixels}
    _Run(ctx, "masks", str(source), {**_told(external), **told}, limit, replace, dry_run, report, as_json).store(rows)


def _types(pairs: list[str] | None) -> "dict[str, DefectType]":
    """The defect type of each category that `--category NAME=TYPE` names."""
    from schemas.defect import DefectType
    from sdg_data.errors import ConfigError

    types = {}
    for pair in pairs or []:
        name, equals, kind = pair.rpartition("=")
        if not equals or kind not in list(DefectType):
            hint = f"NAME={' or NAME='.join(DefectType)}."
            raise ConfigError(f"{pair!r} gives no category a type", item="--category", hint=hint)
        types[name] = DefectType(kind)
    return types


@import_app.command("datumaro")
def import_datumaro(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="A dataset's folder with annotations/*.json, or one such file")],
    images: Images = None,
    prompts: Prompts = None,
    licence: Licence = "unknown",
    model: Model = "unknown",
    reason: Reason = None,
    split: OneSplit = None,
    split_map: SplitMap = None,
    origin: Origin = None,
    replace: Replace = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Bring Datumaro's annotations in. Labels are artifact and misalignment; reasons stand in attributes."""
    from exports.imports.datumaro import datumaro_rows

    external, names = _of_a_tool(ctx, source, images, prompts, licence, model, origin, reason, split, split_map)
    options = {**_told(external), "prompts": str(prompts or "")}
    run = _Run(ctx, "datumaro", str(source), options, limit, replace, dry_run, report, as_json)
    run.store(datumaro_rows(source, external, names))


@import_app.command("cvat")
def import_cvat(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="annotations.xml of an export as CVAT for images 1.1")],
    images: Images = None,
    prompts: Prompts = None,
    licence: Licence = "unknown",
    model: Model = "unknown",
    reason: Reason = None,
    split: OneSplit = None,
    split_map: SplitMap = None,
    origin: Origin = None,
    replace: Replace = False,
    limit: Limit = None,
    dry_run: DryRun = False,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Bring CVAT's shapes in. Labels are artifact and misalignment; reasons stand in attributes."""
    from exports.imports.cvat import cvat_rows

    external, names = _of_a_tool(ctx, file, images, prompts, licence, model, origin, reason, split, split_map)
    options = {**_told(external), "prompts": str(prompts or "")}
    run = _Run(ctx, "cvat", str(file), options, limit, replace, dry_run, report, as_json)
    run.store(cvat_rows(file, external, names))


def _of_a_tool(
    ctx: typer.Context,
    source: Path,
    images: Path | None,
    prompts: Path | None,
    licence: str,
    model: str,
    origin: str | None,
    reason: str | None,
    split: str | None,
    split_map: list[str] | None,
) -> "tuple[ExternalOptions, FileNames]":
    """What holds for an annotation tool's file, and the prompts by picture name."""
    from exports.imports.richhf_names import FileNames, read_prompts
    from exports.imports.splits import split_rule

    splits = split_rule(split, split_map)
    external = _external(ctx, source, images, licence, model, origin, reason=reason, splits=splits)
    return external, FileNames() if prompts is None else read_prompts(prompts)


@import_app.command("list")
def list_imports(ctx: typer.Context, as_json: Json = False) -> None:
    """List what was imported, what each import brought, and which of them did not end."""
    from sdg_data.store import imports
    from sdg_data.store.connection import Store

    with Store(settings_of(ctx).home).read() as tx:
        entries = [(entry, imports.brought(tx, entry.id)) for entry in imports.listed(tx)]
    if as_json:
        print_json(
            [
                {
                    **asdict(entry),
                    "started": entry.started.isoformat(),
                    "ended": None if entry.ended is None else entry.ended.isoformat(),
                    "brought": brought,
                }
                for entry, brought in entries
            ]
        )
        return
    print_table(
        [
            {
                "id": entry.id,
                "command": entry.command,
                "source": entry.source,
                "state": entry.state,
                "started": f"{entry.started:%Y-%m-%d %H:%M}",
                "brought": ", ".join(f"{number} {kind}" for kind, number in brought.items()),
            }
            for entry, brought in entries
        ],
        ["id", "command", "source", "state", "started", "brought"],
    )


@import_app.command("withdraw")
def withdraw_import(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", help="The import's number in `sdg import list`")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and what would stay")] = False,
    as_json: Json = False,
) -> None:
    """Take an import back: whatever it brought goes, but for what others have come to depend on, which is named.

    An import that did not end can be withdrawn as well; so can one whose withdrawal did not end.
    """
    from sdg_data.blobs import Blobs
    from sdg_data.errors import ExitCode
    from sdg_data.ingest.import_unit import withdraw
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    deleted, stays = withdraw(Store(settings.home), Blobs(settings.blob_url), number, dry_run=dry_run)
    if as_json:
        print_json({"import": number, "deleted": deleted, "stays": stays})
    else:
        print_table([{"kind": kind, "deleted": count} for kind, count in deleted.items()], ["kind", "deleted"])
    if dry_run:
        say("dry run: nothing was deleted")
    if stays:
        for kind, ids in stays.items():
            more = f" … ({len(ids) - 3} more)" if len(ids) > 3 else ""
            say(f"{len(ids)} of kind {kind} stay, for others depend on them: {', '.join(ids[:3])}{more}")
        raise typer.Exit(int(ExitCode.PARTIAL))


def _external(
    ctx: typer.Context, file: Path, images: Path | None, licence: str, model: str, origin: str | None, **rest: Any
) -> "ExternalOptions":
    from exports.imports.records import ExternalOptions
    from sdg_data.ingest.prompts import stored_aliases
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    known = stored_aliases(Store(settings.home))
    share = settings.prompts.test_share
    name = file.name if file.name not in ("", "..") else file.resolve().name  # a folder named from within it
    return ExternalOptions(origin or name, images, share, licence, model, aliases=known, **rest)


def _told(external: "ExternalOptions") -> dict[str, Any]:
    """The options as an import's entry holds them."""
    return {
        "source": external.where,
        "images": None if external.folder is None else str(external.folder),
        "licence": external.licence,
        "model": external.model,
        "reason": external.reason,
        "split": external.splits.given,
        "split_map": dict(external.splits.by_name),
    }


class _Run:
    """One importing command, from its options to its exit code."""

    def __init__(
        self,
        ctx: typer.Context,
        name: str,
        source: str,
        options: dict[str, Any],
        limit: int | None,
        replace: bool,
        dry_run: bool,
        report_file: Path | None,
        as_json: bool,
    ) -> None:
        from exports.imports.store_rows import ImportCommand

        self._settings = settings_of(ctx)
        self._source, self._report_file, self._as_json = source, report_file, as_json
        whole = {**options, "limit": limit, "replace": replace}
        self._command = ImportCommand(name, whole, limit=limit, dry_run=dry_run, replace=replace)

    def store(self, rows: "Iterator[ImportRow]") -> None:
        """Import the rows, say what became of them, and end the command."""
        from exports.imports.store_rows import UNIT, import_rows
        from sdg_data.blobs import Blobs
        from sdg_data.ingest.report import ImportReport
        from sdg_data.ingest.report_cli import conclude
        from sdg_data.store.connection import Store

        settings = self._settings
        with ImportReport(self._source, unit=UNIT) as report, self._shown_though_it_fails(report):
            counts = import_rows(
                Store(settings.home),
                Blobs(settings.blob_url),
                self._source,
                rows,
                command=self._command,
                report=report,
            )
            if self._as_json:
                print_json(asdict(counts))
            else:
                print_table([asdict(counts)], ["source", "read", "new", "already_there", "labels", "failed"])
            if self._command.dry_run:
                say("dry run: nothing was stored")
            conclude([report], report_file=self._report_file, as_json=self._as_json)

    @contextmanager
    def _shown_though_it_fails(self, report: Any) -> "Iterator[None]":
        """Where nothing can be used the command is an error, but what was refused is shown and written."""
        from sdg_data.errors import InputError
        from sdg_data.ingest.report import write_report

        try:
            yield
        except InputError:
            if report.refused:
                if not self._as_json:
                    print_table(report.rows())
                if self._report_file is not None:
                    write_report([report], self._report_file)
            raise
