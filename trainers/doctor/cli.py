"""`sdg train doctor`: supervised training in stages, reinforcement learning, measuring, converting."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.records import Split
from sdg_data.console import Json, Names, command_group, names_option, print_json, say, settings_of
from sdg_data.errors import ExitCode
from sdg_data.option_groups import grouped
from trainers.detector.options import (
    Base,
    Data,
    Device,
    Limit,
    Out,
    TrainingOptions,
    help_config,
    print_result,
    recipe_of,
)

app = command_group("Train ImageDoctor: four scores, two heatmaps and regions in one answer.")

SftHelp = Annotated[bool, help_config("trainers.doctor.train_config")]
GrpoHelp = Annotated[bool, help_config("trainers.doctor.train_config", "RFT_RECIPES")]
Look = Annotated[bool | None, typer.Option("--look/--no-look", help="Propose regions", rich_help_panel="Answers")]
Think = Annotated[
    bool | None, typer.Option("--think/--no-think", help="Reason before the scores", rich_help_panel="Answers")
]
Typed = Annotated[
    bool | None,
    typer.Option(
        "--typed/--public-boxes", help="Regions say their type, or the public form", rich_help_panel="Answers"
    ),
]


@app.command()
@grouped
def sft(
    data: Data,
    model: Base,
    out: Out,
    *,
    recipe: Annotated[
        str,
        typer.Option(help="mini-stage1, mini-stage2, stage1 or stage2 (on GPUs)", rich_help_panel="Model and data"),
    ] = "mini-stage1",
    look: Look = None,
    think: Think = None,
    typed: Typed = None,
    task_tokens: Annotated[
        bool | None,
        typer.Option(
            "--task-tokens/--no-task-tokens", help="What asks for a map: the tokens' states", rich_help_panel="Answers"
        ),
    ] = None,
    options: TrainingOptions,
    limit: Limit = None,
    help_config: SftHelp = False,
    as_json: Json = False,
) -> None:
    """Supervised training: stage 1 learns the scores, stage 2 regions, trace and maps too. Run again to go on."""
    from trainers.doctor.train_config import RECIPES

    own = {"form.look": look, "form.think": think, "form.typed": typed, "heatmaps.task_tokens": task_tokens}
    config = options.changed(recipe_of(RECIPES, recipe), own)
    from trainers.doctor.sft_trainer import train_doctor

    print_result(train_doctor(config, data=data, model=model, out=out, limit=limit), as_json)


@app.command()
@grouped
def grpo(
    data: Data,
    model: Base,
    out: Out,
    *,
    recipe: Annotated[
        str, typer.Option(help="mini-rft or rft (on GPUs)", rich_help_panel="Model and data")
    ] = "mini-rft",
    protocol: Annotated[
        str | None, typer.Option(help="The rewards' constants: paper or code", rich_help_panel="Training")
    ] = None,
    look: Look = None,
    think: Think = None,
    typed: Typed = None,
    options: TrainingOptions,
    limit: Limit = None,
    help_config: GrpoHelp = False,
    as_json: Json = False,
) -> None:
    """Reinforcement learning with score, heatmap and grounding rewards, from a stage-2 doctor. Resumes as `sft`."""
    from trainers.doctor.train_config import RFT_RECIPES

    own = {"form.look": look, "form.think": think, "form.typed": typed, "reward.protocol": protocol}
    config = options.changed(recipe_of(RFT_RECIPES, recipe), own)
    from trainers.doctor.grpo_trainer import train_doctor_by_rewards

    print_result(train_doctor_by_rewards(config, data=data, model=model, out=out, limit=limit), as_json)


Model = Annotated[str, typer.Option(help="A doctor's folder")]
Public = Annotated[bool, typer.Option("--public", help="It was converted from the published layout")]
Threshold = Annotated[float, typer.Option(min=0.0, max=1.0, help="Least heat of a region that counts as a defect")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Of an answer")]


@app.command("eval")
def evaluate_command(
    data: Data,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for evaluation.json and answers.jsonl")],
    public: Public = False,
    split: Annotated[str, typer.Option(help="train or test")] = "test",
    batch: Annotated[int, typer.Option(min=1, help="Images asked about at once")] = 16,
    max_tokens: MaxTokens = 4096,
    device: Device = "auto",
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Measure a doctor on a split: PLCC and SRCC of scores, maps, grounding, and its maps' regions as boxes."""
    from trainers.doctor.evaluate import evaluate_doctor

    result = evaluate_doctor(
        model, data, out, split=split, batch=batch, max_tokens=max_tokens, limit=limit, device=device, public=public
    )
    print_result({"model": str(out / "evaluation.json"), "evaluation": result["figures"]}, as_json)
    if result["without scores"]:
        say(f"  {result['without scores']} samples without all four scores are left out")


