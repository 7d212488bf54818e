"""`sdg import`: webdataset, coco, fiftyone, datumaro, cvat, release-jsonl, richhf, masks; list and withdraw."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exports.imports.command import (
    ASSUMED,
    FILES,
    HOW,
    HowToRun,
    Json,
    Model,
    OneSplit,
    Prompts,
    Published,
    Reason,
    Splits,
    external_options,
    prompts_by_name,
    run_import,
    stated_options,
)
from sdg_data.console import command_group, print_json, print_table, say, settings_of
from sdg_data.option_groups import grouped

if TYPE_CHECKING:
    from schemas.defect import DefectType

import_app = command_group("Bring datasets in, with their defects: our exports, and others'.")


@import_app.command("webdataset")
@grouped
def import_webdataset(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="Our shards: an export's folder or URL, a tar file, a pattern")],
    *,
    take_sound: Annotated[
        bool,
        typer.Option("--take-sound", help="Leave damaged shards out, instead of refusing all", rich_help_panel=HOW),
    ] = False,
    seal: Annotated[
        str | None,
        typer.Option(
            help="The manifest's digest, as its maker told you: pictures are not decoded again", rich_help_panel=FILES
        ),
    ] = None,
    how: HowToRun,
) -> None:
    """Bring shards back that `sdg export` wrote: prompts, images, and where their defects came from."""
    from exports.imports.ours import webdataset_rows

    options: dict[str, Any] = {"take_sound": take_sound} if seal is None else {"take_sound": take_sound, "seal": seal}
    run_import(ctx, "webdataset", source, webdataset_rows(source, take_sound=take_sound, seal=seal), options, how)


@import_app.command("coco")
@grouped
def import_coco(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A COCO detection file, ours or another's")],
    *,
    published: Published,
    model: Model = "unknown",
    reason: Reason = None,
    splits: Splits,
    how: HowToRun,
) -> None:
    """Bring COCO boxes in. Categories are called artifact and misalignment; images have a prompt or a caption."""
    from exports.imports.coco import coco_rows

    external = external_options(ctx, file, published, model=model, reason=reason, splits=splits.rule())
    run_import(ctx, "coco", str(file), coco_rows(file, external), stated_options(external), how)


@import_app.command("fiftyone")
@grouped
def import_fiftyone(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A FiftyOneDataset's folder, with samples.json")],
    *,
    published: Published,
    field: Annotated[str, typer.Option(help="The samples' field with the detections")] = "detections",
    model: Model = "unknown",
    reason: Reason = None,
    splits: Splits,
    how: HowToRun,
) -> None:
    """Bring FiftyOne's detections in. Labels are artifact and misalignment; samples have a prompt or a caption."""
    from exports.imports.fiftyone import fiftyone_rows

    external = external_options(ctx, folder, published, model=model, reason=reason, splits=splits.rule())
    rows = fiftyone_rows(folder, external, field=field)
    run_import(ctx, "fiftyone", str(folder), rows, stated_options(external, field=field), how)


@import_app.command("release-jsonl")
@grouped
def import_release(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Rows of the public SDG-30K, or of `--format release-jsonl`")],
    *,
    published: Published,
    splits: Splits,
    how: HowToRun,
) -> None:
    """Bring the public release in: images, people's defects, traces; its own splits are kept."""
    from exports.imports.release import release_rows

    external = external_options(ctx, file, published, splits=splits.rule())
    run_import(ctx, "release-jsonl", str(file), release_rows(file, external), stated_options(external), how)


@import_app.command("richhf")
@grouped
def import_richhf(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="RichHF-18K's rows: a TFRecord or a parquet file")],
    *,
    published: Published,
    prompts: Annotated[
        Path | None,
        typer.Option(help="The prompts, by file name (JSON); not needed where rows have them", rich_help_panel=FILES),
    ] = None,
    threshold: Annotated[float, typer.Option(help="Least heat of a box's cells (maps are 0..1)")] = 0.25,
    keep_maps: Annotated[
        bool, typer.Option("--keep-maps", help="Keep the maps too, a few kB each, to train a doctor on them")
    ] = False,
    model: Model = "unknown",
    split: Annotated[
        str | None,
        typer.Option(help="All rows' split: train or test; default: from the file's name", rich_help_panel=ASSUMED),
    ] = None,
    how: HowToRun,
) -> None:
    """Bring heatmap rows in: connected regions of heat become boxes; scores and marked words are kept."""
    from exports.imports.richhf import RichHFOptions, richhf_rows, split_of_file

    external = external_options(ctx, file, published, model=model)
    names, chosen = prompts_by_name(prompts), split_of_file(file, split)
    rows = richhf_rows(file, RichHFOptions(external, names, chosen, threshold, keep_maps))
    kept = {"keep_maps": True} if keep_maps else {}
    options = stated_options(external, prompts=str(prompts or ""), split=split, threshold=threshold, **kept)
    run_import(ctx, "richhf", str(file), rows, options, how)


@import_app.command("masks")
@grouped
def import_masks(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(help="A folder with images/ and masks/CATEGORY/, SynthScars' JSON, or X-AIGD's parquet"),
    ],
    *,
    published: Published,
    prompts: Prompts = None,
    category: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TYPE",
            help="A category's defect type: style=misalignment; else artifact",
            rich_help_panel=ASSUMED,
        ),
    ] = None,
    min_pixels: Annotated[int, typer.Option(min=1, help="The smallest region that becomes a box")] = 16,
    model: Model = "unknown",
    reason: Reason = None,
    split: OneSplit = None,
    how: HowToRun,
) -> None:
    """Bring masks in: connected regions become boxes, categories and explanations their reasons."""
    from exports.imports.masks import MaskOptions, mask_rows

    splits = Splits(split).rule()
    external = external_options(ctx, source, published, model=model, reason=reason, splits=splits)
    rows = mask_rows(source, MaskOptions(external, prompts_by_name(prompts), _types(category), min_pixels))
    options = stated_options(
        external, prompts=str(prompts or ""), category=sorted(category or []), min_pixels=min_pixels
    )
    run_import(ctx, "masks", str(source), rows, options, how)


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
@grouped
def import_datumaro(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="A dataset's folder with annotations/*.json, or one such file")],
    *,
    published: Published,
    prompts: Prompts = None,
    model: Model = "unknown",
    reason: Reason = None,
    splits: Splits,
    how: HowToRun,
) -> None:
    """Bring Datumaro's annotations in. Labels are artifact and misalignment; reasons stand in attributes."""
    from exports.imports.datumaro import datumaro_rows

    external = external_options(ctx, source, published, model=model, reason=reason, splits=splits.rule())
    rows = datumaro_rows(source, external, prompts_by_name(prompts))
    run_import(ctx, "datumaro", str(source), rows, stated_options(external, prompts=str(prompts or "")), how)


@import_app.command("cvat")
@grouped
def import_cvat(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="annotations.xml of an export as CVAT for images 1.1")],
    *,
    published: Published,
    prompts: Prompts = None,
    model: Model = "unknown",
    reason: Reason = None,
    splits: Splits,
    how: HowToRun,
) -> None:
    """Bring CVAT's shapes in. Labels are artifact and misalignment; reasons stand in attributes."""
    from exports.imports.cvat import cvat_rows

    external = external_options(ctx, file, published, model=model, reason=reason, splits=splits.rule())
    rows = cvat_rows(file, external, prompts_by_name(prompts))
    run_import(ctx, "cvat", str(file), rows, stated_options(external, prompts=str(prompts or "")), how)


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
