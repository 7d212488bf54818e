"""`sdg refine`: edit defects away, and say what came of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdg_data.console import (
    Json,
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
    from generators.editors.contract import Editor
    from generators.editors.presets import EditorPreset
    from sdg_data.settings import Settings
    from sdg_data.work import Executor
    from trainers.refinement.settings import RefineSettings
    from trainers.refinement.signals import Signals
    from trainers.refinement.source import Work
    from trainers.refinement.stage import RefineJob

app = command_group("Edit the defects of images away, and keep what passes a test.")


@app.command("run", cls=RetryCommand)
@grouped
def run_command(
    ctx: typer.Context,
    *,
    source: Annotated[
        str | None,
        typer.Option(help="Whose defects: prelabel:MODEL, gold, annotator:NAME …; default: the model of [prelabel]"),
    ] = None,
    arm: Annotated[
        str | None, typer.Option(help="defects: one after another in masks; sdg, caption, heatmaps: the paper's")
    ] = None,
    editor: Annotated[str | None, typer.Option(help="Name of an editor; `sdg refine editors` lists them")] = None,
    models: Annotated[Names | None, names_option(help="Only images of these models, separated by commas")] = None,
    split: Annotated[str | None, typer.Option(help="train or test")] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Only the images of this list")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="At most so many edits one after another")] = None,
    candidates: Annotated[int | None, typer.Option(min=1, help="Tries of each edit; the best that passes")] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="At most so many candidates of one image")] = None,
    reward: Annotated[
        str | None, typer.Option(help="A base reward that may not fall, by its kind; others stand in [refine]")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Refine at most so many images now")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps or auto")] = None,
    retry_failures: RetryFailures = None,
    workers: WorkOptions,
    wait: Annotated[bool, typer.Option(help="Wait for another `refine run` on this home, or leave at once")] = True,
    dry_run: Annotated[bool, typer.Option(help="Only show the plan")] = False,
    as_json: Json = False,
) -> None:
    """Refine the images that have defects. Interrupted or killed: run the same command again to go on.

    Images that the source calls clean, or says nothing readable of, are not edited; they are counted.
    """
    from sdg_data.blobs import Blobs
    from sdg_data.metrics.store_sources import Filter
    from sdg_data.store.connection import Store
    from sdg_data.store.image_list import check
    from sdg_data.store.image_list import read as read_list
    from sdg_data.workers.choose import executor_of
    from trainers.refinement.chain import STAGE
    from trainers.refinement.screen import show_plan, summary_of
    from trainers.refinement.source import work_of

    settings = settings_of(ctx)
    over = {
        "arm": arm,
        "editor": editor,
        "rounds": rounds,
        "candidates": candidates,
        "budget": budget,
        "device": device,
        "rewards": None if reward is None else [{"kind": reward}],
    }
    executor = executor_of(settings, workers, STAGE)
    refine, preset, job, source = _job(settings, over, source)
    store, blobs = Store(settings.home), Blobs(settings.blob_url)
    chosen = Filter(None if models is None else tuple(models), chosen_split(split))
    listed = None
    if images is not None:
        lines = read_list(images)
        with store.read() as tx:
            check(tx, list(lines), lines=lines, item=str(images))
        listed = set(lines)

    def work() -> Work:
        retry = retry_failures or ()
        return work_of(store, blobs, source, job.identity.run_id, chosen=chosen, listed=listed, retry=retry)

    if dry_run:
        show_plan(work(), refine, preset, limit, as_json)
        return
    with store.read():
        pass
    with command_lock(settings, STAGE, wait=wait):
        todo = work()
        if not as_json:
            show_plan(todo, refine, preset, limit, as_json=False)
        if not todo.defects or limit == 0:
            say("nothing to do")
            if as_json:
                print_json(summary_of(todo, {}, {}, {}, 0.0))
            return
        _execute(settings, store, blobs, job, todo, limit, as_json, executor)


@app.command("editors")
def editors_command(ctx: typer.Context, as_json: Json = False) -> None:
    """List the editors: how they take what is to be edited, their checkpoint and its licence."""
    from generators.editors.presets import editor_presets

    settings = settings_of(ctx)
    rows = [
        {
            "editor": preset.name,
            "takes": "a mask" if preset.masked else f"{preset.images} pictures",
            "pipeline": preset.pipeline,
            "checkpoint": preset.repository if preset.folder is None else preset.folder.name,
            "licence": preset.licence,
            "about": preset.about,
        }
        for preset in editor_presets(settings.editors).values()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows)


@app.command("report")
def report_command(
    ctx: typer.Context,
    run: Annotated[str | None, typer.Option(help="A run's id or its beginning; default: the last one")] = None,
    judge: Annotated[
        str | None, typer.Option(help="Who judges, and was not asked while refining: gold, prelabel:OTHER, oracle")
    ] = None,
    explain: Annotated[
        bool, typer.Option(help="With --judge: where edits help, why some are worse, what other tests would have taken")
    ] = False,
    study: Annotated[
        Path | None, typer.Option(help="Write before.csv and after.csv, the arms of a study, into this folder")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Write the list of refined images to this file")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Draw a sheet of images before and after (PNG)")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many images on the sheet")] = 12,
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of the 95 % intervals")] = 1000,
    as_json: Json = False,
) -> None:
    """Say what a run came to: what was accepted, what was not and why, and burdens before and after."""
    from schemas.refinement import RefinementState
    from sdg_data.blobs import Blobs
    from sdg_data.errors import ConfigError, InputError
    from sdg_data.metrics.refinement import burdens_of, read_run, report
    from sdg_data.store import image_list
    from sdg_data.store.connection import Store
    from trainers.refinement.explain import explain as explained
    from trainers.refinement.report import judged_defects, write_study
    from trainers.refinement.screen import print_report
    from trainers.refinement.sheet import before_after_sheet

    settings = settings_of(ctx)
    if explain and judge is None:
        raise ConfigError(
            "--explain needs a --judge", item="sdg refine report", hint="Such as gold, or the mini oracle."
        )
    store, blobs = Store(settings.home), Blobs(settings.blob_url)
    with store.read() as tx:
        records = read_run(tx, run)
        picture = None if sheet is None else before_after_sheet(tx, blobs, records, limit=limit)
    judged = None if judge is None else judged_defects(store, blobs, judge, records.images)
    facts = report(records, None if judged is None else burdens_of(judged), resamples=resamples)
    if explain and judged is not None:
        facts["explained"] = explained(records, judged, resamples=resamples)
    if sheet is not None and picture is None:
        say(f"there is nothing to draw, so {sheet} is not written: run {records.run.id[:12]} edited no image")
    elif sheet is not None and picture is not None:
        try:
            sheet.parent.mkdir(parents=True, exist_ok=True)
            picture.save(sheet, format="PNG")
        except OSError as error:
            raise InputError(f"cannot write the sheet ({error.strerror or error})", item=str(sheet)) from error
        say(f"written: {sheet}")
    if results is not None:
        refined = [
            refinement.result_id for refinement in records.refinements if refinement.state is RefinementState.REFINED
        ]
        image_list.write(results, refined, heading=f"refined by {records.run.arm}, run {records.run.id}")
        say(f"{len(refined)} images on {results}")
    if study is not None:
        count, refused = write_study(records, study)
        say(f"{study}: {count} images before and after, {refused} without an accepted edit")
    if as_json:
        print_json(facts)
        return
    print_report(facts)


@app.command("pairs")
def pairs_command(
    ctx: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to")],
    layout: Annotated[
        str, typer.Option(help="pick-a-pic (Diffusion-DPO, MaPO), or trl (DPOTrainer, for a judge)")
    ] = "pick-a-pic",
    run: Annotated[str | None, typer.Option(help="A run's id or its beginning; default: the last one")] = None,
    within: Annotated[
        str | None, typer.Option(help="Pair a prompt's images too, by the burden of this source of defects")
    ] = None,
    reward: Annotated[
        str | None, typer.Option(help="With --within: the base reward that has to agree, by its kind")
    ] = None,
    margin: Annotated[float, typer.Option(min=0, help="With --within: the least difference of burdens")] = 0.05,
    as_json: Json = False,
) -> None:
    """Write pairs for preference training: accepted edits and their originals, where detector and reward agree."""
    from sdg_data.blobs import Blobs
    from sdg_data.errors import ConfigError, ExitCode
    from sdg_data.metrics.refinement import read_run
    from sdg_data.store.connection import Store
    from trainers.refinement.pairs import edit_pairs, write_pairs

    settings = settings_of(ctx)
    if (within is None) != (reward is None):
        raise ConfigError("--within and --reward go together", item="sdg refine pairs", hint="Two judges make a pair.")
    store, blobs = Store(settings.home), Blobs(settings.blob_url)
    with store.read() as tx:
        chosen_pairs = edit_pairs(tx, read_run(tx, run))
    none = dict(chosen_pairs.none)
    pairs = list(chosen_pairs.pairs)
    if within is not None and reward is not None:
        more = _within(settings, store, blobs, within, reward, margin)
        pairs += more.pairs
        for reason, number in more.none.items():
            none[reason] = none.get(reason, 0) + number
    counts, left_out = write_pairs(pairs, blobs, output, layout)
    edits = sum(pair.source == "edit" for pair in pairs)
    say(f"{edits} pairs of edits and {len(pairs) - edits} within prompts, in {output}")
    for reason, number in sorted(none.items()):
        say(f"  no pair: {number}, {reason}")
    for line in left_out:
        say(f"  left out: {line}")
    if as_json:
        print_json({"rows": counts, "edits": edits, "within": len(pairs) - edits, "none": none, "left_out": left_out})
    if left_out:
        raise typer.Exit(int(ExitCode.PARTIAL))


def _within(settings: Settings, store: Any, blobs: Any, source: str, reward: str, margin: float) -> Any:
    """Pairs of the images that no refinement made, by a source's burdens and a reward that is asked now."""
    from sdg_data.picture.decode import decode_pixels
    from sdg_data.store import images, prompts, refinements
    from trainers.refinement.pairs import within_prompts
    from trainers.refinement.report import judged_burdens
    from trainers.refinement.settings import refine_settings
    from trainers.refinement.signals import scores_of
    from trainers.rewards.settings import make_reward

    with store.read() as tx:
        made = refinements.candidate_ids(tx)
        every = [image for image in images.page(tx) if image.id not in made]
        texts = prompts.by_ids(tx, sorted({image.prompt_id for image in every}))
    burdens = judged_burdens(store, blobs, source, {image.id for image in every}, "--within")
    pictures = [(decode_pixels(blobs.get(image.blob))[:, :, :3], texts[image.prompt_id].text) for image in every]
    rewards = refine_settings({}, {"rewards": [{"kind": reward}]}).rewards
    scores = scores_of(make_reward(rewards), pictures)
    known = {image.id: score for image, score in zip(every, scores, strict=True) if score is not None}
    with store.read() as tx:
        return within_prompts(tx, every, burdens, known, margin=margin)