@app.command()
def maps(
    data: Data,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the maps and maps.jsonl")],
    public: Public = False,
    split: Annotated[str, typer.Option(help="train or test")] = "test",
    batch: Annotated[int, typer.Option(min=1, help="Images asked about at once")] = 16,
    max_tokens: MaxTokens = 4096,
    threshold: Threshold = 1 / 3,
    device: Device = "auto",
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Write a doctor's maps and scores of a split, for `sdg eval heatmaps --pred OUT`. Run again to go on."""
    from trainers.detector.map_files import write_maps
    from trainers.doctor.use import Doctor

    doctor = Doctor.load(model, device=device, public=public, max_tokens=max_tokens, threshold=threshold)
    result = write_maps(doctor, data, out, split=split, batch=batch, limit=limit)
    if as_json:
        print_json({"maps": str(out), **result})
        return
    print(out)
    say(f"  {result['images']} images, {result['without a map']} of them without a map of each type")


@app.command()
def score(
    ctx: typer.Context,
    model: Model,
    out: Annotated[Path, typer.Option(help="A JSON-lines file of scores; run again with it to go on")],
    public: Public = False,
    models: Annotated[Names | None, names_option(help="Only images of these generators, separated by commas")] = None,
    split: Annotated[Split | None, typer.Option(help="Only images of this split")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images asked about at once")] = 16,
    max_tokens: MaxTokens = 4096,
    threshold: Threshold = 1 / 3,
    device: Device = "auto",
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Score the images of this home, for `sdg select run --verifier doctor=OUT`. Exit code 10: some have no score.

    Raises:
        typer.Exit: With `ExitCode.PARTIAL`.
    """
    from sdg_data.blobs import Blobs
    from sdg_data.store.connection import Store
    from trainers.doctor.use import Doctor, score_images

    settings = settings_of(ctx)
    doctor = Doctor.load(
        model, device=device, public=public, max_tokens=max_tokens, threshold=threshold, batch_size=batch
    )
    chosen = None if models is None else tuple(models)
    result = score_images(
        doctor, Store(settings.home), Blobs(settings.blob_url), out,
        models=chosen, split=split, limit=limit, batch=batch,
    )  # fmt: skip
    if as_json:
        print_json({"scores": str(out), **result})
    else:
        print(out)
        say(f"  {result['images']} images, {result['without a score']} of them without a score")
    if result["without a score"]:
        raise typer.Exit(int(ExitCode.PARTIAL))


@app.command("import")
def import_command(
    checkpoint: Annotated[Path, typer.Argument(help="A folder with the published checkpoint (config, safetensors)")],
    out: Annotated[Path, typer.Option(help="The doctor's folder; must not be there yet")],
    as_json: Json = False,
) -> None:
    """Make a doctor of ImageDoctor's published checkpoint: weights are renamed, and none of its code is run."""
    from trainers.doctor.convert import from_published

    _converted(from_published(checkpoint, out), as_json)


@app.command("publish")
def publish_command(
    model: Annotated[Path, typer.Argument(help="A doctor of Qwen2.5-VL")],
    out: Annotated[Path, typer.Option(help="The result's folder; must not be there yet")],
    as_json: Json = False,
) -> None:
    """Write a doctor in the published layout. Its Python files are not ours: copy them beside the weights."""
    from trainers.doctor.convert import to_published

    _converted(to_published(model, out), as_json)


def _converted(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    print(result["model"])
    say(f"  {result['weights']} weights; {result['unused']} parts that the model never uses")
