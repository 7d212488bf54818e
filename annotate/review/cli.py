"""`sdg annotate review | report | simulate`: the second round, how well people agree, and people for the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sdg_data.console import Json, command_lock, print_json, print_table, say, settings_of

Wait = Annotated[bool, typer.Option(help="Wait for another run on this home, or leave at once")]


def review_command(
    ctx: typer.Context,
    round_: Annotated[int, typer.Option("--round", min=1, help="Which round of review")] = 1,
    early: Annotated[bool, typer.Option("--early", help="Also images that wait for more people")] = False,
    limit: Annotated[int | None, typer.Option(min=0, help="Make only so many new tasks")] = None,
    wait: Wait = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide and push nothing, only count")] = False,
    as_json: Json = False,
) -> None:
    """Store the reviewers' verdicts that were pulled, and hand out what needs a review. Run it after every pull."""
    from annotate.labelstudio.sync import LOCK, open_sync
    from annotate.review.run import review

    settings = settings_of(ctx)
    with open_sync(settings) as sync, command_lock(settings, LOCK, wait=wait):
        facts = review(sync, round_=round_, early=early, limit=limit, dry_run=dry_run)
    if as_json:
        print_json(facts)
        return
    print_table([{"what": name, "number": number} for name, number in facts.items()])


def report_command(
    ctx: typer.Context,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write it as JSON; - is stdout")
    ] = None,
    reference: Annotated[str, typer.Option(help="What people are held against: gold, or gold:unreviewed")] = "gold",
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of the 95 % intervals")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the resamples")] = 0,
) -> None:
    """How far people agree, what prelabels do to them, what is in quarantine, and the hours."""
    import json
    from dataclasses import asdict

    from annotate.known_answers.standing import alarms, as_rows, described, standings
    from annotate.review.progress import called
    from annotate.review.report import as_json, build, tables
    from sdg_data.people import people_of
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    people = people_of(settings.home, anonymous=settings.annotate.anonymous)
    report = build(Store(settings.home), reference=reference, resamples=resamples, seed=seed, people=people)
    with Store(settings.home).read() as tx:
        known = called(people, standings(tx, settings.annotate.known_answers))
    document = {**as_json(report), "known_answers": [asdict(person) for person in known]}
    if json_out is not None and str(json_out) == "-":
        print_json(document)
        return
    if json_out is not None:
        json_out.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        say(f"written: {json_out}")
    for title, rows in [*tables(report), (described(known), as_rows(known))]:
        if rows:
            typer.echo(f"\n{title}")
            print_table(rows)
    for line in alarms(known):
        say(line)


def status_command(ctx: typer.Context, as_json: Json = False) -> None:
    """What each person has done, what waits for a review, is held back or was rejected, and the time it took."""
    from dataclasses import asdict

    from annotate.known_answers import standing
    from annotate.review.progress import as_rows, called, open_tasks, progress, rejections
    from sdg_data.people import people_of
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    names = people_of(settings.home, anonymous=settings.annotate.anonymous)
    with Store(settings.home).read() as tx:
        people, waiting, rejected = called(names, progress(tx)), open_tasks(tx), called(names, rejections(tx))
        known = called(names, standing.standings(tx, settings.annotate.known_answers))
    if as_json:
        facts = {
            "open_tasks": waiting,
            "people": [asdict(person) for person in people],
            "known_answers": [asdict(person) for person in known],
        }
        print_json({**facts, "rejected": [asdict(rejection) for rejection in rejected]})
        return
    say(f"{waiting} tasks that nobody has answered")
    print_table(as_rows(people))
    if known:
        typer.echo(f"\n{standing.described(known)}")
        print_table(standing.as_rows(known))
        for line in standing.alarms(known):
            say(line)
    if rejected:
        typer.echo("\nRejected, with the reviewer's words")
        print_table([{**asdict(rejection), "note": rejection.note or ""} for rejection in rejected])


def simulate_command(
    ctx: typer.Context,
    people: Annotated[int, typer.Option(min=1, help="How many annotators")] = 4,
    reviewers: Annotated[int, typer.Option(min=1, help="How many reviewers")] = 2,
    images: Annotated[int | None, typer.Option(min=0, help="Only the first so many tasks")] = None,
    seed: Annotated[int, typer.Option(help="Of their habits, and of what they enter")] = 0,
    review: Annotated[bool, typer.Option("--review", help="Reviewers at the review tasks, not annotators")] = False,
    as_json: Json = False,
) -> None:
    """Simulated people do what waits in Label Studio (mini profile only; for the demo and for tests)."""
    from annotate.labelstudio.sync import open_sync
    from annotate.simulation.annotators import annotators
    from annotate.simulation.run import SimulatedTeam, open_projects
    from schemas.labelling import ProjectKind
    from sdg_data.errors import ConfigError

    members = annotators(reviewers, seed, kind="reviewer", reviewers=True) if review else annotators(people, seed)
    total: dict[str, Any] = {"people": len(members), "submitted": 0, "done_before": 0}
    with open_sync(settings_of(ctx)) as sync:
        projects = open_projects(sync, ProjectKind.REVIEW if review else ProjectKind.ANNOTATE)
        if not projects:
            raise ConfigError(
                "there is no project for them yet", hint=f"sdg annotate {'review' if review else 'init, then push'}"
            )
        with SimulatedTeam(sync, members) as team:
            for project in projects:
                done = team.work(project, limit=images)
                total["submitted"] += len(done.submitted)
                total["done_before"] += done.done_before
                for name, number in done.counts.items():
                    total[name] = total.get(name, 0) + number
    say(f"{total['submitted']} answers of {len(members)} simulated {'reviewers' if review else 'annotators'}")
    if as_json:
        print_json(total)


def next_command(
    ctx: typer.Context,
    by: Annotated[
        str, typer.Option(help="random, uncertainty, detectors, spread, corrections or coverage")
    ] = "detectors",
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many of the first")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write their ids, one a line, for `push --images`")
    ] = None,
    as_json: Json = False,
) -> None:
    """What to label next: images that went to nobody, ordered by what an answer about them is expected to teach."""
    from annotate.review.next_images import RankingPolicy, candidates, corrections, rank, summary
    from sdg_data.errors import ConfigError
    from sdg_data.store import image_list
    from sdg_data.store.connection import Store

    if by not in set(RankingPolicy):
        raise ConfigError(f"there is no policy {by!r}", item="--by", hint=f"It is {', '.join(RankingPolicy)}.")
    settings = settings_of(ctx).annotate
    with Store(settings_of(ctx).home).read() as tx:
        ranked = rank(
            candidates(tx, prelabels_of=settings.prelabels_of),
            RankingPolicy(by),
            corrections(tx, prelabels_of=settings.prelabels_of),
        )
    chosen = ranked[:limit]
    if output is not None:
        written = image_list.write(
            output, [image.candidate.image_id for image in chosen], heading=f"What to label next, by {by}"
        )
        say(f"{written} ids written: {output}")
    if as_json:
        print_json(
            [
                {"image": image.candidate.image_id, "model": image.candidate.model, "score": image.score}
                for image in chosen
            ]
        )
        return
    say(f"{len(ranked)} images went to nobody; {len(chosen)} are chosen by {by}")
    print_table(
        [
            {"model": model, "gravest": kind, "there": count, "chosen": taken}
            for (model, kind), (count, taken) in summary(ranked, limit).items()
        ]
    )