def _job(
    settings: Settings, over: dict[str, Any], source: str | None
) -> tuple[RefineSettings, EditorPreset, RefineJob, str]:
    from generators.editors.presets import choose_editor, editor_presets
    from generators.revisions import revision_of
    from trainers.refinement.instructions import load_instruction
    from trainers.refinement.settings import identity_of, refine_settings
    from trainers.refinement.source import source_name
    from trainers.refinement.stage import RefineJob
    from trainers.rewards.settings import DetectorSettings

    refine = refine_settings(settings.refine, over)
    preset = choose_editor(refine.editor, editor_presets(settings.editors))
    detector = refine.detector or DetectorSettings(vlm=settings.prelabel)
    source = source or f"prelabel:{_model_of(settings)}"
    template = load_instruction(refine.instruction or preset.instruction or refine.of_arm.instruction)
    revision = preset.repository if preset.kind == "hosted" else revision_of(preset)
    identity = identity_of(
        refine,
        source=source,
        editor=preset.settings,
        revision=revision,
        template=template.id,
        detector=detector,
    )
    follow = source_name(source).kind == "prelabel"
    return refine, preset, RefineJob(refine, identity, preset, revision, template, follow), source


def _model_of(settings: Settings) -> str:
    from annotate.vlm.registry import make_backend

    return make_backend(settings.prelabel).identity.model


