"""`sdg minis`: train the toy pipelines by their recipes, and measure them with the oracle."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from generators.mini.recipes import MINIS
from generators.models.presets import Preset
from generators.models.registry import choose, load_presets
from sdg_data.console import Names, command_group, names_option, print_json, print_table
from sdg_data.errors import ConfigError

app = command_group("The toy pipelines: train and measure them.")
logger = logging.getLogger(__name__)

WEIGHTS = Path(__file__).parent / "weights"
Models = Annotated[Names | None, names_option(help="Names, separated by commas; default: all")]


def _chosen(models: Names | None) -> Sequence[str]:
    names = tuple(MINIS) if models is None else models
    for name in names:
        if name not in MINIS:
            raise ConfigError("there is no such mini", item=name, hint=f"The minis are {', '.join(MINIS)}.")
    return names


@app.command()
def train(
    models: Models = None,
    work: Annotated[Path, typer.Option(help="Folder of unfinished work; a killed training goes on from it")] = Path(
        "data/minis"
    ),
    target: Annotated[Path, typer.Option(help="Folder that receives a folder a mini")] = WEIGHTS,
    images: Annotated[int, typer.Option(min=1, help="Held-out prompts on which the card's scores are measured")] = 200,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 1,
) -> None:
    """Train minis by their recipes, judge them, and save weights, preset and card. Resumes where it was killed."""
    import torch

    from generators.mini.build import save_mini, train_mini
    from generators.mini.card import card_facts, preset_values, write_card

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    for name in _chosen(models):
        flow, facts = train_mini(name, work)
        folder = target / name
        extra = {"preset.json": json.dumps(preset_values(MINIS[name]), indent=2) + "\n"}
        save_mini(flow, folder, extra)
        judged = _judge(_preset(name, folder), images)[1]
        card = write_card(MINIS[name], facts, judged, type(flow.pipeline).__name__)
        (folder / "README.md").write_text(card, encoding="utf-8")
        (folder / "facts.json").write_text(card_facts(facts, judged), encoding="utf-8")
        logger.info("%s: right %.3f, clean %.3f; saved to %s", name, judged["right"], judged["clean"], folder)


@app.command()
def judge(
    models: Models = None,
    images: Annotated[int, typer.Option(min=1, max=2000, help="Held-out prompts")] = 200,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet with the oracle's boxes")] = None,
    sheet_images: Annotated[int, typer.Option(min=1, help="Prompts on the sheet")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Scores as JSON on stdout")] = False,
) -> None:
    """Generate on held-out prompts and let the oracle count defects."""
    from generators.mini.judging import cells
    from sdg_data.sheets.draw import render_sheet

    rows: list[dict[str, Any]] = []
    pictures = []
    for preset in choose(_chosen(models), load_presets()):
        judged, scores = _judge(preset, images)
        rows.append({"model": preset.name, **scores})
        pictures += cells(judged[:sheet_images], preset.name)
    if as_json:
        print_json(rows)
    else:
        print_table([{key: value for key, value in row.items() if key != "subtypes"} for row in rows])
    if sheet:
        render_sheet(pictures, title="Mini family, held-out prompts, the oracle's boxes").save(sheet)
        logger.info("wrote %s", sheet)


@app.command()
def oracle(
    scenes: Annotated[int, typer.Option(min=1, help="Spoiled scenes, and as many clean ones")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the scenes; the oracle was tuned on seeds below 100")] = 20_261_121,
    as_json: Annotated[bool, typer.Option("--json", help="Counts as JSON on stdout")] = False,
) -> None:
    """Measure the oracle itself: injected defects that it finds, and false ones on clean renders."""
    from sdg_data.mini.accuracy import measure

    accuracy = measure(scenes, seed)
    if as_json:
        print_json(accuracy.as_dict())
        return
    rows = {key: value for key, value in accuracy.as_dict().items() if key != "kinds"}
    print_table([rows])
    print_table(
        [{"kind": kind, "injected": total, "missed": missed} for kind, (missed, total) in accuracy.kinds.items()]
    )


@app.command()
def prompts(
    count: Annotated[int, typer.Option(min=1, help="How many different prompts")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same prompts")] = 0,
    held_out: Annotated[bool, typer.Option(help="Only prompts on which no mini was trained")] = False,
) -> None:
    """Print prompts of the mini world, one a line: for `sdg prompts import`."""
    from generators.mini.corpus import held_out_prompts
    from sdg_data.mini.world import sample_prompts

    for prompt in held_out_prompts(count) if held_out else sample_prompts(count, seed):
        print(prompt)


def _preset(name: str, folder: Path) -> Preset:
    return choose([name], load_presets({name: {"repository": str(folder)}}))[0]


def _judge(preset: Preset, images: int) -> tuple[list[Any], dict[str, Any]]:
    from generators.mini.judging import generate_and_judge
    from generators.models.loading import load

    adapter = load(preset, "", device="cpu")
    try:
        judged, scores = generate_and_judge(adapter, images)
    finally:
        adapter.close()
    return judged, scores.as_dict()
