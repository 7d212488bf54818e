"""`sdg eval compare`: two detectors side by side, with the images on which they differ."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.records import Split
from sdg_data.console import Names, names_option, print_table, say, settings_of
from sdg_data.errors import ExitCode, InputError
from sdg_data.metrics.inputs import fills_missing, read_inputs
from sdg_data.metrics.protocol import Protocol
from sdg_data.words import counted

_MOST = 100
"""Images of the report's table."""


def compare_command(
    ctx: typer.Context,
    first: Annotated[str, typer.Argument(metavar="A", help="One detector: a source of the store, or a JSONL file")],
    second: Annotated[str, typer.Argument(metavar="B", help="The other")],
    gt: Annotated[str, typer.Option(help="Ground truth: a source of the store, or a JSONL file")] = "gold",
    protocol: Annotated[Protocol, typer.Option(help="The paper's definitions, or the release's scripts")] = (
        Protocol.PAPER
    ),
    similarity: Annotated[
        str, typer.Option(help="How reasons are compared: lexical (built in), or a sentence-transformers model")
    ] = "lexical",
    split: Annotated[Split | None, typer.Option(help="Store: only images of this split")] = None,
    models: Annotated[
        Names | None, names_option(help="Store: only images of these generators, separated by commas")
    ] = None,
    missing: Annotated[
        str, typer.Option(help="Images that one of them lacks: left out (exclude), or counted as failures (fail)")
    ] = "exclude",
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples of the intervals; 0 for none")] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples")] = 0,
    list_out: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="Write the images where they differ: for `--images FILE`"),
    ] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write everything here ('-' is stdout)")] = None,
    report: Annotated[Path | None, typer.Option(help="Write compare.md into this folder")] = None,
) -> None:
    """Compare two detectors on the same images: the difference B − A of each figure, with a paired interval.

    The exit code is 10 where files were compared and images were left out.

    Raises:
        InputError: No image has a ground truth and both predictions.
        typer.Exit: With `ExitCode.PARTIAL`.
    """
    from sdg_data.metrics.compare import compare
    from sdg_data.metrics.report import write_json
    from sdg_data.metrics.similarity import similarity_named
    from sdg_data.metrics.store_sources import Filter
    from sdg_data.store import image_list

    fill = fills_missing(missing)
    compare_reasons = similarity_named(similarity)
    chosen = Filter(None if models is None else tuple(models), split)
    sides = [read_inputs(settings_of(ctx), gt, side, "none", protocol, chosen) for side in (first, second)]
    for note in dict.fromkeys(note for side in sides for note in (*side.notes, *side.left_out)):
        say(note)
    document = {
        "gt": gt,
        "first": first,
        "second": second,
        **compare(
            sides[0].gt,
            sides[0].pred,
            sides[1].pred,
            protocol=protocol,
            similarity=compare_reasons,
            fill_missing=fill,
            resamples=resamples,
            seed=seed,
        ),
    }
    if not document["images"]:
        raise InputError("no image has a ground truth and both predictions", item=f"{first} {second}")
    if list_out is not None:
        heading = f"{first} and {second} differ here (F1 at IoU 0.5 against {gt}), the most first"
        listed = image_list.write(list_out, (row["image"] for row in document["differ"]), heading=heading)
        say(f"{counted(listed, 'image')} listed")
    if report is not None:
        say(f"report: {_write_report(document, report)}")
    if json_out is not None:
        write_json(document, None if str(json_out) == "-" else json_out)
    if json_out is None or str(json_out) != "-":
        print_table(table(document))
        typer.echo(_coverage(document))
    alone = document["left_out"]
    if sides[0].from_files and (any(alone.values()) or any(side.left_out for side in sides)):
        raise typer.Exit(int(ExitCode.PARTIAL))


def table(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The headline figures of a comparison, a row for each metric and type.

    Args:
        document: As `compare` makes it.

    Returns:
        The rows, with texts for people.
    """

    def shown(value: float | None, sign: str = "") -> str:
        return "–" if value is None else f"{value:{sign}.3f}"

    silent = any(parsing["rate"] for parsing in document["parsing"].values())
    return [
        {
            "metric": row["title"],
            "type": row["scope"],
            "A": shown(row["first"]),
            "B": shown(row["second"]),
            "B − A": shown(row["difference"], "+"),
            **({"A, B at worst": ", ".join(map(shown, row["at_worst"]))} if silent else {}),
            "95 % interval": (
                "" if row["interval"] is None else f"{row['interval'][0]:+.3f} to {row['interval'][1]:+.3f}"
            ),
            "B higher in": "" if row["second_higher"] is None else f"{100 * row['second_higher']:.1f} %",
            "n": row["n"][0] if row["n"][0] == row["n"][1] else f"{row['n'][0]}, {row['n'][1]}",
        }
        for row in document["metrics"]
        if row["headline"]
    ]


def _coverage(document: Mapping[str, Any]) -> str:
    failed = [
        document["parsing"][side]["failed"] + document["parsing"][side]["degenerate"] for side in ("first", "second")
    ]
    alone = document["left_out"]
    parts = [f"{counted(document['images'], 'image')} with both answers; they differ on {len(document['differ'])}"]
    if any(failed):
        parts.append(f"without an answer that can be read: A {failed[0]}, B {failed[1]}")
    if any(alone.values()):
        names = (("only_first", "only A has"), ("only_second", "only B has"), ("neither", "neither has"))
        parts.append("left out: " + ", ".join(f"{alone[key]} that {words}" for key, words in names if alone[key]))
    return "; ".join(parts) + "."


def _write_report(document: Mapping[str, Any], folder: Path) -> Path:
    from sdg_data.metrics.report import markdown_table, write_text

    names = {"A": document["first"], "B": document["second"], "ground truth": document["gt"]}
    differ = [
        {
            "image": row["image"],
            "generator": row["model"],
            "true": row["true"],
            **{f"{letter}: boxes": row[side]["boxes"] for letter, side in (("A", "first"), ("B", "second"))},
            **{f"{letter}: matched": row[side]["matched"] for letter, side in (("A", "first"), ("B", "second"))},
            "F1, B − A": f"{row['difference']:+.3f}",
        }
        for row in document["differ"][:_MOST]
    ]
    lines = [
        "# Two detectors compared",
        "",
        *markdown_table([{"": key, "is": name} for key, name in names.items()]),
        "",
        _coverage(document),
        "",
        (
            f"Protocol {document['protocol']}, reasons compared by {document['similarity']}. The intervals are paired: "
            f'{document["resamples"]} resamples draw the same images for both; "B higher in" is a share of them.'
        ),
        "",
        *markdown_table(table(document)),
        "",
        f"## Where they differ (F1 at IoU 0.5, the most first; {_MOST} at most of {len(document['differ'])})",
        "",
        *markdown_table(differ),
    ]
    return write_text(folder / "compare.md", "\n".join(lines) + "\n")
