"""`sdg generate`: plan, make, resume."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdg_data.console import (
    Names,
    RetryCommand,
    RetryFailures,
    WorkOptions,
    chosen_split,
    command_group,
    command_lock,
    names_option,
    print_json,
    print_table,
    run_stage,
    say,
    settings_of,
)
from sdg_data.option_groups import grouped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from generators.models.presets import Preset
    from generators.plan import ModelPlan, ModelSelection
    from generators.preflight import Surroundings
    from sdg_data.errors import SdgError
    from sdg_data.preflight.machine import Gpu
    from sdg_data.settings import Settings
    from sdg_data.work import Executor

app = command_group("Make images: one for every prompt, model and sample.")

_UNITS = ("B", "kB", "MB", "GB", "TB")


@app.command(cls=RetryCommand)
@grouped
def run(
    ctx: typer.Context,
    *,
    models: Annotated[
        Names | None, names_option(help="Names of models, separated by commas; default: those of the profile")
    ] = None,
    samples_per_prompt: Annotated[int | None, typer.Option(min=1, help="Images per prompt and model")] = None,
    split: Annotated[str | None, typer.Option(help="Only the prompts of this split: train or test")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Make at most so many images now")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows per call; default: the preset's")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps or auto")] = None,
    retry_failures: RetryFailures = None,
    code: Annotated[str | None, typer.Option(help="With --retry-failures: only failures of this code")] = None,
    no_retry_failures: Annotated[
        bool, typer.Option("--no-retry-failures", help="Leave failures as they are, which is the default")
    ] = False,
    work: WorkOptions,
    wait: Annotated[bool, typer.Option(help="Wait for another `generate run` on this home, or leave at once")] = True,
    dry_run: Annotated[bool, typer.Option(help="Only show the plan")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Plan and summary as JSON on stdout")] = False,
) -> None:
    """Make the images that are missing. Interrupted, killed or out of disk: run the same command again to go on."""
    from generators.plan import plan_lines
    from sdg_data.errors import ConfigError
    from sdg_data.store.connection import Store
    from sdg_data.workers.choose import executor_of

    if no_retry_failures:
        retry_failures = None
    if code is not None and not retry_failures:
        raise ConfigError("--code goes with --retry-failures", item="sdg generate run")
    settings = settings_of(ctx)
    chosen = _chosen(settings, models)
    selection = _selection(
        settings,
        chosen,
        samples=samples_per_prompt,
        split=split,
        limit=limit,
        retry=_retry_codes(retry_failures, code),
        online=not dry_run,
    )
    batch = batch_size or settings.generate.batch_size
    sizes = [batch or preset.batch_size for preset in chosen]
    store = Store(settings.home)
    place = device or settings.generate.device
    executor = executor_of(settings, work, "generate")
    if dry_run:
        from generators.preflight import Surroundings
        from generators.prompt_limits import count_cuts

        around = Surroundings.here(place, online=True)
        lines = count_cuts(store, selection, plan_lines(store, selection, sizes, around.gpu), record=False)
        _preflight(lines, chosen, around, as_json)
        return
    _execute(settings, store, selection, sizes, batch, place, wait, as_json, executor)


@app.command("models")
def list_models(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout")] = False
) -> None:
    """List the models: licence, revision, resolution, and whether they are on this machine."""
    from generators.models.registry import load_presets
    from generators.revisions import installed

    settings = settings_of(ctx)
    presets = load_presets(settings.models)
    used = set(settings.generate.models)
    rows: list[dict[str, Any]] = [
        {
            "model": preset.name,
            "profile": preset.name in used,
            "installed": installed(preset),
            "pipeline": preset.pipeline,
            "repository": preset.repository,
            "revision": preset.revision or None,
            "pinned": preset.pinned,
            "licence": preset.licence,
            "width": preset.width,
            "height": preset.height,
            "steps": preset.steps,
            "guidance": preset.guidance,
            "about": preset.about,
        }
        for preset in presets.values()
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        [
            {
                "model": row["model"],
                "here": "yes" if row["installed"] else "no",
                "size": f"{row['width']}x{row['height']}",
                "steps": row["steps"],
                "licence": row["licence"],
                "revision": _short(row["revision"] or "content", row["pinned"]),
                "about": row["about"],
            }
            for row in rows
        ]
    )


def _preflight(lines: list[ModelPlan], chosen: list[Preset], around: Surroundings, as_json: bool) -> None:
    """What a dry run says: the plan, and what stands in its way; the exit code is that of the run."""
    from generators.preflight import examine
    from sdg_data.errors import ExitCode
    from sdg_data.preflight.findings import as_rows, error_of, faults, show

    findings = examine(chosen, around)
    if as_json:
        print_json({"plan": [asdict(line) for line in lines], "findings": as_rows(findings)})
    else:
        _show(lines)
        show(findings)
    wrong = faults(findings)
    if not wrong:
        return
    stopped = {finding.subject for finding in wrong}
    say(f"cannot be run as things are: {', '.join(sorted(stopped))}")
    if all(preset.name in stopped for preset in chosen):
        raise error_of(wrong[0])
    raise typer.Exit(int(ExitCode.PARTIAL))


def _refused(lines: list[ModelPlan], selection: ModelSelection, device: str) -> tuple[dict[str, SdgError], Gpu | None]:
    """The models with work to do that cannot run here, with the reason, and the GPU; an error where none is left."""
    from generators.preflight import Surroundings, examine
    from sdg_data.preflight.findings import error_of, faults

    around = Surroundings.here(device, online=False)
    due = {line.model for line in lines if line.missing}
    refused: dict[str, SdgError] = {}
    for finding in faults(examine([preset for preset in selection.presets if preset.name in due], around)):
        refused.setdefault(finding.subject, error_of(finding))
    if due and due <= refused.keys():
        raise next(iter(refused.values()))
    for error in refused.values():
        say(f"left out: {error}")
    return refused, around.gpu


def _chosen(settings: Settings, models: Names | None) -> list[Preset]:
    from generators.models.registry import choose, load_presets
    from sdg_data.errors import ConfigError

    names = settings.generate.models if models is None else models
    if not names:
        raise ConfigError("no model is named", item="--models", hint="`sdg generate models` lists them.")
    return choose(names, load_presets(settings.models))


def _retry_codes(retry_failures: Names | None, code: str | None) -> tuple[str, ...] | None:
    """The codes of failures that are tried again: None for no failures, no codes for all of them."""
    if not retry_failures:
        return None
    codes = () if "all" in retry_failures else tuple(retry_failures)
    return codes if code is None else (*codes, code)


def _selection(
    settings: Settings,
    chosen: list[Preset],
    *,
    samples: int | None,
    split: str | None,
    limit: int | None,
    retry: tuple[str, ...] | None,
    online: bool,
) -> ModelSelection:
    from generators.plan import ModelSelection
    from generators.revisions import revision_of

    chosen_split(split)
    return ModelSelection(
        presets=tuple(chosen),
        revisions=tuple(revision_of(preset, online=online) for preset in chosen),
        samples=samples or settings.generate.samples_per_prompt,
        split=split,
        limit=limit,
        retry_failures=retry is not None,
        retry_codes=retry or (),
    )


def _execute(
    settings: Settings,
    store: Any,
    selection: ModelSelection,
    sizes: list[int],
    batch_size: int | None,
    device: str,
    wait: bool,
    as_json: bool,
    executor: Executor,
) -> None:
    from generators.plan import STAGE, plan_lines
    from generators.prompt_limits import count_cuts
    from sdg_data.blobs import Blobs

    with store.read():
        pass  # a home without a store is an error, not a home to make a lock file in
    blobs = Blobs(settings.blob_url)
    with command_lock(settings, STAGE, wait=wait):
        blobs.sweep_temporary()
        refused, gpu = _refused(plan_lines(store, selection, sizes), selection, device)
        lines = count_cuts(store, selection, plan_lines(store, selection, sizes, gpu), record=True)
        if not as_json:
            _show(lines)
        if not any(line.missing for line in lines):
            say("nothing to do: every image is there")
            if as_json:
                print_json(_summary({}, {}, 0, 0.0, lines))
            return
        from generators.stage import GenerateStage

        stage = GenerateStage(store, blobs, selection, device=device, batch_size=batch_size, refused=refused)
        run_stage(
            stage,
            unit="images",
            summarise=lambda seconds: _summary(stage.failed, stage.failed_models, stage.made, seconds, lines),
            conclude=_conclusion,
            as_json=as_json,
            executor=executor,
        )


def _summary(
    failed: dict[str, int], failed_models: Mapping[str, SdgError], made: int, seconds: float, lines: list[ModelPlan]
) -> dict[str, Any]:
    return {
        "plan": [asdict(line) for line in lines],
        "made": made,
        "failed": dict(sorted(failed.items())),
        "failed_models": {name: error.message for name, error in failed_models.items()},
        "seconds": round(seconds, 3),
        "images_per_second": round(made / seconds, 4) if seconds else 0.0,
    }


def _conclusion(summary: dict[str, Any]) -> str:
    from sdg_data.progress import duration

    failed = ", ".join(f"{number} {code}" for code, number in summary["failed"].items())
    text = f"made {summary['made']} images in {duration(summary['seconds'])} ({summary['images_per_second']:.3g}/s)"
    if failed:
        text += f"; failed: {failed} (recorded; --retry-failures tries them again)"
    missing = {line["model"]: line["missing"] for line in summary["plan"]}
    for name, message in summary["failed_models"].items():
        text += f"\n{name} failed as a whole, {missing[name]} of its images are not there: {message}"
    return text


def _time(line: ModelPlan) -> str:
    from sdg_data.progress import duration

    if not line.missing:
        return ""
    return "unknown" if line.seconds is None else duration(line.seconds)


def _show(lines: list[ModelPlan]) -> None:
    from sdg_data.progress import duration

    print_table(
        [
            {
                "model": line.model,
                "revision": _short(line.revision, line.pinned),
                "there": line.present,
                "to make": line.missing,
                "size": f"{line.width}x{line.height}",
                "steps": line.steps,
                "batch": line.batch_size,
                "time": _time(line),
                "from": line.seconds_from if line.missing else "",
                "disk": _size(line.bytes),
                "cut prompts": "not counted" if line.cut_prompts is None else str(line.cut_prompts),
            }
            for line in lines
        ]
    )
    for line in lines:
        if not line.pinned:
            say(f"{line.model}: revision {line.revision} is not pinned; its weights may change under the same name")
    for line in lines:
        if line.cut_prompts:
            say(
                f"{line.model}: {line.cut_prompts} prompts are longer than the {line.token_limit} tokens it reads; "
                "their images show the beginning only (`sdg images list --cut-prompts`)"
            )
    known = [line.seconds for line in lines if line.seconds is not None]
    if len(lines) > 1:
        total = duration(sum(known)) + ("" if len(known) == len(lines) else " and an unknown time")
        say(f"{sum(line.missing for line in lines)} images, {total}, {_size(sum(line.bytes for line in lines))}")


def _short(revision: str, pinned: bool) -> str:
    return revision[:10] if pinned else f"{revision[:10]} (not pinned)"


def _size(number: float) -> str:
    unit = 0
    while number >= 1000 and unit < len(_UNITS) - 1:
        number /= 1000
        unit += 1
    return f"{number:.3g} {_UNITS[unit]}"
