"""The commands `sdg export run`, `verify` and `formats`; `sdg import` is in `exports.imports.cli`."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from sdg_data.console import WorkOptions, command_group, print_json, print_table, say, settings_of
from sdg_data.option_groups import grouped

if TYPE_CHECKING:
    from exports.run import ExportPreview, ExportResult
    from sdg_data.settings import Settings
    from sdg_data.store.connection import Store
    from sdg_data.work import Executor

app = command_group("Write datasets from the store, and check them.")

_Model = TypeVar("_Model")


def _option(panel: str, help_text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel, **more)


WHAT = "What to write, and where"
LABELS = "Whose labels"
IMAGES = "Which images"
WRITING = "How to write"
CHAT = "Chat formats (trl, ms-swift, llama-factory, release-jsonl)"
SOME = "Single formats"
RUNNING = "How to run"

_THREADS = 2
"""Files that are written at a time where nothing else is said."""

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout", rich_help_panel=RUNNING)]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Count, look at the folder and the disk, write nothing", rich_help_panel=RUNNING),
]
Texts = list[str] | None


@app.command()
@grouped
def run(
    ctx: typer.Context,
    *,
    format_name: Annotated[str, _option(WHAT, "See `sdg export formats`", "--format")] = "webdataset",
    name: Annotated[str, _option(WHAT, "The dataset's name; files begin with it")] = "sdg",
    output: Annotated[
        str | None, _option(WHAT, "Folder or URL; default: HOME/exports/NAME-FORMAT. Run again to go on")
    ] = None,
    overwrite: Annotated[bool, _option(WHAT, "Replace another export that is there; other files stay")] = False,
    push_to_hub: Annotated[str | None, _option(WHAT, "Upload the finished folder there", metavar="REPO")] = None,
    select: Annotated[
        str, _option(LABELS, "gold, known-answers, prelabel:MODEL, annotator:NAME or source:PREFIX")
    ] = "gold",
    rounds: Annotated[int, _option(LABELS, "Gold accepted in at least this round of review", min=1)] = 1,
    unreviewed: Annotated[bool, _option(LABELS, "Gold: also single annotations that nobody reviewed")] = False,
    fill_prelabels: Annotated[
        str | None, _option(LABELS, "Gold: this model's prelabels where nobody annotated", metavar="MODEL")
    ] = None,
    without_source: Annotated[Texts, _option(LABELS, "Gold: no annotations whose source begins so")] = None,
    state: Annotated[Texts, _option(LABELS, "Only labels: accepted, unreviewed, prelabel or annotator")] = None,
    since: Annotated[datetime | None, _option(LABELS, "Labels stated then or later (UTC)")] = None,
    until: Annotated[datetime | None, _option(LABELS, "Labels stated before (UTC)")] = None,
    names: Annotated[bool, _option(LABELS, "People's names instead of pseudonyms")] = False,
    split: Annotated[Texts, _option(IMAGES, "Only this split (may be given again)")] = None,
    model: Annotated[Texts, _option(IMAGES, "Only images of this model (may be given again)")] = None,
    licence: Annotated[Texts, _option(IMAGES, "Only images of this licence (may be given again)")] = None,
    which: Annotated[str, _option(IMAGES, "all, clean or defective images")] = "all",
    without_cut_prompts: Annotated[
        bool, _option(IMAGES, "No images whose model read only the beginning of the prompt", "--without-cut-prompts")
    ] = False,
    images: Annotated[
        Path | None, _option(IMAGES, "Only the images of this list: one id a line ('-': from stdin)", metavar="FILE")
    ] = None,
    min_agreement: Annotated[float | None, _option(IMAGES, "Least agreement of two annotators, both types")] = None,
    min_quality: Annotated[float | None, _option(IMAGES, "Least quality, 0..1 (docs/exports.md)")] = None,
    max_quality: Annotated[float | None, _option(IMAGES, "Highest quality")] = None,
    sample: Annotated[int | None, _option(IMAGES, "So many, in proportion to split, model and kind", min=1)] = None,
    seed: Annotated[int, _option(IMAGES, "Shapes the order and the sampling")] = 0,
    shard_mb: Annotated[float, _option(WRITING, "Size of a shard in MB (10^6 bytes)", min=0.000001)] = 512,
    phash: Annotated[bool, _option(WRITING, "Look for near-duplicate images across splits")] = True,
    template: Annotated[str | None, _option(CHAT, "The question; default: detect-1")] = None,
    trace: Annotated[bool, _option(CHAT, "The reasoning in the answers")] = True,
    system: Annotated[str | None, _option(CHAT, "A system prompt")] = None,
    axis_order: Annotated[str, _option(SOME, "ms-swift GRPO boxes: xyxy or yxyx")] = "xyxy",
    heatmap_side: Annotated[int, _option(SOME, "heatmaps: cells a side", min=1)] = 512,
    margin: Annotated[float, _option(SOME, "preferences: least difference in quality")] = 0.05,
    set_option: Annotated[
        Texts, _option(SOME, "An option of a format that another package adds", "--set", metavar="NAME=VALUE")
    ] = None,
    work: WorkOptions,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write a dataset: the same bytes for the same store and settings. Interrupted or killed: run it again to go on.

    Exit code 10: images that cannot be read, or listed ones that have no labels, were left out.
    """
    from exports.dataset.select import Selection
    from exports.files.target import Target
    from exports.formats import load_format
    from exports.run import preview_export, run_export
    from sdg_data.blobs import Blobs
    from sdg_data.errors import ConfigError, ExitCode
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    if names and settings.annotate.anonymous:
        raise ConfigError("people are anonymous here, so their names are not exported", item="--names and `anonymous`")
    store = Store(settings.home)
    listed = None if images is None else _listed(store, images)
    selection = _validated(
        Selection,
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
        without_cut_prompts=without_cut_prompts,
        images=listed,
    )
    if axis_order not in ("xyxy", "yxyx"):
        raise ConfigError(f"an axis order is xyxy or yxyx, not {axis_order!r}")
    options = _validated(
        load_format(format_name).options,
        shard_bytes=round(shard_mb * 1e6) or 1,
        axis_order=axis_order,
        trace=trace,
        system=system,
        heatmap_side=heatmap_side,
        margin=margin,
        phash=phash,
        **({} if template is None else {"template": template}),
        **_assignments(set_option or []),
    )
    folder = output or str(settings.home / "exports" / f"{name}-{format_name}")
    if push_to_hub is not None and "://" in folder:
        raise ConfigError("--push-to-hub uploads a folder of this machine", item=folder, hint="Leave --output out.")
    blobs = Blobs(settings.blob_url)
    if dry_run:
        preview = preview_export(
            store, blobs, Target(folder), format_name=format_name, name=name, selection=selection,
            overwrite=overwrite, hub=push_to_hub,
        )  # fmt: skip
        _preview(preview, as_json)
        return
    threads, executor = _writers(settings, work)
    result = run_export(
        store,
        blobs,
        Target(folder),
        format_name=format_name,
        name=name,
        selection=selection,
        options=options,
        workers=threads,
        executor=executor,
        overwrite=overwrite,
    )
    _report(result, as_json)
    say(f"sealed as {result.manifest.seal()}")
    for path in result.mended:
        say(f"{path} was damaged: it was made anew")
    for error in result.left_out[:10]:
        say(f"left out: {error}")
    if result.left_out:
        say(f"{len(result.left_out)} images are left out: they cannot be read; each is a failure in the store")
    unlabelled = result.considered.unlabelled
    if unlabelled:
        some = ", ".join(unlabelled[:5]) + (", …" if len(unlabelled) > 5 else "")
        say(
            f"{len(unlabelled)} of the {len(listed or ())} listed images have no labels from {select}, left out: {some}"
        )
    if push_to_hub is not None:
        from exports.describe.hub import push

        say(f"uploaded to {push(Path(folder), push_to_hub)}")
    if result.left_out or unlabelled:
        raise typer.Exit(int(ExitCode.PARTIAL))


