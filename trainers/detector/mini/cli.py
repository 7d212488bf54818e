"""`sdg train mini-detector`: what only the mini profile's detector needs; SFT and GRPO are `sdg train detector`."""

import json
import logging
import shutil
from pathlib import Path
from typing import Annotated

import typer

from sdg_data.blobs import Blobs
from sdg_data.console import Json, command_group, print_json, say, settings_of
from sdg_data.store.connection import Store

app = command_group("The mini profile's detector: its training corpus, its base, its card.")
logger = logging.getLogger(__name__)
WEIGHTS = Path(__file__).parent / "weights"


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


@app.command()
def ship(
    run: Annotated[Path, typer.Option(help="The finished run's folder (SFT's or GRPO's)")],
    evaluation: Annotated[
        Path | None, typer.Option(help="`evaluation.json` of `sdg train detector eval` on the test split")
    ] = None,
    ceiling: Annotated[Path | None, typer.Option(help="`sdg eval run --json` of the second person on it")] = None,
    notes: Annotated[Path | None, typer.Option(help="A text to end the card with")] = None,
    target: Annotated[Path, typer.Option(help="Where the mini profile looks for its detector")] = WEIGHTS,
) -> None:
    """Put a trained detector where the mini profile finds it: weights as float16, and a card."""
    import torch
    from safetensors.torch import load_file, save_file

    from trainers.detector.publish import write_card

    temporary = target.with_name(f".{target.name}.building")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(run / "model", temporary)
    path = temporary / "model.safetensors"
    save_file({name: value.to(torch.float16) for name, value in load_file(path).items()}, path, {"format": "pt"})
    note = {} if notes is None else {"notes": notes.read_text(encoding="utf-8")}
    write_card(
        temporary,
        evaluation=evaluation,
        ceiling=ceiling,
        run=run / "run.json",
        name="mini-detector",
        licence="apache-2.0",
        **note,
    )
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    logger.info("the mini profile's detector is in %s", target)
