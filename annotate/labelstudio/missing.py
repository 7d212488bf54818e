"""What a server has no longer, and whether that is believed.

People delete answers and tasks, one by one. A server that was restored from a backup, or a project that was emptied,
lacks many at once. So nothing is withdrawn before all projects were looked at, and then only if it is a small share of
what is known, and if the server looks no older than what was read from it. Otherwise everything stays, and somebody has
to say so (`--accept-deletions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from annotate.labelstudio.client import Client
from annotate.labelstudio.withdrawing import withdraw
from schemas.labelling import LabelEntry
from sdg_data.errors import InputError
from sdg_data.ids import content_id
from sdg_data.store import answers, label_trust, labelling
from sdg_data.store.connection import Store
from sdg_data.store.labelling import ServerIds

BELIEVED_SHARE, BELIEVED_NUMBER = 0.25, 2
"""Missing tasks or answers beyond both are not believed."""
LOOKED_FOR = 200
"""At most so many missing answers, or tasks, are looked for one by one: a member can move them elsewhere."""


@dataclass
class Missing:
    """What one project has no longer.

    `answers`: of tasks that are there. `tasks`: ids of those that are not, with the answers in them (`answers_within`).
    `rewound`: how many answers the server has in an older state, or not at all while it looks older than they are.
    """

    remote: ServerIds
    newest_change: datetime | None
    answers: list[LabelEntry] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    answers_within: list[LabelEntry] = field(default_factory=list)
    known_answers: int = 0
    known_tasks: int = 0
    rewound: int = 0


class NotBelieved(InputError):
    """Much is gone at once, or the server is older than what was read from it. Nothing was withdrawn for that."""


def find_missing(
    store: Store,
    client: Client,
    remote: ServerIds,
    gone: Sequence[str],
    *,
    newest_change: datetime | None,
    rewound: int,
) -> Missing:
    """What a project has no longer, after everything in it was read.

    Args:
        store: Holds the answers that were noted as missing.
        client: The server.
        remote: Where the project is.
        gone: Ids of the tasks that are not there.
        newest_change: When anything in the project was changed last, by the server's clock.
        rewound: How many answers were read in an older state than before.
    """
    with store.read() as tx:
        kept = label_trust.kept(tx)
        noted = [pair for pair in label_trust.missing_in(tx, remote.project_id) if pair[0].id not in kept]
        in_gone = [entry for group in answers.of_tasks(tx, gone).values() for entry in group]
        within = [entry for entry in in_gone if not entry.deleted and entry.id not in kept]
        known = answers.of_project(tx, remote.project_id)
        known_tasks = len(labelling.numbers_in(tx, remote.project_id))
        sent = label_trust.sent(tx, gone)
    away = set(gone)
    lost = [entry for entry, _ in noted if entry.task_id not in away]
    if 0 < len(lost) <= LOOKED_FOR:
        lost = [entry for entry in lost if not _elsewhere(client, entry)]
    still = {entry.id for entry in lost}
    older = sum(looks_older for entry, looks_older in noted if entry.id in still)
    # Tasks that were all made after the last change that the server knows: it was set back to before it had them.
    made = [task.made_after for task in sent.values() if task.made_after is not None]
    if (
        newest_change is not None
        and len(gone) > BELIEVED_NUMBER
        and len(made) == len(gone)
        and newest_change < min(made)
    ):
        older += len(gone)
    return Missing(remote, newest_change, lost, sorted(away), within, len(known), known_tasks, rewound=rewound + older)


def check(projects: Sequence[Missing], url: str) -> None:
    """Whether what is missing in all projects together is believed.

    Raises:
        NotBelieved: It is not.
    """
    known_answers, known_tasks = (
        sum(getattr(missing, name) for missing in projects) for name in ("known_answers", "known_tasks")
    )
    lost = sum(len(missing.answers) + len(missing.answers_within) for missing in projects)
    tasks = sum(len(missing.tasks) for missing in projects)
    rewound = sum(missing.rewound for missing in projects)
    what = f"{lost} of {known_answers} answers and {tasks} of {known_tasks} tasks are no longer there"
    if rewound:
        what += f", and for {rewound} of what was read the server looks older than it was: was its database restored?"
    elif not _too_many(lost, known_answers) and not _too_many(tasks, known_tasks):
        return
    raise NotBelieved(
        what,
        item=", ".join(
            f"project {missing.remote.server_id}"
            for missing in projects
            if missing.answers or missing.tasks or missing.rewound
        )
        + f" on {url}",
        hint="Everything else was pulled, and nothing was withdrawn. If they were deleted on purpose: "
        "`sdg annotate pull --accept-deletions`; otherwise restore the server's database.",
    )


def withdraw_missing(store: Store, missing: Missing) -> dict[str, int]:
    """Withdraw what one project has no longer; returns how many of what."""
    if not missing.answers and not missing.tasks:
        return {}
    with store.write() as tx:
        withdraw(tx, missing.remote.server_id, missing.answers, "deleted in Label Studio")
        withdraw(tx, missing.remote.server_id, missing.answers_within, "its task was deleted in Label Studio")
        labelling.mark_deleted(tx, missing.tasks)
    counted = len(missing.answers) + len(missing.answers_within)
    return {"tasks deleted": len(missing.tasks), "deleted": counted}


def _too_many(missing: int, known: int) -> bool:
    return missing > max(BELIEVED_NUMBER, BELIEVED_SHARE * known)


def _elsewhere(client: Client, entry: LabelEntry) -> bool:
    """Whether an answer still exists, in another task: members can move answers, and that deletes none."""
    raw = None if entry.number is None else client.annotation(entry.number)
    return raw is not None and entry.id == content_id(
        "label-entry", entry.task_id, int(raw["id"]), str(raw["created_at"])
    )
