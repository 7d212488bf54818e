"""`sdg train mini-detector`: what only the mini profile's detector needs; SFT and GRPO are `sdg train detector`."""

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from sdg_data.blobs import Blobs
from sdg_data.console import print_json, say, settings_of
from sdg_data.store.connection import Store

app = typer.Typer(
    help="The mini profile's detector: its training corpus, its base, its card.",
    no_args_is_help=True,
    add_completion=False,
)
logger = logging.getLogger(__name__)
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]


@app.command()
def corpus(
    ctx: typer.Context,
    rendered: Annotated[int, typer.Option(min=0, help="Rendered scenes with exact labels")] = 10_000,
    people: Annotated[int, typer.Option(min=1, help="Simulated annotators of the generated images")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scenes and people")] = 41,
    as_json: Json = False,
) -> None:
    """Label the minis' images as simulated people would, and add rendered scenes. What is there stays."""
    from generators.mini.recipes import MINIS
    from trainers.detector.mini.corrected import add_corrections
    from trainers.detector.mini.rendered import add_rendered

    settings = settings_of(ctx)
    store, blobs = Store(settings.home), Blobs(settings.blob_url)
    counts = {
        "rendered": add_rendered(store, blobs, rendered, seed, test_share=settings.prompts.test_share),
        "corrected": add_corrections(store, blobs, list(MINIS), people=people, seed=seed),
    }
    if as_json:
        print_json(counts)
    else:
        say(f"{counts['rendered']} rendered scenes and {counts['corrected']} corrected images are new")


@app.command()
def base(
    out: Annotated[Path, typer.Option(help="Folder that receives the model")],
    work: Annotated[Path, typer.Option(help="Folder of unfinished work; a killed training goes on from it")] = Path(
        "data/mini-detector/work"
    ),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 1,
) -> None:
    """Train the base on rendered scenes: it knows the form of an answer and grounds poorly."""
    import torch

    from trainers.detector.mini.base import BaseRecipe, BaseTraining
    from trainers.detector.mini.model import save

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    training = BaseTraining(BaseRecipe(), work)
    save(training.run(), training.processor, out)
    facts = {"seconds": round(training.seconds), "loss": training.curves}
    (out / "base.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    logger.info("the base is in %s", out)
