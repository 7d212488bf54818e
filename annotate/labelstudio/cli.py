"""`sdg annotate init | push | pull | restore | watch`: between the store and a Label Studio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdg_data.console import (
    Json,
    Names,
    chosen_split,
    command_lock,
    names_option,
    print_json,
    print_table,
    say,
    settings_of,
)

if TYPE_CHECKING:
    from annotate.labelstudio.presigned import Renewed
    from annotate.labelstudio.pull import PullSummary
    from annotate.labelstudio.sync import LabelStudioSync
    from sdg_data.settings import Settings

Wait = Annotated[bool, typer.Option(help="Wait for another run on this home, or leave at once")]


def init_command(
    ctx: typer.Context,
    again: Annotated[
        bool,
        typer.Option("--again", help="Make another project, where the one there was is lost; refused while it answers"),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the project: page, instructions, images, webhook. It is there already: it is checked and mended."""
    from annotate.labelstudio.guideline import instructions

    with _open_sync(ctx, wait=True) as sync:
        project, remote = sync.init(instructions=instructions(sync.media), again=again)
    facts = {
        "project": project.name,
        "url": f"{remote.url}/projects/{remote.server_id}/data",
        "page": project.config_version,
    }
    print_json(facts) if as_json else print_table([facts])


def push_command(
    ctx: typer.Context,
    models: Annotated[Names | None, names_option("--models", help="Only images of these models, by comma")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only images of this split: train or test")] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Only the images of this list, whatever the routing's shares are: one id a line ('-': from stdin)",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Only so many of the first")] = None,
    overlap: Annotated[
        int | None, typer.Option(min=1, help="How many people see each image [default: the routing's]")
    ] = None,
    wait: Wait = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go")] = False,
    as_json: Json = False,
) -> None:
    """Send images to people, as routing decides. Killed or refused: run it again, nothing goes twice.

    Exit code 10: tasks were refused, or images of a list cannot go.
    """
    from annotate.known_answers.planning import mix
    from annotate.review.routing import route
    from schemas.labelling import ProjectKind
    from sdg_data.errors import ExitCode
    from sdg_data.store import image_list, labelling

    only_split = chosen_split(split)
    with _open_sync(ctx, wait=wait) as sync:
        settings = sync.settings.annotate
        with sync.store.read() as tx:
            listed = None if images is None else image_list.read_known(tx, images)
            routed = route(
                tx,
                settings.routing,
                prelabels_of=settings.prelabels_of,
                models=models,
                split=only_split,
                listed=listed,
            )
            before = labelling.images_with_tasks(tx, ProjectKind.ANNOTATE)
            new = [image for image in routed if image.image_id not in before][:limit]
            share = 0.0 if listed is not None else settings.known_answers.share
            mixed, lacking = mix(tx, new, settings.routing, share)
        of_items = {"known_answers": len(mixed) - len(new), "known_answers_lacking": lacking}
        if lacking:
            say(f"{lacking} known-answer items are lacking: `sdg annotate known-answers plan` makes more")
        new = mixed
        if overlap is not None:
            new = [image.model_copy(update={"overlap": overlap}) for image in new]
        facts = {
            "routed": len(routed),
            "went_before": len(routed) - sum(image.image_id not in before for image in routed),
        }
        facts |= {
            "to_go": len(new),
            "blind": sum(image.blind for image in new),
            **(of_items if any(of_items.values()) else {}),
        }
        going = {image.image_id for image in routed}
        cannot_go = [image for image in listed or () if image not in going and image not in before]
        if listed is not None:
            facts["cannot_go"] = len(cannot_go)
        if cannot_go:
            some = ", ".join(cannot_go[:5]) + (", …" if len(cannot_go) > 5 else "")
            say(
                f"{len(cannot_go)} of the {len(listed or ())} listed images cannot go (withdrawn, annotated elsewhere, "
                f"without a prelabel, or left out by --models or --split): {some}"
            )
        if dry_run:
            print_json(facts) if as_json else print_table([facts])
            if cannot_go:
                raise typer.Exit(int(ExitCode.PARTIAL))
            return
        done = sync.push_images(new)
        if sync.presigner is not None:
            _say_renewed(sync.renew())
    summary = {**facts, "sent": done.sent, "found": done.present, "refused": done.refused}
    say(f"{done.sent} tasks sent" + (f", {done.present} were there" if done.present else ""))
    if as_json:
        print_json(summary)
    if done.refused:
        say(f"{done.refused} tasks were refused: `sdg store info` counts them, stage push")
    if done.refused or cannot_go:
        raise typer.Exit(int(ExitCode.PARTIAL))


def pull_command(
    ctx: typer.Context,
    full: Annotated[bool, typer.Option("--full", help="Look at everything, not only at what changed")] = False,
    accept_deletions: Annotated[
        bool, typer.Option("--accept-deletions", help="Believe it when most tasks are gone: withdraw their annotations")
    ] = False,
    wait: Wait = True,
    as_json: Json = False,
) -> None:
    """Bring in what people entered, changed or deleted. Killed: run it again, it goes on."""
    with _open_sync(ctx, wait=wait) as sync:
        summary = sync.pull(full=full, accept_deletions=accept_deletions)
    _report(summary)
    for warning in summary.warnings:
        say(warning)
    if as_json:
        print_json(
            {
                "read": summary.read,
                **dict(sorted(summary.counts.items())),
                "warnings": [*summary.warnings, *summary.suspended],
            }
        )


def renew_command(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="However long they live")] = False,
    wait: Wait = True,
    as_json: Json = False,
) -> None:
    """Sign the addresses of images on S3 anew, where half of their life is over. Pushes and `watch` do so too."""
    with _open_sync(ctx, wait=wait) as sync:
        done = sync.renew(everything=everything)
    _say_renewed(done)
    if as_json:
        print_json({"renewed": done.renewed, "fresh": done.fresh})


