"""`sdg prompts`: import, list, stats."""

from dataclasses import asdict
from typing import Annotated

import typer

from schemas.records import Split
from sdg_data.console import (
    Json,
    chosen_test_share,
    command_group,
    print_json,
    print_json_line,
    print_table,
    say,
    settings_of,
)
from sdg_data.ingest.prompts import PromptImportOptions, import_prompts
from sdg_data.ingest.report import ImportReport
from sdg_data.ingest.report_cli import ReportFile, conclude, reporting
from sdg_data.store import prompts
from sdg_data.store.connection import Store

app = command_group("Import, list and count prompts.")

PAGE = 10_000


@app.command("import")
def import_command(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help=".txt .csv .tsv .jsonl .parquet .arrow, or hf:owner/name[:config]"),
    ],
    column: Annotated[
        str | None, typer.Option(help="The text's column; without it caption, prompt or text is looked for")
    ] = None,
    test_share: Annotated[
        float | None, typer.Option(help="Fraction for the test split; default: the profile's")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Where the prompts are from; default: the file's name")] = None,
    licence: Annotated[str | None, typer.Option(help="The prompts' licence, kept with each")] = None,
    hub_split: Annotated[str, typer.Option(help="The split of a Hugging Face dataset to read")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="Read this many rows of each file")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count, store nothing")] = False,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Import prompts: normalised, deduplicated, split by prompt id.

    A bad row is reported by file and line and goes to a file under HOME/rejects; the rest is imported, and the exit
    code is 10.
    """
    settings = settings_of(ctx)
    options = PromptImportOptions(
        test_share=chosen_test_share(settings, test_share),
        column=column,
        source=source,
        licence=licence,
        limit=limit,
        hub_split=hub_split,
        dry_run=dry_run,
    )
    reports: list[ImportReport] = []
    with reporting(reports, report):
        results = import_prompts(Store(settings.home), files, options, reports=reports)
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        columns = ["file", "read", "new", "duplicates_in_file", "already_there", "rejected"]
        print_table([asdict(result) for result in results], columns)
    for result in results:
        if result.rejects_file:
            say(f"{result.file}: {result.rejected} rejected rows are in {result.rejects_file}")
    if dry_run:
        say("dry run: nothing was stored")
    conclude(reports, report_file=report, as_json=as_json)


@app.command("list")
def list_command(
    ctx: typer.Context,
    split: Annotated[Split | None, typer.Option(help="Only this split")] = None,
    source: Annotated[str | None, typer.Option(help="Only prompts from there")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSONL on stdout")] = False,
) -> None:
    """List prompts, in id order."""
    store = Store(settings_of(ctx).home)
    after, left = "", limit
    while left is None or left > 0:
        with store.read() as tx:
            page = prompts.page(tx, split=split, source=source, after=after, limit=min(PAGE, left or PAGE))
        if not page:
            return
        for prompt in page:
            if as_json:
                print_json_line(prompt.model_dump(mode="json"))
            else:
                print(f"{prompt.id}  {prompt.split:5}  {prompt.text}")
        after = page[-1].id
        left = None if left is None else left - len(page)


@app.command()
def stats(ctx: typer.Context, as_json: Json = False) -> None:
    """Counts and lengths (in characters) by source, licence and split."""
    with Store(settings_of(ctx).home).read() as tx:
        rows = prompts.statistics(tx)
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows)
    else:
        say("There are no prompts yet: sdg prompts import FILE")