def _writers(settings: "Settings", work: WorkOptions) -> "tuple[int, Executor | None]":
    """How many files are written at a time, and the workers that write them; without Ray, threads of this process."""
    from sdg_data.workers.choose import executor_of, work_settings

    chosen = work_settings(settings, work)
    if chosen.executor == "ray":
        return _THREADS, executor_of(settings, work, "export")
    return (int(work.workers) if work.workers not in (None, "auto") else _THREADS), None


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


def _validated(model: type[_Model], **values: Any) -> _Model:
    """A pydantic model of the options' values. Raises ConfigError that names the option."""
    from pydantic import ValidationError

    from sdg_data.errors import ConfigError

    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", item="sdg export run") from error


def _listed(store: "Store", path: Path) -> tuple[str, ...]:
    """The images that a file lists. Raises InputError where the store does not have one of them."""
    from sdg_data.store import image_list

    with store.read() as tx:
        return image_list.read_known(tx, path)


def _assignments(texts: list[str]) -> dict[str, str]:
    """`NAME=VALUE` texts as a table. Raises ConfigError for another form."""
    from sdg_data.errors import ConfigError

    for text in texts:
        if "=" not in text:
            raise ConfigError(f"--set takes NAME=VALUE, not {text!r}")
    return dict(text.split("=", 1) for text in texts)


def _preview(preview: "ExportPreview", as_json: bool) -> None:
    """Print how many images the selection has, how many each step left out, and what stands in the export's way."""
    from sdg_data.preflight.findings import as_rows, error_of, faults, show

    row = {**preview.considered.numbers(), **preview.splits}
    if as_json:
        print_json({**row, "findings": as_rows(preview.findings)})
    else:
        print_table([row])
        show(preview.findings)
    if wrong := faults(preview.findings):
        raise error_of(wrong[0])


def _report(result: "ExportResult", as_json: bool) -> None:
    manifest = result.manifest
    row = {
        "output": result.url,
        **manifest.counts["split"],
        "files": len(manifest.files),
        "bytes": sum(entry.bytes for entry in manifest.files),
        "made": result.made,
        "kept": result.kept,
        "left_out": len(result.left_out),
    }
    print_json({**row, "counts": manifest.counts}) if as_json else print_table([row])
