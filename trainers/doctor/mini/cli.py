"""`sdg train mini-doctor`: what only the mini world's doctor needs; its training is `sdg train doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from sdg_data.blobs import Blobs
from sdg_data.console import Json, command_group, print_json, say, settings_of
from sdg_data.store.connection import Store

app = command_group("The mini world's doctor: its training corpus and its base.")


@app.command()
def corpus(
    ctx: typer.Context,
    scenes: Annotated[int, typer.Option(min=1, help="Rendered scenes")] = 6000,
    people: Annotated[int, typer.Option(min=1, help="Simulated people who judge each scene")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scenes and people")] = 61,
    as_json: Json = False,
) -> None:
    """Render scenes, and have simulated people score them and mark their defects. What is there stays."""
    from trainers.doctor.mini.corpus import add_judged

    settings = settings_of(ctx)
    new = add_judged(
        Store(settings.home), Blobs(settings.blob_url), scenes, seed,
        people=people, test_share=settings.prompts.test_share,
    )  # fmt: skip
    if as_json:
        print_json({"new": new})
    else:
        say(f"{new} judged scenes are new")


@app.command()
def base(
    out: Annotated[Path, typer.Option(help="Folder that receives the model")],
    seed: Annotated[int, typer.Option(min=0, help="Of the heatmap decoder's first weights")] = 0,
) -> None:
    """Make the base: the mini detector with a doctor's words, task tokens and a new heatmap decoder."""
    from trainers.doctor.mini.base import make_base

    count = make_base(out, seed=seed)
    print(out)
    say(f"  {count / 1e6:.2f} M parameters")
