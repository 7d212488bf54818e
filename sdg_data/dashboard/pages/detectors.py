"""Two detectors side by side on the page Evaluate: what differs, by how much, and on which images."""

from collections.abc import Mapping
from typing import Any

from sdg_data.dashboard.html import browse_link, counted, figure, grid, link, number, picture_link, table
from sdg_data.dashboard.page import Rows
from sdg_data.dashboard.tables import blobs_of_images
from sdg_data.metrics.compare import compare
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.store_sources import Filter, read_source
from sdg_data.metrics.store_sources import SourceName as Source
from sdg_data.store.connection import Tx

SHOWN = 60
RESAMPLES = 500


def compare_detectors(
    tx: Tx, gt: Source, first: Source, second: Source, chosen: Filter, protocol: Protocol
) -> dict[str, Any]:
    """The document of `sdg eval compare --json`: both measured against `gt` on the images that both speak about."""
    truth, first_table, second_table = (read_source(tx, source, chosen) for source in (gt, first, second))
    return compare(truth, first_table, second_table, protocol=protocol, resamples=RESAMPLES)


def difference_rows(document: Mapping[str, Any]) -> Rows:
    """The headline metrics of both by type, their difference (second − first) with its interval, and n."""
    return [
        {
            "metric": row["title"],
            "type": row["scope"],
            "first": row["first"],
            "second": row["second"],
            "difference": row["difference"],
            "low": (row["interval"] or (None, None))[0],
            "high": (row["interval"] or (None, None))[1],
            "n": " / ".join(str(n) for n in dict.fromkeys(row["n"])),
        }
        for row in document["metrics"]
        if row["headline"]
    ]


def differing_rows(document: Mapping[str, Any]) -> Rows:
    """One flat row for each image on which the two do not score the same, the largest difference first."""
    return [
        {
            "image": row["image"],
            "model": row["model"],
            "true boxes": row["true"],
            "boxes, first": row["first"]["boxes"],
            "boxes, second": row["second"]["boxes"],
            "F1, first": row["first"]["f1"],
            "F1, second": row["second"]["f1"],
            "difference": row["difference"],
        }
        for row in document["differ"]
    ]


def render_detectors(tx: Tx, document: Mapping[str, Any], parameters: Mapping[str, str]) -> str:
    """The two tables as HTML. `parameters` are the page's: gt, pred, other, and the filters."""
    differing = differing_rows(document)
    blobs = blobs_of_images(tx, [row["image"] for row in differing[:SHOWN]])
    address = {name: value for name, value in parameters.items() if value}
    all_of_them = link(browse_link(**address, select="differ"), f"all {counted(len(differing), 'image')} in Browse")
    note = (
        f"first: {parameters['pred']}; second: {parameters['other']}; on the {counted(document['images'], 'image')} of "
        f"both; low and high bound the difference ({100 * document['level']:.0f} % of paired resamples)"
    )
    rows = [{**row, "image": picture_link(row["image"], blobs.get(row["image"]))} for row in differing[:SHOWN]]
    where = table(rows, raw=frozenset({"image"}), none="they score the same on every image")
    return grid(
        figure("detectors", "Two detectors", table(difference_rows(document)), note=note, parameters=parameters),
        figure(
            "detectors-differ",
            "Where they differ",
            f"<p>{all_of_them if differing else number(0)}</p>{where}",
            note="F1 at IoU 0.5, the largest difference first",
            parameters=parameters,
        ),
    )
