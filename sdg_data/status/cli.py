"""`sdg status`: the dashboards' twin in the terminal."""

import shlex
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from sdg_data.console import Globals, print_json, settings_of


def status_command(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout")] = False
) -> None:
    """Say what is there, what failed, what is running, and the next command."""
    from sdg_data.status.collect import collect
    from sdg_data.status.next_steps import RETRIES, next_steps

    status = collect(settings_of(ctx))
    home = ctx.obj.home if isinstance(ctx.obj, Globals) else None
    given = "sdg" if home is None else f"sdg --home {shlex.quote(str(home))}"
    steps = [replace(step, command=given + step.command.removeprefix("sdg")) for step in next_steps(status)]
    if as_json:
        document = {**asdict(status), "home": str(status.home), "next": [asdict(step) for step in steps]}
        print_json(document)
        return
    print(f"home      {status.home}" + ("" if status.store else "  (no store yet)"))
    for name, text in _lines(status):
        print(f"{name:<9} {text}")
    for stage, codes in status.failures.items():
        retry = f"; again: {given}{RETRIES[stage].removeprefix('sdg')} --retry-failures" if stage in RETRIES else ""
        print(f"failed    {stage}: {_listed(codes)}{retry}")
    for stage, who in status.running.items():
        print(f"running   {stage}: {who}")
        for line in _progress(status.progress.get(stage)):
            print(f"          {line}")
    for place, step in enumerate(steps):
        print(f"{'' if place else 'next':<9} {step.command}  # {step.why}")


def _progress(note: Any) -> list[str]:
    """How far a running stage is, and each of its workers."""
    from sdg_data.progress import duration

    if note is None:
        return []
    rate = note.done / note.seconds if note.seconds else 0.0
    of_total = "" if note.total is None else f" of {note.total:,}"
    left = f", {duration((note.total - note.done) / rate)} left" if note.total and rate else ""
    crew = note.crew()
    return [
        f"{note.done:,}{of_total} {note.unit}, {rate:.3g}/s{left}" + (f"; {crew}" if crew else ""),
        *(
            f"{worker.name} ({worker.place}): {worker.done:,} {note.unit}, {worker.rate:.3g}/s, "
            f"{100 * worker.busy_share:.0f} % busy, {worker.tickets} batches in it"
            for worker in note.workers
        ),
    ]


def _lines(status: Any) -> list[tuple[str, str]]:
    images = sum(status.images.values())
    lines = [("prompts", f"{sum(status.prompts.values()):,} ({_listed(status.prompts)})" if status.prompts else "none")]
    lines.append(("images", f"{images:,} ({_listed(status.images)})" if images else "none"))
    if status.prelabels:
        lines.append(("prelabels", _listed(status.prelabels)))
    people = [f"annotated {status.annotated:,}", f"waiting for people {status.waiting:,}"]
    people += [f"to be reviewed {status.unreviewed:,}", f"held back {status.quarantined:,}"]
    lines += [("people", ", ".join(people)), ("gold", f"{status.gold:,}")]
    lines += [
        ("export", f"{export.name}: " + (export.problem or f"{export.format}, {export.samples:,} samples"))
        for export in status.exports
    ]
    return lines


def _listed(numbers: Any) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items())
