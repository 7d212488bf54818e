"""One run of `sdg annotate review`: settle the answers that were pulled, create the project, push new cases."""

from __future__ import annotations

from annotate.labelstudio.guideline import instructions
from annotate.labelstudio.sync import LabelStudioSync
from annotate.review.rounds import plan, settle, status
from schemas.labelling import ProjectKind
from sdg_data.store import labelling
from sdg_data.store import review_cases as cases

NOWHERE = "0" * 32
"""Stands for the project's id where a dry run creates none."""


def review(
    sync: LabelStudioSync, *, round_: int = 1, early: bool = False, limit: int | None = None, dry_run: bool = False
) -> dict[str, int]:
    """Settle, then push new cases. Killed: run it again, nothing comes twice.

    Cases and their tasks are stored as `intended` before anything is sent, and what is intended is always sent.

    Args:
        sync: The home and its server.
        round_: The round of review.
        early: Also images that wait for more annotators.
        limit: How many cases to push at the most.
        dry_run: Only count.

    Returns:
        Counts of what was done and of what there is, by name.
    """
    facts: dict[str, int] = {}
    if not dry_run:
        with sync.store.write() as tx:
            settled = settle(tx)
        facts |= {f"verdict: {name}": number for name, number in sorted(settled.verdicts.items())}
        facts |= {
            "new verdicts": settled.new,
            "void answers": settled.void,
            "taken back": settled.withdrawn,
            "own work reviewed": settled.own_work,
        }
    project_id = NOWHERE
    if not dry_run:
        project, _ = sync.init(kind=ProjectKind.REVIEW, round_=round_ + 1, instructions=instructions(sync.media))
        project_id = project.id
    with sync.store.read() as tx:
        planned = plan(tx, project_id, sync.settings.annotate.review, round_=round_, early=early)[:limit]
    for kind in cases.CaseKind:
        facts[f"to {kind.value}"] = sum(case.kind is kind for case, _ in planned)
    if dry_run:
        return facts
    with sync.store.write() as tx:
        cases.insert(tx, [case for case, _ in planned])
        labelling.mark_pending(tx, [task for _, task in planned])
    pushed = sync.push_tasks(project, [])
    facts |= {"sent": pushed.sent, "refused": pushed.refused, "told annotators": sync.tell()}
    with sync.store.read() as tx:
        facts |= status(tx)
    return facts
