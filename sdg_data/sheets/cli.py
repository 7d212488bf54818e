"""`sdg images sheet`."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.records import Split
from sdg_data.blobs import Blobs
from sdg_data.console import Names, names_option, say, settings_of
from sdg_data.errors import InputError
from sdg_data.sheets.cells import BOXES, cells
from sdg_data.sheets.draw import render_sheet
from sdg_data.store.connection import Store


def sheet_command(
    ctx: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write")] = Path("sheet.png"),
    models: Annotated[Names | None, names_option(help="Only these models, separated by commas, in this order")] = None,
    split: Annotated[Split | None, typer.Option(help="Only prompts of this split")] = None,
    limit: Annotated[int, typer.Option(min=1, max=2000, help="At most so many images")] = 24,
    columns: Annotated[int | None, typer.Option(min=1, max=40, help="A plain grid of so many columns")] = None,
    boxes: Annotated[str, typer.Option(help=f"Whose boxes: {BOXES}")] = "auto",
    tile: Annotated[int, typer.Option(min=48, max=1024, help="Side of a picture on the sheet, in pixels")] = 224,
    title: Annotated[str, typer.Option(help="A heading")] = "",
) -> None:
    """Draw a contact sheet (PNG): prompts by models where several models drew the same prompts, else a grid.

    Boxes are coloured by type and carry their importance; "no defects" is written only where somebody looked.
    """
    settings = settings_of(ctx)
    sheet_cells = cells(
        Store(settings.home),
        Blobs(settings.blob_url),
        models=models,
        split=split,
        limit=limit,
        boxes=boxes,
        order=settings.generate.models,
    )
    sheet = render_sheet(sheet_cells, title=title, columns=columns, tile=tile)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(output, format="PNG")
    except OSError as error:
        raise InputError(f"cannot write the sheet ({error.strerror or error})", item=str(output)) from error
    say(f"{len(sheet_cells)} images on {output}")
