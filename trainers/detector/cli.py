"""`sdg train detector`: supervised fine-tuning, GRPO, merging, measuring, publishing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdg_data.console import Json, WorkOptions, command_group, print_json, say, settings_of
from sdg_data.errors import ConfigError
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

app = command_group("Train the defect detector on an export, measure it, and publish it.")

Recipe = Annotated[
    str, typer.Option(help="mini (two CPU cores) or sdg30k (the paper's, on GPUs)", rich_help_panel="Model and data")
]
Trace = Annotated[
    bool | None,
    typer.Option(
        "--trace/--no-trace", help="Answers think first [default: the recipe's]", rich_help_panel="Model and data"
    ),
]
Similarity = Annotated[
    str | None,
    typer.Option(
        help="Of reasons: lexical, or a sentence-transformers model such as Qwen/Qwen3-Embedding-0.6B",
        rich_help_panel="Evaluation and curves",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only read the data and say what would be trained")]


SftHelp = Annotated[bool, help_config("trainers.detector.sft_config")]
GrpoHelp = Annotated[bool, help_config("trainers.detector.grpo_config")]


@app.command()
@grouped
def sft(
    data: Data,
    model: Base,
    out: Out,
    *,
    recipe: Recipe = "mini",
    trace: Trace = None,
    jitter: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="N",
            help="Move coordinates by up to N thousandths; 0: do not",
            rich_help_panel="Training",
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Leave longer samples out", rich_help_panel="Model and data")
    ] = None,
    similarity: Similarity = None,
    options: TrainingOptions,
    limit: Limit = None,
    help_config: SftHelp = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Supervised fine-tuning on traces and answers. Killed or interrupted: run the same command again to go on."""
    from trainers.detector.sft_config import RECIPES

    own = {"data.trace": trace, "data.jitter": jitter, "data.max_tokens": max_tokens}
    config = options.changed(recipe_of(RECIPES, recipe), {**own, "evaluation.similarity": similarity})
    if dry_run:
        from trainers.detector.dry_run import show_plan

        show_plan(config, data, model, limit, max_tokens=config.data.max_tokens, as_json=as_json)
        return
    from trainers.detector.sft_trainer import train_sft

    print_result(train_sft(config, data=data, model=model, out=out, limit=limit), as_json)