def _say_renewed(done: Renewed) -> None:
    say(f"{done.renewed} addresses of images were signed anew, {done.fresh} live long enough")


def restore_command(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Annotations, tasks or images; none: all in the time")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Withdrawn at this time or later, as 2026-11-28T14:00Z")] = None,
    until: Annotated[str | None, typer.Option(help="Withdrawn before this time")] = None,
    wait: Wait = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be restored")] = False,
    as_json: Json = False,
) -> None:
    """Let answers count again that pulls withdrew because the server had them no longer. Try --dry-run first."""
    from annotate.labelstudio.sync import LOCK
    from annotate.labelstudio.withdrawing import restore
    from sdg_data.errors import InputError
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    if not ids and since is None and until is None and not dry_run:
        raise InputError("nothing says what to restore", hint="Name ids, or --since; `--dry-run` lists everything.")
    with command_lock(settings, LOCK, wait=wait):
        restored = restore(Store(settings.home), ids=ids or [], since=_time(since), until=_time(until), dry_run=dry_run)
    rows = [
        {
            "annotation": answer.entry.annotation_id,
            "task": answer.entry.task_id,
            "image": answer.image_id,
            "annotator": answer.entry.annotator,
            "withdrawn": answer.withdrawn_at.isoformat(timespec="seconds"),
            "reason": answer.reason,
        }
        for answer in restored
    ]
    print_json(rows) if as_json else print_table(rows)
    say(
        f"{len(restored)} answers " + ("would count again (dry run: nothing was changed)" if dry_run else "count again")
    )


def _time(text: str | None) -> datetime | None:
    from datetime import UTC

    from sdg_data.errors import InputError

    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise InputError("not a time", item=text, hint="For example 2026-11-28T14:00Z.") from None
    return given if given.tzinfo is not None else given.replace(tzinfo=UTC)


def watch_command(
    ctx: typer.Context,
    poll: Annotated[float | None, typer.Option(min=0.1, help="Seconds between looks without a hint")] = None,
) -> None:
    """Pull whenever something changes, until Ctrl-C: when Label Studio hints at it, and by the clock in any case."""
    import signal
    import threading

    from annotate.labelstudio.connection import credentials
    from annotate.labelstudio.sync import LOCK, Renewals, open_sync
    from annotate.labelstudio.watch import listening, watch
    from sdg_data.errors import ConfigError
    from sdg_data.locks import stage_lock

    settings = settings_of(ctx)
    hint, stop = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        stop.set()
        hint.set()

    with open_sync(settings) as sync:
        renewals = Renewals(sync)

        def pull() -> PullSummary:
            with stage_lock(settings.home, LOCK, wait=0):
                renewals.renew_if_due()
                return sync.pull()

        port = settings.annotate.webhook_port
        try:
            with listening(port, credentials(settings.home).webhook_secret, hint):
                signal.signal(signal.SIGINT, end)
                signal.signal(signal.SIGTERM, end)
                say(f"watching {sync.client.connection.url}; Ctrl-C ends it")
                watch(pull, hint, stop, poll_seconds=poll or settings.annotate.poll_seconds, after=_report)
        except OSError as error:
            raise ConfigError(
                f"cannot listen for hints ({error.strerror})",
                item=f"port {port}",
                hint="Another `sdg annotate watch`? Otherwise set `webhook_port` in [annotate], and run init again.",
            ) from error


def _report(summary: PullSummary) -> None:
    if not summary.changed:
        return
    say(summary.described)


@contextmanager
def _open_sync(ctx: typer.Context, *, wait: bool) -> Iterator[LabelStudioSync]:
    """The home and its server, while no other command works on this home."""
    from annotate.labelstudio.sync import LOCK, open_sync

    settings: Settings = settings_of(ctx)
    with open_sync(settings) as sync, command_lock(settings, LOCK, wait=wait):
        yield sync
