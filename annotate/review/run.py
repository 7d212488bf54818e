"""One run of the review: settle what was pulled, make the project, hand out what is new."""

from __future__ import annotations

from annotate.labelstudio.guideline import instructions
from annotate.labelstudio.sync import LabelStudioSync
from annotate.review.rounds import plan, settle, standing
from schemas.labelling import ProjectKind
from sdg_data.store import labelling
from sdg_data.store import review_cases as cases

NOWHERE = "0" * 32
"""Stands for the project where none is made."""


def review(
    work: LabelStudioSync, *, round_: int = 1, early: bool = False, limit: int | None = None, dry_run: bool = False
) -> dict[str, int]:
    """Settle, then push new cases; what was done and how things stand. Killed: run it again, nothing comes twice.

    Cases and their tasks are stored before anything is sent (`intended`), and what was intended is always sent.
    """
    facts: dict[str, int] = {}
    if not dry_run:
        with work.store.write() as tx:
            settled = settle(tx)
        facts |= {f"verdict: {name}": number for name, number in sorted(settled.verdicts.items())}
        facts |= {
            "new verdicts": settled.new,
            "void answers": settled.void,
            "taken back": settled.taken_back,
            "own work reviewed": settled.own_work,
        }
    project_id = NOWHERE
    if not dry_run:
        project, _ = work.init(kind=ProjectKind.REVIEW, round_=round_ + 1, instructions=instructions(work.media))
        project_id = project.id
    with work.store.read() as tx:
        planned = plan(tx, project_id, work.settings.annotate.review, round_=round_, early=early)[:limit]
    for kind in cases.CaseKind:
        facts[f"to {kind.value}"] = sum(case.kind is kind for case, _ in planned)
    if dry_run:
        return facts
    with work.store.write() as tx:
        cases.insert(tx, [case for case, _ in planned])
        labelling.intend(tx, [task for _, task in planned])
    pushed = work.push_tasks(project, [])
    facts |= {"sent": pushed.sent, "refused": pushed.refused}
    with work.store.read() as tx:
        facts |= standing(tx)
    return facts