def _execute(
    settings: Settings,
    store: Any,
    blobs: Any,
    job: RefineJob,
    work: Work,
    limit: int | None,
    as_json: bool,
    executor: Executor,
) -> None:
    from trainers.refinement.screen import conclusion, summary_of
    from trainers.refinement.stage import RefineStage

    stage = RefineStage(store, blobs, job, work, partial(_tools, settings, job), limit=limit)
    run_stage(
        stage,
        unit="images",
        summarise=lambda seconds: summary_of(work, stage.states, stage.verdicts, stage.failed, seconds),
        conclude=conclusion,
        as_json=as_json,
        executor=executor,
    )


def _tools(settings: Settings, job: RefineJob) -> tuple[Editor, Signals]:
    """What a process that refines needs; made there."""
    return _editor(job), _signals(settings, job.settings)


def _editor(job: RefineJob) -> Editor:
    if job.preset.kind == "hosted":
        from generators.editors.hosted import HostedEditor

        return HostedEditor(job.preset)
    from generators.editors.local import load_editor

    return load_editor(job.preset, job.revision, device=job.settings.device)


def _signals(settings: Settings, refine: RefineSettings) -> Signals:
    from trainers.refinement.signals import Signals
    from trainers.rewards.settings import DetectorSettings, make_detector, make_reward

    detector = refine.detector or DetectorSettings(vlm=settings.prelabel)
    reward = make_reward(refine.rewards) if refine.rewards else None
    return Signals(make_detector(detector), reward)