@app.command()
@grouped
def grpo(
    data: Data,
    model: Base,
    out: Out,
    *,
    recipe: Recipe = "mini",
    trace: Trace = None,
    require_overlap: Annotated[
        bool | None,
        typer.Option(
            "--require-overlap/--no-require-overlap",
            help="No credit for reasons of boxes that do not overlap",
            rich_help_panel="Training",
        ),
    ] = None,
    guard: Annotated[
        bool | None,
        typer.Option(
            "--guard/--no-guard",
            help="Stop when the answers collapse [default: the recipe's]",
            rich_help_panel="Training",
        ),
    ] = None,
    similarity: Similarity = None,
    options: TrainingOptions,
    limit: Limit = None,
    help_config: GrpoHelp = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Reinforcement learning with the composite reward, from a fine-tuned detector. Resumes as `sft` does."""
    from trainers.detector.grpo_config import RECIPES, GuardSettings

    config = recipe_of(RECIPES, recipe)
    if guard is not None:
        config = config.model_copy(update={"guard": (config.guard or GuardSettings()) if guard else None})
    own = {"data.trace": trace, "objective.require_overlap": require_overlap, "evaluation.similarity": similarity}
    config = options.changed(config, own)
    if dry_run:
        from trainers.detector.dry_run import show_plan

        longest, group = config.data.max_prompt_tokens, config.answers.group
        show_plan(config, data, model, limit, max_tokens=longest, as_json=as_json, each=group)
        return
    from trainers.detector.grpo_trainer import train_grpo

    print_result(train_grpo(config, data=data, model=model, out=out, limit=limit), as_json)


@app.command("eval")
@grouped
def evaluate_command(
    ctx: typer.Context,
    *,
    data: Data,
    model: Annotated[str, typer.Option(help="A trained detector's folder, or a hub repository")],
    out: Annotated[Path, typer.Option(help="Folder for evaluation.json, predictions, truth and a picture")],
    split: Annotated[str, typer.Option(help="train or test")] = "test",
    batch: Annotated[int, typer.Option(min=1, help="Images asked about at once")] = 16,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer")] = 2048,
    similarity: Similarity = None,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples of the intervals")] = 1000,
    template: Annotated[str | None, typer.Option(help="The question, where the model does not say")] = None,
    device: Device = "auto",
    limit: Limit = None,
    work: WorkOptions,
    as_json: Json = False,
) -> None:
    """SDG-Eval of a detector on a split of an export."""
    from sdg_data.workers.choose import executor_of
    from trainers.detector.evaluate import evaluate_detector

    result = evaluate_detector(
        model,
        data,
        out,
        split=split,
        batch=batch,
        max_tokens=max_tokens,
        similarity=similarity or "lexical",
        resamples=resamples,
        template=template,
        device=device,
        limit=limit,
        executor=executor_of(settings_of(ctx), work, "evaluate"),
    )
    print_result({"model": str(out / "evaluation.json"), "evaluation": result["figures"]}, as_json)


@app.command("maps")
def maps_command(
    data: Data,
    model: Annotated[str, typer.Option(help="A trained detector's folder, or ImageDoctor's folder or repository")],
    out: Annotated[Path, typer.Option(help="Folder for the maps and maps.jsonl")],
    revision: Annotated[
        str | None,
        typer.Option(help="ImageDoctor's commit: its checkpoint brings code of its own, so name what you trust"),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(
            help="ImageDoctor's own question: a file with {caption}, or module.py::NAME [default: a paraphrase of it]"
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train or test")] = "test",
    batch: Annotated[int, typer.Option(min=1, help="Images asked about at once")] = 8,
    side: Annotated[
        int, typer.Option(min=1, help="Rows and columns in which a trained detector's boxes are drawn")
    ] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer")] = 4096,
    device: Device = "auto",
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Write a detector's heatmaps of a split, for `sdg eval heatmaps --pred OUT`. Run again to go on.

    With --revision the model is ImageDoctor, without it a detector that was trained here.
    """
    from trainers.detector.heatmaps import MapDetector, trained_detector
    from trainers.detector.map_files import write_maps

    detector: MapDetector
    if revision is None:
        detector = trained_detector(model, device=device, max_tokens=max_tokens, side=side)
    else:
        import torch

        from sdg_data.prompt_templates import load_template
        from trainers.detector.image_doctor import ImageDoctor

        where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        asked = {"question": load_template(question).text} if question is not None else {}
        if question is None:
            say("ImageDoctor is asked a paraphrase of its question, which may cost it accuracy: --question has its own")
        detector = ImageDoctor.load(model, revision=revision, device=where, max_new_tokens=max_tokens, **asked)
    result = write_maps(detector, data, out, split=split, batch=batch, limit=limit)
    if as_json:
        print_json({"maps": str(out), **result})
        return
    print(out)
    say(f"  {result['images']} images, {result['without a map']} of them without a map of each type")


@app.command()
def merge(
    adapter: Annotated[Path, typer.Option(help="The folder `model` of a run with --lora")],
    out: Annotated[Path, typer.Option(help="The merged model's folder; must not be there yet")],
    base: Annotated[str | None, typer.Option(help="The base, where it lies elsewhere by now")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16")] = "fp32",
    as_json: Json = False,
) -> None:
    """Make one model of an adapter and its base, and check that it says the same."""
    from trainers.detector.merge import merge_adapter

    if precision not in ("fp32", "bf16"):
        raise ConfigError(f"--precision is fp32 or bf16, not {precision}")
    result = merge_adapter(adapter, out, base=base, precision=precision)
    if as_json:
        print_json(result)
        return
    print(result["model"])
    say(
        f"  logits apart by {result['parity']['apart']:.2g} of their spread ({result['parity']['tolerance']:g} allowed)"
    )


@app.command()
def push(
    model: Annotated[Path, typer.Option(help="The model's folder: a run's `model`, or a merged one")],
    repository: Annotated[
        str | None, typer.Option("--repo", help="owner/name on the hub; without: the card only")
    ] = None,
    evaluation: Annotated[Path | None, typer.Option(help="evaluation.json, or the JSON of `sdg eval run`")] = None,
    ceiling: Annotated[Path | None, typer.Option(help="The same of a second person: the human ceiling")] = None,
    run: Annotated[Path | None, typer.Option(help="The run's run.json")] = None,
    name: Annotated[str | None, typer.Option(help="The card's title")] = None,
    licence: Annotated[str | None, typer.Option(help="As the hub spells it, such as apache-2.0")] = None,
    notes: Annotated[Path | None, typer.Option(help="A text to end the card with")] = None,
    public: Annotated[bool, typer.Option("--public", help="A repository that everybody sees")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the card, upload nothing")] = False,
) -> None:
    """Write the model card, and upload the folder."""
    from trainers.detector.publish import push as upload
    from trainers.detector.publish import write_card

    text = "" if notes is None else notes.read_text(encoding="utf-8")
    write_card(model, evaluation=evaluation, ceiling=ceiling, run=run, name=name, licence=licence, notes=text)
    say(f"wrote {model / 'README.md'}")
    if repository is not None and not dry_run:
        print(upload(model, repository, private=not public))
