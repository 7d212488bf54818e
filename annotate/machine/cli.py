"""`sdg prelabel` and `sdg enrich`: ask, resume, count."""

from __future__ import annotations

from dataclasses import dataclass
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
    from annotate.machine.stage import VlmStage
    from annotate.vlm.contract import Backend
    from sdg_data.settings import Settings, VlmSettings
    from sdg_data.store.connection import Store
    from sdg_data.work import Executor

prelabel_app = command_group("Ask a detector about the images: what is wrong with them, and where.")
enrich_app = command_group("Ask a VLM to expand what people drew: reasons, a trace, importance.")

BackendName = Annotated[
    str | None, typer.Option("--backend", help="mini, transformers or openai [default: the profile's]")
]
EnricherName = Annotated[
    str | None,
    typer.Option("--backend", help="template (no model), mini, transformers or openai [default: the profile's]"),
]
Models = Annotated[Names | None, names_option("--models", help="Only images of these models, separated by commas")]
SplitName = Annotated[str | None, typer.Option("--split", help="Only images of this split: train or test")]
Wait = Annotated[bool, typer.Option(help="Wait for another run on this home, or leave at once")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be asked")]


@dataclass(frozen=True)
class ModelOptions:
    """What is asked, beside the backend. None: what the profile says."""

    model: Annotated[str | None, typer.Option(help="A folder, a hub repository, or the server's name for it")] = None
    base_url: Annotated[
        list[str] | None,
        typer.Option(help="Where an OpenAI-compatible server is: http://…/v1; again for each further server"),
    ] = None
    revision: Annotated[str | None, typer.Option(help="The state of the model's weights")] = None
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Questions under way at once (half again a server's slots)")
    ] = None
    batch_size: Annotated[int | None, typer.Option(min=1, help="Questions a call, for a model on this machine")] = None


@dataclass(frozen=True)
class Bounds:
    """How much is asked, and what failed before and is asked again."""

    limit: Annotated[int | None, typer.Option(min=0, help="Ask about at most so many now")] = None
    budget: Annotated[
        float | None, typer.Option(min=0, help="US dollars that this stage may have cost in all; never passed")
    ] = None
    retry_failures: RetryFailures = None


@prelabel_app.command("run", cls=RetryCommand)
@grouped
def prelabel_run(
    ctx: typer.Context,
    *,
    backend: BackendName = None,
    model: ModelOptions,
    models: Models = None,
    split: SplitName = None,
    bounds: Bounds,
    work: WorkOptions,
    wait: Wait = True,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Ask about the images that have no answer yet. Interrupted or killed: run the same command again to go on."""
    from annotate.machine.prelabel import PrelabelStage
    from annotate.vlm.registry import make_backend, template_for
    from sdg_data.blobs import Blobs
    from sdg_data.store import prelabels

    settings = settings_of(ctx)
    section = _changed(settings.prelabel, backend, model)
    store = _existing_store(settings)
    if dry_run:
        _examine("prelabel", section, as_json)
    vlm = make_backend(section)
    stage = PrelabelStage(
        store,
        Blobs(settings.blob_url),
        vlm,
        template_for(vlm, section),
        models=models,
        **_bounds(section, vlm, store, "prelabel", split, bounds),
    )

    def counts() -> dict[str, int]:
        with store.read() as tx:
            return prelabels.count(tx, stage.wanted)

    executor = _executor(settings, work, stage, vlm)
    _run(settings, stage, vlm, counts, executor, wait=wait, dry_run=dry_run, as_json=as_json, unit="images")


@enrich_app.command("run", cls=RetryCommand)
@grouped
def enrich_run(
    ctx: typer.Context,
    *,
    backend: EnricherName = None,
    model: ModelOptions,
    split: SplitName = None,
    unreviewed: Annotated[
        bool, typer.Option("--unreviewed", help="Also images that one person annotated and nobody reviewed")
    ] = False,
    bounds: Bounds,
    work: WorkOptions,
    wait: Wait = True,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Ask for the additions to accepted annotations that have none yet. Killed: run the same command again to go on."""
    from annotate.machine.enrich import EnrichStage
    from annotate.machine.template_enricher import TemplateEnricher
    from annotate.vlm.registry import make_backend
    from sdg_data.blobs import Blobs
    from sdg_data.prompt_templates import ENRICH, load_template
    from sdg_data.store.gold import GoldRule

    settings = settings_of(ctx)
    section = _changed(settings.enrich, backend, model)
    store = _existing_store(settings)
    if dry_run:
        _examine("enrich", section, as_json)
    vlm: Backend = TemplateEnricher() if section.backend == "template" else make_backend(section)
    if section.backend == "template":
        say("template: sentences put together from the boxes, no model looks at the images")
    stage = EnrichStage(
        store,
        Blobs(settings.blob_url),
        vlm,
        load_template(section.template or ENRICH),
        rule=GoldRule(unreviewed=unreviewed),
        **_bounds(section, vlm, store, "enrich", split, bounds),
    )
    _run(
        settings,
        stage,
        vlm,
        lambda: {"missing": stage.count()},
        _executor(settings, work, stage, vlm),
        wait=wait,
        dry_run=dry_run,
        as_json=as_json,
        unit="annotations",
    )


@prelabel_app.command("info")
def prelabel_info(ctx: typer.Context, as_json: Json = False) -> None:
    """Count answers, failures and costs, by model."""
    from sdg_data.store import calls, failures, prelabels
    from sdg_data.store.connection import Store

    with Store(settings_of(ctx).home).read() as tx:
        answers, usage, failed = (
            prelabels.count_by_model(tx),
            calls.statistics(tx),
            failures.count_by_code(tx, "prelabel"),
        )
    if as_json:
        print_json({"prelabels": answers, "calls": usage, "failures": failed})
        return
    print_table(answers)
    print_table(usage)


def _executor(settings: Settings, work: WorkOptions, stage: VlmStage[Any, Any], backend: Backend) -> Executor:
    """Who computes: workers only where the model runs in them, and where no bill has to be kept."""
    from sdg_data.work import LocalExecutor
    from sdg_data.workers.choose import executor_of

    executor = executor_of(settings, work, stage.name)
    if isinstance(executor, LocalExecutor):
        return executor
    if not backend.local:
        say("no workers: a server is asked by this process, `concurrency` questions at once")
        return LocalExecutor()
    if stage.budget.limit is not None:
        say("no workers: one process keeps to a --budget")
        return LocalExecutor()
    return executor


def _examine(subject: str, section: VlmSettings, as_json: bool) -> None:
    """Say what a dry run finds in the way of asking; end where the run could not work."""
    from annotate.vlm.preflight import examine
    from sdg_data.preflight.findings import as_rows, error_of, faults, show

    findings = examine(subject, section)
    wrong = faults(findings)
    if not as_json:
        show(findings)
    elif wrong:
        print_json({"findings": as_rows(findings)})
    if wrong:
        raise error_of(wrong[0])


def _run(
    settings: Settings,
    stage: VlmStage[Any, Any],
    backend: Backend,
    counts: Any,
    executor: Executor,
    *,
    wait: bool,
    dry_run: bool,
    as_json: bool,
    unit: str,
) -> None:
    from sdg_data.store import calls
    from sdg_data.store.connection import Store

    identity = backend.identity
    facts = {"backend": identity.backend, "model": identity.model, "revision": identity.revision}
    if dry_run:
        plan = {**facts, **counts(), "spent": stage.budget.spent}
        print_json(plan) if as_json else print_table([plan])
        return
    with command_lock(settings, stage.name, wait=wait):
        recovered = stage.recover()
        with Store(settings.home).read() as tx:
            stage.budget.spent = calls.spent(tx, stage.name)
        if recovered:
            say(f"{recovered} answers of a run that was killed are stored now")
        before = counts()
        pool = getattr(backend, "pool", None)
        say(f"{identity.backend}: {identity.model} ({identity.revision[:12]}), {before['missing']} {unit} to ask about")

        def summarise(seconds: float) -> dict[str, Any]:
            return {
                **facts,
                "recovered": recovered,
                "made": stage.made,
                "failed": dict(sorted(stage.failed.items())),
                "failed_before": before.get("failed", 0),
                "left": counts()["missing"],
                "spent": round(stage.budget.spent, 6),
                "out_of_budget": stage.out_of_budget,
                "seconds": round(seconds, 3),
                **({"servers": pool.rows()} if pool is not None and pool.several else {}),
            }

        run_stage(
            stage,
            unit=unit,
            summarise=summarise,
            conclude=lambda summary: _conclusion(summary, unit),
            as_json=as_json,
            executor=executor,
        )


def _conclusion(summary: dict[str, Any], unit: str) -> str:
    from sdg_data.progress import duration

    failed = ", ".join(f"{number} {code}" for code, number in summary["failed"].items())
    parts = [f"{summary['made']} {unit} answered in {duration(summary['seconds'])}"]
    if failed:
        parts.append(f"failed: {failed} (recorded with their raw text; --retry-failures CODE asks again)")
    if summary["failed_before"]:
        parts.append(f"{summary['failed_before']} that failed before were passed over")
    if summary["spent"]:
        parts.append(f"USD {summary['spent']:.4f} spent in all")
    if summary["out_of_budget"]:
        parts.append(f"stopped at the budget, {summary['left']} left")
    lines = ["; ".join(parts)]
    for row in summary.get("servers", ()):
        pace = "" if row["seconds"] is None else f", {row['seconds']:.2f} s each"
        did = f"{row['answered']} answers ({row['share']:.0%}){pace}, {row['failed']} failed"
        lines.append(f"{row['server']}: {did}, {row['state']}")
    return "\n".join(lines)


def _changed(
    section: VlmSettings,
    backend: str | None,
    model: ModelOptions,
) -> VlmSettings:
    """The section with the command line's options. Another backend does not inherit the section's model."""
    if backend is not None and backend != section.backend:
        section = section.model_copy(update={"backend": backend, "model": "", "revision": "", "template": ""})
    given = {**vars(model), "base_url": " ".join(model.base_url) if model.base_url else None}
    return section.model_copy(update={name: value for name, value in given.items() if value is not None})


def _existing_store(settings: Settings) -> Store:
    """The home's store; a home without one is an error, not a home to make a lock file in."""
    from sdg_data.store.connection import Store

    store = Store(settings.home)
    with store.read():
        return store


def _bounds(
    section: VlmSettings,
    backend: Backend,
    store: Store,
    stage: str,
    split: str | None,
    bounds: Bounds,
) -> dict[str, Any]:
    """What bounds a stage, as its constructor takes it: requests, money, and which items."""
    from annotate.machine.budget import Budget
    from annotate.machine.stage import RequestLimits
    from annotate.vlm.registry import prices_of
    from annotate.vlm.servers import thinking_tokens
    from sdg_data.store import calls

    with store.read() as tx:
        spent = calls.spent(tx, stage)
    return {
        "limits": RequestLimits(
            # Twice a batch, so that the next one waits when a model on this machine becomes free.
            concurrency=2 * section.batch_size if backend.local else section.concurrency,
            deadline=section.deadline,
            max_tokens=section.max_tokens + thinking_tokens(section),
        ),
        "budget": Budget(bounds.budget, prices_of(section), spent=spent),
        "split": chosen_split(split),
        "limit": bounds.limit,
        "retry": bounds.retry_failures or (),
        "retry_all": bounds.retry_failures == ("all",),
    }
