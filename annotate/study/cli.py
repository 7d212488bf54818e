"""`sdg study`: people compare images of several arms, blind; a report says who is preferred, and how surely."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sdg_data.console import Json, Names, command_group, names_option, print_json, print_table, say, settings_of

app = command_group("People compare images of several arms without knowing which is which.")


@app.command("create")
def create_command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The study's name")],
    arm: Annotated[
        list[str], typer.Option("--arm", metavar="NAME=SOURCE", help="model:MODEL, or a table with image_id; repeat it")
    ],
    protocol: Annotated[
        str, typer.Option(help="gsb: two images, better, same or worse; ranks: all arms ranked at once")
    ] = "gsb",
    against: Annotated[str | None, typer.Option(help="Only pairs with this arm (gsb)")] = None,
    repeats: Annotated[float, typer.Option(min=0, max=1, help="Share of trials that are asked twice")] = 0.1,
    identical: Annotated[float, typer.Option(min=0, max=1, help="Share of trials that show one image twice")] = 0.05,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of choices, order and sides")] = 0,
    as_json: Json = False,
) -> None:
    """Make a study of images in the store. Items that an arm has no image for are counted in the report."""
    from annotate.study.create import create, plan
    from schemas.study import StudyProtocol
    from sdg_data.errors import ConfigError
    from sdg_data.store.connection import Store

    if protocol not in list(StudyProtocol):
        raise ConfigError(f"there is no protocol {protocol!r}", hint=f"It is {' or '.join(StudyProtocol)}.")
    sources: dict[str, str] = {}
    for given in arm:
        arm_name, equals, source = given.partition("=")
        if not (arm_name and equals and source) or arm_name in sources:
            raise ConfigError(
                f"{given!r} is no arm, or its name is there twice", item="--arm", hint="--arm NAME=model:MODEL"
            )
        sources[arm_name] = source
    store = Store(settings_of(ctx).home)
    with store.read() as tx:
        planned = plan(
            tx,
            name,
            sources,
            protocol=StudyProtocol(protocol),
            against=against,
            repeats=repeats,
            identical=identical,
            limit=limit,
            seed=seed,
        )
    new = create(store, planned)
    kinds = {kind: sum(trial.kind == kind for trial in planned.trials) for kind in ("judged", "repeated", "identical")}
    say(
        f"{name}: {kinds['judged']} trials, {kinds['repeated']} of them asked twice, {kinds['identical']} of one image "
        f"twice; {len(planned.refusals)} images are missing" + ("" if new else " (it was there already)")
    )
    if as_json:
        print_json({"study": name, "new": new, **kinds, "missing": len(planned.refusals)})


@app.command("list")
def list_command(ctx: typer.Context, as_json: Json = False) -> None:
    """The studies of the home, and how far their raters are."""
    from sdg_data.store import studies
    from sdg_data.store.connection import Store

    rows: list[dict[str, Any]] = []
    with Store(settings_of(ctx).home).read() as tx:
        for study in studies.all_studies(tx):
            trials = len(studies.trials(tx, study.id))
            raters = studies.raters(tx, study.id)
            rows.append(
                {
                    "study": study.name,
                    "protocol": str(study.protocol),
                    "arms": ", ".join(study.arms),
                    "trials": trials,
                    "raters": len(raters),
                    "votes": len(studies.votes(tx, study.id)),
                    "votes wanted": trials * len(raters),
                }
            )
    if as_json:
        print_json(rows)
    else:
        print_table(rows)


@app.command("serve")
def serve_command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The study's name")],
    raters: Annotated[Names | None, names_option("--raters", help="Who is asked; more may join later")] = None,
    host: Annotated[str, typer.Option(help="The address to serve on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7861,
    url: Annotated[
        str | None, typer.Option(help="How raters reach it, where that is not its own address (behind a proxy)")
    ] = None,
) -> None:
    """Serve the page of a study, and print a link for each rater. Ctrl-C ends it; raters go on where they were."""
    import uvicorn

    from annotate.study.report import load
    from annotate.study.serve import Session, add_raters, make_app, tokens
    from sdg_data.blobs import Blobs
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    store = Store(settings.home)
    study = load(store, name).study
    numbers = add_raters(store, study, list(raters or ()))
    links = tokens(settings.home, study, numbers)
    app_ = make_app(Session(store, Blobs(settings.blob_url), study, links, numbers))
    base = (url or f"http://{host}:{port}").rstrip("/")
    for rater, token in links.items():
        print(f"{rater}\t{base}/?rater={token}", flush=True)
    say(f"study {name} is served on {base}: give each rater the link above (Ctrl-C ends it)")
    uvicorn.run(app_, host=host, port=port, log_level="warning")


@app.command("report")
def report_command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The study's name")],
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write it as JSON; - is stdout")
    ] = None,
    leave_out_flagged: Annotated[
        bool, typer.Option("--leave-out-flagged", help="Without the votes of flagged raters")
    ] = False,
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of the 95 % intervals")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the resamples")] = 0,
) -> None:
    """Who is preferred and how surely, how far raters agree, and whom of them to look at."""
    import json

    from annotate.study.report import build, document, load, tables
    from sdg_data.store.connection import Store

    data = load(Store(settings_of(ctx).home), name)
    report = build(data, leave_out_flagged=leave_out_flagged, resamples=resamples, seed=seed)
    if json_out is not None and str(json_out) == "-":
        print_json(document(report))
        return
    if json_out is not None:
        json_out.write_text(json.dumps(document(report), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        say(f"written: {json_out}")
    for part in tables(report):
        if part.rows:
            typer.echo(f"\n{part.title}")
            print_table(part.rows)


@app.command("size")
def size_command(
    half_width: Annotated[float, typer.Argument(help="The wished interval of the net preference, ± so much (0..1)")],
    good: Annotated[float, typer.Option(min=0, max=1, help="Expected share of better")] = 0.105,
    bad: Annotated[float, typer.Option(min=0, max=1, help="Expected share of worse")] = 0.035,
    as_json: Json = False,
) -> None:
    """How many items a study needs, before it is started. The defaults are what the paper's refinement study found."""
    from sdg_data.errors import ConfigError
    from sdg_data.metrics.preference import items_for

    try:
        items = items_for(half_width, good=good, bad=bad)
    except ValueError as error:
        raise ConfigError(str(error), item="sdg study size") from error
    if as_json:
        print_json({"items": items, "half_width": half_width, "good": good, "bad": bad})
    else:
        typer.echo(f"{items} items")
