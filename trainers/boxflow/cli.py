"""`sdg train boxflow`: train a text-to-image model on rewards and boxes, and export what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdg_data.console import Json, print_json, say, say_warnings, settings_of
from sdg_data.errors import ConfigError, InputError, Interrupted

if TYPE_CHECKING:
    from sdg_data.settings import Settings
    from trainers.boxflow.config import BoxFlowConfig

app = typer.Typer(
    help="Train a text-to-image model by BoxFlow-GRPO: a detector's boxes as spatial rewards.", add_completion=False
)


def _print_settings(asked: bool) -> None:
    if asked:
        from trainers.boxflow.recipes import RECIPES
        from trainers.common.config_docs import settings_text

        print(settings_text(RECIPES))
        raise typer.Exit


@app.callback(invoke_without_command=True)
def train(
    ctx: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(help="The training's folder; run again with it to go on", rich_help_panel="What to train on"),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Text file, a prompt a line (default: the store's train split)", rich_help_panel="What to train on"
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="Prompts to look at, never to train on (default: the store's test split)",
            rich_help_panel="What to train on",
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="mini (two CPU cores); for GPUs flux1-dev, sd35-medium and z-image-turbo, each also with -forward",
            rich_help_panel="Model",
        ),
    ] = "mini",
    model: Annotated[
        str | None,
        typer.Option(help="Another preset than the recipe's (sdg generate models)", rich_help_panel="Model"),
    ] = None,
    lora: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="RANK", help="Train an adapter of this rank; 0: every weight", rich_help_panel="Model"
        ),
    ] = None,
    advantage: Annotated[
        str | None,
        typer.Option(
            help="box, scalar (Flow-GRPO), dense-heatmap (DenseFlow-GRPO), scalar-boxes (control)",
            rich_help_panel="Reward",
        ),
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(help="policy-gradient, or forward (no noise in the sampler)", rich_help_panel="Reward"),
    ] = None,
    cell_rule: Annotated[
        str | None,
        typer.Option(help="fractional, or floor as in the paper's release", rich_help_panel="Reward"),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            help="mini, transformers, openai (a server), or oracle (tests); default: the recipe's",
            rich_help_panel="Reward",
        ),
    ] = None,
    detector_url: Annotated[
        list[str] | None,
        typer.Option(
            help="Where the server is, such as http://host:9090/v1; again for each further server",
            rich_help_panel="Reward",
        ),
    ] = None,
    rollouts: Annotated[int | None, typer.Option(min=1, help="Rollouts in all", rich_help_panel="Settings")] = None,
    audit_share: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Of the images, put into the store for people to look at",
            rich_help_panel="Settings",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, rich_help_panel="Settings")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any other setting (docs/boxflow.md)", rich_help_panel="Settings"
        ),
    ] = None,
    help_config: Annotated[
        bool,
        typer.Option(
            "--help-config",
            is_eager=True,
            callback=_print_settings,
            help="Print every setting of --set with type, default and meaning",
            rich_help_panel="Settings",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be trained")] = False,
    as_json: Json = False,
) -> None:
    """Train. Killed or interrupted: run the same command again to go on."""
    if ctx.invoked_subcommand is not None:
        return
    from trainers.boxflow.config import changed
    from trainers.boxflow.recipes import RECIPES
    from trainers.common.config import parse_changes

    if recipe not in RECIPES:
        raise ConfigError(f"there is no recipe {recipe!r}", hint=f"There are {', '.join(RECIPES)}.")
    options: dict[str, Any] = {
        "policy.model": model,
        "estimator": estimator,
        "credit.advantage": advantage,
        "credit.cell_rule": cell_rule,
        "rollouts": rollouts,
        "monitoring.audit_share": audit_share,
        "seed": seed,
    }
    changes = {name: value for name, value in options.items() if value is not None}
    if lora is not None:
        changes["policy.lora"] = {"rank": lora, "alpha": 2 * lora} if lora else None
    if detector == "oracle":
        changes["rewards.detector.kind"] = "oracle"
    elif detector is not None:
        changes["rewards.detector.vlm.backend"] = detector
    if detector_url:
        changes["rewards.detector.vlm.base_url"] = " ".join(detector_url)
    changes |= parse_changes(change or [])
    with say_warnings():
        config = changed(RECIPES[recipe](), changes)
    settings = settings_of(ctx)
    texts, held_out_texts = _prompts(settings, prompts, held_out)
    if dry_run:
        _plan(settings, config, texts, held_out_texts, as_json)
        return
    if out is None:
        raise ConfigError("--out is missing", hint="The training's folder: --out runs/boxflow.")
    _train(settings, config, texts, held_out_texts, out, as_json)


@app.command()
def export(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(help="The training's folder")],
    out: Annotated[Path, typer.Option(help="Folder that receives the weights")],
    raw: Annotated[bool, typer.Option("--raw", help="The last weights instead of their average")] = False,
    as_json: Json = False,
) -> None:
    """Write the last checkpoint as diffusers reads it: a LoRA for `load_lora_weights`, or a whole pipeline."""
    from trainers.boxflow.exporting import export_run

    path = export_run(run, out, settings_of(ctx).models, raw=raw)
    if as_json:
        print_json({"written": str(path)})
    else:
        say(f"written: {path}")


def _prompts(settings: Settings, given: Path | None, held_out: Path | None) -> tuple[list[str], list[str]]:
    """(prompts to train on, held-out prompts), none in both."""
    from schemas.records import Split

    texts = _lines(given) if given is not None else _stored(settings, Split.TRAIN)
    held_out_texts = _lines(held_out) if held_out is not None else []
    if held_out is None and given is None:
        held_out_texts = _stored(settings, Split.TEST)
    if not texts:
        raise InputError(
            "there are no prompts to train on", hint="--prompts FILE, or `sdg prompts import FILE` into this home."
        )
    both = set(texts) & set(held_out_texts)
    return texts, [text for text in held_out_texts if text not in both]


def _lines(path: Path) -> list[str]:
    from sdg_data.ids import normalise_prompt

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read it ({error})", item=str(path)) from error
    return list(dict.fromkeys(text for line in lines if (text := normalise_prompt(line))))


def _stored(settings: Settings, split: Any) -> list[str]:
    from sdg_data.store import prompts
    from sdg_data.store.connection import Store

    store = Store(settings.home)
    if not store.path.exists():
        return []
    with store.read() as tx:
        return [prompt.text for prompt in prompts.page(tx, split=split)]


def _plan(
    settings: Settings, config: BoxFlowConfig, texts: list[str], held_out_texts: list[str], as_json: bool
) -> None:
    """What a dry run says: what would be trained, and what stands in its way; the exit code is that of the training."""
    from torch.cuda import device_count

    from generators.models.registry import choose, load_presets
    from sdg_data.preflight.findings import as_rows, error_of, faults, show
    from trainers.boxflow.gpus import USUAL, gpu_plan
    from trainers.boxflow.preflight import examine
    from trainers.rewards.settings import servers

    monitoring = config.monitoring
    addresses = servers(config.rewards.base, monitoring.guard, config.rewards.detector, monitoring.artifact_guard)
    findings = examine(config, choose([config.policy.model], load_presets(settings.models))[0])
    gpus = [] if config.policy.device == "cpu" else gpu_plan(config, addresses, device_count() or USUAL)
    plan = {
        "config": config.model_dump(mode="json"),
        "prompts": len(texts),
        "held_out": len(held_out_texts),
        "images": config.rollouts * config.total,
        "optimizer_steps": config.rollouts * config.optimizer.passes * config.optimizer.minibatches,
        "servers": addresses,
        "gpus": gpus,
        "findings": as_rows(findings),
    }
    if as_json:
        print_json(plan)
    else:
        policy, credit = config.policy.model, f"{config.credit.advantage}, {config.estimator}"
        say(f"{policy} by {credit}: {plan['prompts']} prompts, {plan['held_out']} held out")
        images = f"{config.rollout.prompts} × {config.rollout.samples} images"
        say(f"{config.rollouts} rollouts of {images}, {plan['optimizer_steps']} steps")
        for name, address in addresses.items():
            say(f"{name}: asked at {address}")
        for row in gpus:
            say(f"GPU {row['gpus']}: {row['use']}")
        show(findings)
    _say_kl(config)
    if wrong := faults(findings):
        raise error_of(wrong[0])


def _say_kl(config: BoxFlowConfig) -> None:
    """Say what a KL weight means here, where there is one: those of other code mean another thing."""
    if config.loss.beta:
        say(
            f"loss.beta {config.loss.beta:g} weighs the KL of whole steps, over σ_t²·(−dt); Flow-GRPO's code leaves "
            "out (−dt), so a weight from there is 12 to 25 times as strong here (ten steps): divide it"
        )


def _train(
    settings: Settings, config: BoxFlowConfig, texts: list[str], held_out_texts: list[str], out: Path, as_json: bool
) -> None:
    from generators.models.registry import choose, load_presets
    from generators.revisions import revision_of
    from trainers.boxflow.run_folder import BoxFlowRunFolder

    _say_kl(config)
    preset = choose([config.policy.model], load_presets(settings.models))[0]
    revision = revision_of(preset, online=True)
    with BoxFlowRunFolder(out).held():
        _train_held(settings, config, preset, revision, texts, held_out_texts, out, as_json)


def _train_held(
    settings: Settings,
    config: BoxFlowConfig,
    preset: Any,
    revision: str,
    texts: list[str],
    held_out_texts: list[str],
    out: Path,
    as_json: bool,
) -> None:
    from generators.models.loading import load_pipeline
    from sdg_data.processes import rank
    from trainers.boxflow.trainer import BoxFlowTrainer, Task
    from trainers.boxflow.trial import run_trials
    from trainers.rewards.settings import make_detector, make_reward

    guard = config.monitoring.guard
    needed = config.credit.advantage != "scalar" or config.rewards.detector.vlm.backend != "openai"
    # Whoever scores comes first: a judge without an address shows before gigabytes are loaded.
    reward = make_reward(config.rewards.base)
    detector = make_detector(config.rewards.detector) if needed else None
    held_out_reward = None if guard is None else make_reward((guard,))
    artifact_guard = config.monitoring.artifact_guard
    if rank() == 0:
        run_trials(config, texts, config.policy.image_size(preset))
    task = Task(
        config=config,
        preset=preset,
        revision=revision,
        pipeline=load_pipeline(preset, revision),
        prompts=texts,
        held_out=held_out_texts,
        reward=reward,
        detector=detector,
        held_out_reward=held_out_reward,
        out=out,
        artifact_guard=None if artifact_guard is None else make_detector(artifact_guard),
        audit=_audit(settings, config, preset, revision, out) if config.monitoring.audit_share else None,
    )
    trainer = BoxFlowTrainer(task)
    figures = trainer.train()
    if trainer.stopped:
        raise Interrupted(f"stopped after {trainer.done} rollouts; run the same command again to go on")
    if trainer.main and as_json:
        print_json({"rollouts": trainer.done, **figures})


def _audit(settings: Settings, config: BoxFlowConfig, preset: Any, revision: str, out: Path) -> Any:
    from sdg_data.blobs import Blobs
    from sdg_data.ids import canonical_json, content_id
    from sdg_data.store.connection import Store
    from trainers.boxflow.audit import Audit
    from trainers.boxflow.config import identity

    name = content_id("boxflow", str(out.absolute()), canonical_json(identity(config)))
    return Audit(
        store=Store(settings.home),
        blobs=Blobs(settings.blob_url),
        model=f"{preset.name}+boxflow",
        revision=f"{revision}+{name[:12]}",
        settings=preset.settings,
        licence=preset.licence,
        test_share=settings.prompts.test_share,
    )
