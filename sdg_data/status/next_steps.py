"""What to run next on a home: a pure function of its status."""

import shlex
from dataclasses import dataclass

from sdg_data.status.collect import Status
from sdg_data.words import counted


@dataclass(frozen=True)
class NextStep:
    """A command, and what it is for."""

    command: str
    why: str


def next_steps(status: Status) -> list[NextStep]:
    """The commands that have something to do, in the order of the flow; the first is the next one.

    Args:
        status: Of a home.

    Returns:
        At least one command. Work that people have to do themselves is no command; pulling their answers is.
    """
    images = sum(status.images.values())
    if status.unfinished_imports:
        return [NextStep("sdg import list", f"{counted(status.unfinished_imports, 'import')} stopped on the way")]
    if not status.prompts and not images:
        return [NextStep("sdg prompts import FILE", "there are no prompts yet")]
    steps: list[NextStep] = []
    generated = set(status.images) & set(status.missing_images)
    if status.missing_images and (generated or not images):
        missing = ", ".join(f"{model} {number:,}" for model, number in status.missing_images.items())
        steps.append(NextStep("sdg generate run", f"images to be made: {missing}"))
    elif not images:
        steps.append(NextStep("sdg generate run --models NAMES", "no images, and the profile names no models"))
    if status.without_prelabel and not (status.gold and not status.prelabels):
        steps.append(NextStep("sdg prelabel run", f"{counted(status.without_prelabel, 'image')} without a prelabel"))
    if status.prelabel_failed and not status.gold:
        why = f"{counted(status.prelabel_failed, 'image')} whose answer could not be read"
        steps.append(NextStep("sdg prelabel run --retry-failures", why))
    if status.not_sent and images:
        command = "sdg annotate push" if status.projects else "sdg annotate init"
        steps.append(NextStep(command, f"{counted(status.not_sent, 'image')} not with people yet"))
    if status.waiting:
        steps.append(NextStep("sdg annotate pull", f"people have {counted(status.waiting, 'image')} to work on"))
    if status.unreviewed:
        steps.append(NextStep("sdg annotate review", f"{counted(status.unreviewed, 'image')} to be reviewed"))
    if status.not_enriched:
        steps.append(NextStep("sdg enrich run", f"{counted(status.not_enriched, 'image')} without longer reasons"))
    exports = [export for export in status.exports if export.problem is None]
    if status.gold and not exports:
        steps.append(NextStep("sdg export run", f"{counted(status.gold, 'image')} of gold, no export yet"))
    if exports:
        folder = shlex.quote(str(status.home / "exports" / exports[-1].name))
        steps.append(NextStep(f"sdg export verify {folder}", "is the export sound?"))
    return steps or [NextStep("sdg dashboard", "look at what there is")]


RETRIES = {"generate": "sdg generate run", "prelabel": "sdg prelabel run", "enrich": "sdg enrich run"}
"""Stage -> the command that tries its failures again with `--retry-failures`."""
