"""`sdg images import` and `sdg images list`."""

from dataclasses import asdict
from typing import Annotated

import typer

from schemas.records import Split
from sdg_data.blobs import Blobs
from sdg_data.console import chosen_test_share, print_json, print_json_line, print_table, say, settings_of
from sdg_data.ingest.images import UNKNOWN, ImageImportOptions, import_images
from sdg_data.ingest.report import ImportReport
from sdg_data.ingest.report_cli import ReportFile, conclude, reporting
from sdg_data.store import images, rewritten_prompts
from sdg_data.store.connection import Store

PAGE = 10_000


def import_command(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(help="A folder, tar shards (a.tar, 'part-{000..012}.tar', 'x/*.tar'), or hf:owner/name")
    ],
    model: Annotated[str, typer.Option(help="The model that made them, where their own data does not say")] = UNKNOWN,
    revision: Annotated[str, typer.Option(help="Its revision, likewise")] = UNKNOWN,
    licence: Annotated[str, typer.Option(help="Their licence, likewise; exports filter by it")] = UNKNOWN,
    origin: Annotated[
        str | None, typer.Option("--source", help="Where they are from; default: the source's name")
    ] = None,
    column: Annotated[str | None, typer.Option(help="The prompt's column; else caption, prompt or text")] = None,
    test_share: Annotated[
        float | None, typer.Option(help="Fraction of prompts for test; default: the profile's")
    ] = None,
    hub_split: Annotated[str, typer.Option(help="The split of a Hugging Face dataset to read")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many images")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count, store nothing")] = False,
    report_file: ReportFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout")] = False,
) -> None:
    """Bring images made elsewhere, with their prompts; they keep their bytes, their source and their licence.

    Prompts come from metadata.jsonl, .csv or .parquet (file_name and a prompt column), a .txt or .json beside each
    image, the .txt or .json of a shard's sample, or a dataset's column. An image that cannot be used is recorded as a
    failure; the exit code is 10 when anything was left out.
    """
    settings = settings_of(ctx)
    options = ImageImportOptions(
        test_share=chosen_test_share(settings, test_share),
        model=model,
        revision=revision,
        licence=licence,
        source=origin,
        column=column,
        hub_split=hub_split,
        limit=limit,
        dry_run=dry_run,
    )
    report = ImportReport(source, unit="images")
    with reporting([report], report_file):
        counts = import_images(Store(settings.home), Blobs(settings.blob_url), source, options, report=report)
    if as_json:
        print_json(asdict(counts))
    else:
        print_table([asdict(counts)], ["source", "read", "new", "already_there", "failed", "new_prompts"])
    if dry_run:
        say("dry run: nothing was stored")
    conclude([report], report_file=report_file, as_json=as_json)


def list_command(
    ctx: typer.Context,
    model: Annotated[list[str] | None, typer.Option(help="Only this model (may be given again)")] = None,
    split: Annotated[Split | None, typer.Option(help="Only this split")] = None,
    cut: Annotated[
        bool | None,
        typer.Option("--cut-prompts/--whole-prompts", help="Only images whose model read a part of the prompt, or all"),
    ] = None,
    rewritten: Annotated[
        bool | None,
        typer.Option(
            "--rewritten/--as-written", help="Only images whose model rewrote the prompt first, or the others"
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSONL on stdout")] = False,
) -> None:
    """List stored images, in id order. --json has what each was drawn from, where its model rewrote the prompt."""
    settings = settings_of(ctx)
    store, blobs = Store(settings.home), Blobs(settings.blob_url)
    after, left = "", limit
    while left is None or left > 0:
        with store.read() as tx:
            page = images.page(
                tx,
                models=model or None,
                split=split,
                cut=cut,
                rewritten=rewritten,
                after=after,
                limit=min(PAGE, left or PAGE),
            )
            texts = rewritten_prompts.of_images(tx, [record.id for record in page])
        if not page:
            return
        for record in page:
            if as_json:
                drawn = {"drawn_from": texts[record.id]} if record.id in texts else {}
                print_json_line({**record.model_dump(mode="json"), **drawn, "path": blobs.path(record.blob)})
            else:
                print(f"{record.id}  {record.width}x{record.height}  {record.model}  {blobs.path(record.blob)}")
        after = page[-1].id
        left = None if left is None else left - len(page)
