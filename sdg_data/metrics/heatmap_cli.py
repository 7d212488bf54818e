"""`sdg eval heatmaps`: maps against maps, or boxes drawn as maps."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.records import Split
from sdg_data.console import Names, names_option, print_table, say, settings_of
from sdg_data.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from sdg_data.metrics.heatmap_sources import MapSet
    from sdg_data.metrics.store_sources import Filter

_SOURCES = "a file or folder of maps, a release JSONL file, or gold, prelabel:MODEL, … of the store"


def heatmaps_command(
    ctx: typer.Context,
    gt: Annotated[str, typer.Option(help=f"True maps: {_SOURCES}")],
    pred: Annotated[str, typer.Option(help="Predicted maps: the same, joined by filepath, image_id or key")],
    protocol: Annotated[
        str, typer.Option(help="The ε of the KLD: richhf (1e-8, as RichHF-18K and ImageDoctor) or mit (2.2e-16)")
    ] = "richhf",
    side: Annotated[int, typer.Option(min=1, max=2048, help="Rows and columns in which true boxes are drawn")] = 64,
    split: Annotated[Split | None, typer.Option(help="Store: only images of this split")] = None,
    models: Annotated[
        Names | None, names_option(help="Store: only images of these generators, separated by commas")
    ] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write everything here ('-' is stdout)")] = None,
) -> None:
    """Measure heatmaps: MSE, CC, KLD, SIM, NSS, AUC-Judd, and the correlation of image-level scores.

    An image without a predicted map counts as one without any heat. The exit code is 10 where something was left out
    or could not be read.

    Raises:
        ConfigError: There is no such protocol.
        typer.Exit: With `ExitCode.PARTIAL`.
    """
    from sdg_data.metrics.heatmap_eval import compare_maps, heatmap_rows
    from sdg_data.metrics.heatmaps import HeatmapProtocol
    from sdg_data.metrics.report import write_json
    from sdg_data.metrics.store_sources import Filter

    if protocol not in list(HeatmapProtocol):
        raise ConfigError(f"--protocol is {' or '.join(HeatmapProtocol)}, not {protocol}")
    chosen = Filter(None if models is None else tuple(models), split)
    truth, guess = _read(ctx, gt, "gt", chosen), _read(ctx, pred, "pred", chosen)
    document = compare_maps(truth, guess, protocol=HeatmapProtocol(protocol), side=side)
    left_out = False
    for name, side_of in ((gt, "gt"), (pred, "pred")):
        failures = document["failures"][side_of]
        if failures:
            first = ", ".join(f"{failure['filepath']} ({failure['code']})" for failure in failures[:3])
            say(f"{name}: {len(failures)} could not be read: {first}")
            left_out = True
    if document["extra"]:
        say(f"{len(document['extra'])} predicted images have no ground truth, left out: {document['extra'][0]}, …")
        left_out = True
    if json_out is not None:
        write_json(document, None if str(json_out) == "-" else json_out)
    if json_out is None or str(json_out) != "-":
        print_table(heatmap_rows(document))
        quiet = ", ".join(f"{len(names)} without a predicted {kind} map" for kind, names in document["silent"].items())
        typer.echo(f"{document['images']} images; {quiet} (counted as empty maps).")
        for kind, names in document["unknown"].items():
            if names:
                typer.echo(f"{len(names)} without a true {kind} map, left out of its figures: {names[0]}, …")
        sys.stdout.flush()
    if left_out:
        raise typer.Exit(int(ExitCode.PARTIAL))


def _read(ctx: typer.Context, name: str, side: str, chosen: "Filter") -> "MapSet":
    """The maps of a source, whatever kind it is of."""
    from sdg_data.blobs import Blobs
    from sdg_data.metrics.heatmap_sources import boxes_as_maps, is_file_of_maps, read_maps
    from sdg_data.metrics.release_files import ReleaseFile
    from sdg_data.metrics.store_sources import StoreSource, parse_source
    from sdg_data.store.connection import Store

    source = parse_source(name)
    if source is not None:
        settings = settings_of(ctx)
        return boxes_as_maps(StoreSource(Store(settings.home), source, chosen, Blobs(settings.blob_url)).read())
    if is_file_of_maps(Path(name)):
        return read_maps(Path(name))
    return boxes_as_maps(ReleaseFile(Path(name), "gt" if side == "gt" else "pred").read())
