"""`sdg annotate known-answers` and `sdg annotate people`: measure people's work, and decide who goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdg_data.console import Json, Names, command_group, names_option, print_json, print_table, say, settings_of

if TYPE_CHECKING:
    from schemas.known_answers import Decision, KnownKind
    from sdg_data.settings import Settings

known_app = command_group("Tasks whose answer is known, among the others: make them, and see who answers how.")
people_app = command_group("Who works here, by known-answer items: list, suspend, admit.")

Person = Annotated[str, typer.Argument(metavar="PERSON", help="As `people list` names them, or user-7 for example")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record")]
By = Annotated[str, typer.Option("--by", help="Who decides [default: the log-in name]")]


@known_app.command("plan")
def plan_command(
    ctx: typer.Context,
    count: Annotated[int, typer.Option(min=1, help="How many new items")] = 50,
    kinds: Annotated[
        Names | None,
        names_option("--kinds", help="gold, mini or planted, by comma [default: those that the profile's images give]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of images, and of what is drawn")] = 0,
    as_json: Json = False,
) -> None:
    """Make known-answer items; the next `sdg annotate push` mixes them in. Exit code 10: fewer than asked for."""
    from annotate.known_answers.planning import plan_items
    from sdg_data.blobs import Blobs
    from sdg_data.errors import ExitCode
    from sdg_data.store import known_answers
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    store = Store(settings.home)
    with store.read():
        pass  # a home without a store is an error
    summary = plan_items(
        store, Blobs(settings.blob_url), settings.annotate, count=count, kinds=_kinds(settings, kinds), seed=seed
    )
    with store.read() as tx:
        waiting = len(known_answers.unsent(tx))
    made = sum(summary.made.values())
    say(f"{made} items made, {waiting} wait to be sent")
    for reason, number in sorted(summary.refused.items()):
        say(f"{number} images gave none ({reason}): {', '.join(summary.examples[reason])}")
    if as_json:
        print_json({"made": dict(summary.made), "refused": dict(summary.refused), "waiting": waiting})
    if made < count:
        say(f"{count - made} fewer than asked for: no image is left that gives one")
        raise typer.Exit(int(ExitCode.PARTIAL))


@known_app.command("report")
def known_report_command(ctx: typer.Context, as_json: Json = False) -> None:
    """How each person answers known-answer items, who is under the bar, and what is left to send."""
    from collections import Counter
    from dataclasses import asdict

    from annotate.known_answers.standing import alarms, as_rows, described, standings
    from annotate.review.progress import called
    from sdg_data.people import people_of
    from sdg_data.store import known_answers
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    names = people_of(settings.home, anonymous=settings.annotate.anonymous)
    with Store(settings.home).read() as tx:
        people = called(names, standings(tx, settings.annotate.known_answers))
        items = known_answers.items(tx)
        unsent = {item.image.id for item in known_answers.unsent(tx)}
        made = Counter((item.kind.value, item.image.id in unsent) for item in items.values())
    stock = [
        {"kind": kind, "made": made[kind, True] + made[kind, False], "to send": made[kind, True]}
        for kind in sorted({kind for kind, _ in made})
    ]
    if as_json:
        print_json({"items": stock, "people": [asdict(standing) for standing in people]})
        return
    print_table(stock)
    typer.echo(f"\n{described(people)}")
    print_table(as_rows(people))
    for line in alarms(people):
        say(line)


@people_app.command("list")
def people_list(ctx: typer.Context, as_json: Json = False) -> None:
    """Everybody's state, and what was decided about them."""
    from annotate.known_answers.standing import standings
    from annotate.review.progress import called
    from sdg_data.people import people_of
    from sdg_data.store import known_answers
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    names = people_of(settings.home, anonymous=settings.annotate.anonymous)
    with Store(settings.home).read() as tx:
        people = called(names, standings(tx, settings.annotate.known_answers))
        decided = [
            decision.model_copy(update={"person": names.called(decision.person)})
            for decision in known_answers.decisions(tx)
        ]
    if as_json:
        states = [
            {"person": standing.person, "state": standing.state.value, "reason": standing.reason} for standing in people
        ]
        print_json({"people": states, "decisions": [decision.model_dump(mode="json") for decision in decided]})
        return
    print_table(
        [
            {"person": standing.person, "state": standing.state.value, "reason": standing.reason or ""}
            for standing in people
        ]
    )
    if decided:
        typer.echo("\nDecisions")
        print_table(
            [
                {
                    "when": decision.created_at.isoformat(timespec="seconds"),
                    "person": decision.person,
                    "decision": decision.decision.value,
                    "by": decision.decided_by,
                    "reason": decision.reason,
                }
                for decision in decided
            ]
        )


@people_app.command("suspend")
def people_suspend(ctx: typer.Context, person: Person, reason: Reason, by: By = "") -> None:
    """Give a person no more tasks; what they enter nonetheless is held back."""
    from schemas.known_answers import Decision

    _decide(ctx, person, Decision.SUSPENDED, reason, by)


@people_app.command("admit")
def people_admit(ctx: typer.Context, person: Person, reason: Reason, by: By = "") -> None:
    """Let a suspended person work again. Their bars begin anew; `pull --full` takes what was held back meanwhile."""
    from schemas.known_answers import Decision

    _decide(ctx, person, Decision.ADMITTED, reason, by)


def _decide(ctx: typer.Context, person: str, decision: Decision, reason: str, by: str) -> None:
    import getpass

    from annotate.known_answers.suspension import close_or_open, decide, find_person
    from annotate.labelstudio.connection import connection_of
    from sdg_data.people import people_of
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    names, store = people_of(settings.home, anonymous=settings.annotate.anonymous), Store(settings.home)
    person = find_person(store, names, person)
    made = decide(store, person, decision, reason=reason, by=by or getpass.getuser())
    own = connection_of(settings.home, settings.annotate.port).own
    say(f"{names.called(person)} is {decision.value} (by {made.decided_by}: {reason})")
    if (words := close_or_open(settings.home, settings.annotate, {person: decision}, own=own)) != "":
        say(names.in_text(words))


def _kinds(settings: Settings, given: Any) -> list[KnownKind]:
    from schemas.known_answers import KnownKind
    from sdg_data.errors import ConfigError

    if given is None:
        drawn = KnownKind.MINI if settings.profile == "mini" else KnownKind.PLANTED
        return [drawn, KnownKind.GOLD]
    unknown = [name for name in given if name not in set(KnownKind)]
    if unknown:
        raise ConfigError(f"there is no kind {unknown[0]!r}", item="--kinds", hint=f"It is {', '.join(KnownKind)}.")
    return [KnownKind(name) for name in given]
