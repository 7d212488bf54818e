"""Comparing pulled tasks with the store: whose they are, what they show, new versions, quarantine, notices.

The server believes any of its members, so nothing that it says is taken on trust: what a task is about is compared with
what was sent (`sent`), who said it is who changed it last (`task_answers`), and what is not there any more is only
noted; whether it is withdrawn is decided over all projects together (`missing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from annotate.known_answers.incoming import keep_apart
from annotate.labelstudio.client import task_uid
from annotate.labelstudio.convert import ShownRegions, shown_in
from annotate.labelstudio.feedback import feedback
from annotate.labelstudio.refusals import QuarantineCode
from annotate.labelstudio.sent import changed_parts, expected_task, is_another, mended
from annotate.labelstudio.task_answers import Doubt, Known, PulledTask, TaskAnswers, read_answers, unreadable
from annotate.labelstudio.task_body import shown_prompt, started_from
from annotate.labelstudio.withdrawing import revive
from schemas.labelling import LabelEntry, LabelProject, LabelTask, Quarantined, TaskState
from sdg_data.people import People
from sdg_data.store import annotations as annotation_table
from sdg_data.store import answers, cut_prompts, images, known_answers, label_trust, labelling, prelabels, prompts
from sdg_data.store.connection import Tx
from sdg_data.store.label_trust import SentTask
from sdg_data.store.labelling import ServerIds

NOTICE = "Please correct"
"""How a note begins that asks for a correction; a tab of Label Studio lists the tasks that have one."""
_TASK_CHANGED = "The task showed something else than it should ({parts}). It is mended: look again, then submit again."


@dataclass(frozen=True)
class TaskNotice:
    """What a task (`task_id`) is to show to its annotators: the new `data` and `meta` of the server's task."""

    task_id: str
    server_id: int
    data: dict[str, Any]
    meta: dict[str, Any]


@dataclass
class PulledChanges:
    """What the store takes from a page of tasks, in one transaction.

    `tampered`: numbers of tasks that show something else than was sent, with the names of what is otherwise. `owners`:
    the number of each task to the id of ours that it is; None: it is none of ours. `review_texts`: task ids to
    what their notices say of reviews, where that is news.
    """

    remote: ServerIds
    taken: TaskAnswers = field(default_factory=TaskAnswers)
    server_ids: dict[str, int] = field(default_factory=dict)
    revived_tasks: dict[str, int] = field(default_factory=dict)
    sent: dict[str, SentTask] = field(default_factory=dict)
    notices: list[TaskNotice] = field(default_factory=list)
    tampered: dict[int, list[str]] = field(default_factory=dict)
    owners: dict[int, str | None] = field(default_factory=dict)
    review_texts: dict[str, str] = field(default_factory=dict)
    foreign: int = 0

    @property
    def counts(self) -> Counter[str]:
        """What the page brought, by what became of it."""
        return self.taken.counts + Counter({"foreign": self.foreign, "tasks mended": len(self.tampered)})

    @classmethod
    def from_tasks(
        cls,
        tx: Tx,
        project: LabelProject,
        remote: ServerIds,
        tasks: Sequence[dict[str, Any]],
        *,
        readable: bool = True,
        doubt: Doubt | None = None,
        believe: bool = False,
        people: People | None = None,
    ) -> PulledChanges:
        """Compare tasks with what the store knows of them.

        Args:
            tx: The store.
            project: Their project; tasks of others are only counted.
            remote: Where the project is.
            tasks: Tasks as the server lists them, with all their annotations.
            readable: False where only their ids and data came, because the server fails to give more.
            doubt: Why no answer that is new or changed is believed; None: it is.
            believe: Take older states of answers too, as somebody said that the server is right.
            people: What people are called in notices.
        """
        people = people or People()
        changes = cls(remote)
        owners = changes._owners(tx, project, tasks)
        ours = {task.id: task for task in owners if task is not None}
        sent = changes._sent(tx, list(ours.values()), owners, tasks)
        known = _known(tx, list(ours))
        shown_ids = [task.prelabel_id for task in ours.values() if task.prelabel_id]
        shown_prelabels = {**prelabels.by_ids(tx, shown_ids), **known_answers.prelabels_by_ids(tx, shown_ids)}
        versions = started_from(tx, list(ours.values()))
        reviewed, texts_sent = feedback(tx, people, list(ours)), label_trust.told(tx, list(ours))
        arrived = _not_known_to_be_there(tx, project, list(ours.values()))
        for task, owner in zip(tasks, owners, strict=True):
            if owner is None or (readable and task_uid(task) != owner.id and is_another(task, sent[owner.id])):
                changes.owners[int(task["id"])] = None
                changes.foreign += bool(task.get("annotations"))
                continue
            number = int(task["id"])
            changes.owners[number] = owner.id
            if owner.id in arrived:
                changes.server_ids[owner.id] = number  # the push that sent it was killed before it could say so
            if owner.state is TaskState.DELETED:
                changes.revived_tasks[owner.id] = number
            shown = shown_in(owner, shown_prelabels, versions) or ShownRegions()
            if not readable:
                changes._take(unreadable(PulledTask(task, owner, project, remote.server_id, shown), known))
                continue
            parts = changed_parts(task, sent[owner.id])
            if parts:
                changes.tampered[number] = parts
            about = Doubt(QuarantineCode.TASK_CHANGED, _TASK_CHANGED.format(parts=", ".join(parts))) if parts else doubt
            pulled = PulledTask(task, owner, project, remote.server_id, shown, about)
            read = read_answers(pulled, known, believe=believe)
            changes._take(read)
            lines = [
                f"{NOTICE} ({people.called(item.annotator)}):\n{people.in_text(item.message)}" for item in read.invalid
            ]
            replaced = _replaced(known.entries.get(owner.id, ()), read.entries)
            texts = [text for version, text in reviewed.get(owner.id, {}).items() if version not in replaced]
            lines += texts
            if "\n".join(texts) != texts_sent.get(owner.id, ""):
                changes.review_texts[owner.id] = "\n".join(texts)
            changes._notice(task, owner.id, sent[owner.id], parts, lines, read.invalid)
        return changes

    def commit(self, tx: Tx) -> None:
        """Write all pulled changes into the store, inside the given transaction."""
        labelling.mark_pushed(tx, self.server_ids)
        labelling.mark_alive(tx, self.revived_tasks)
        label_trust.set_sent(tx, self.sent)
        annotation_table.insert(tx, keep_apart(tx, self.taken.annotations))
        answers.insert_entered(tx, self.taken.entered)
        answers.insert_quarantined(tx, self.taken.quarantined)
        revive(tx, self.taken.revived)
        answers.put(tx, self.taken.entries)
        label_trust.drop_missing(tx, self.taken.present)
        label_trust.add_missing(tx, self.taken.missing)
        label_trust.set_told(tx, self.review_texts)

    def _owners(self, tx: Tx, project: LabelProject, tasks: Sequence[dict[str, Any]]) -> list[LabelTask | None]:
        """Whose each task is: by the id in its data, or, where that was changed, by the server's number."""
        uids = [task_uid(task) or "" for task in tasks]
        numbers = labelling.tasks_at(tx, project.id, [int(task["id"]) for task in tasks])
        claimed = [task_id for ids in numbers.values() for task_id in ids]
        known = labelling.tasks_by_ids(tx, list({*uids, *claimed}))
        sent = label_trust.sent(tx, uids)
        owners: list[LabelTask | None] = []
        for task, uid in zip(tasks, uids, strict=True):
            at_number = numbers.get(int(task["id"]), [])
            by_id = known.get(uid)
            if by_id is not None and by_id.project_id != project.id:
                by_id = None
            # A copy shows exactly what was sent; one that does not is the task that had the number, rewritten.
            copy = by_id is not None and (uid not in sent or not changed_parts(task, sent[uid]))
            if by_id is not None and (uid in at_number or copy or not at_number):
                owners.append(by_id)
            else:
                owners.append(known[at_number[0]] if at_number else None)
        return owners

    def _sent(
        self,
        tx: Tx,
        ours: Sequence[LabelTask],
        owners: Sequence[LabelTask | None],
        tasks: Sequence[dict[str, Any]],
    ) -> dict[str, SentTask]:
        """What our tasks were sent as. For those of before this was written down it is worked out, and kept."""
        sent = label_trust.sent(tx, [task.id for task in ours])
        unwritten = [task for task in ours if task.id not in sent]
        if not unwritten:
            return sent
        ids = [task.image_id for task in unwritten]
        records = {**images.by_ids(tx, ids), **known_answers.images_by_ids(tx, ids)}
        texts = prompts.by_ids(tx, list({record.prompt_id for record in records.values()}))
        cuts = cut_prompts.of_images(tx, list(records))
        shown = {owner.id: task for task, owner in zip(tasks, owners, strict=True) if owner is not None}
        for task in unwritten:
            image = records[task.image_id]
            data = shown[task.id].get("data")
            prompt = shown_prompt(texts[image.prompt_id].text, cuts.get(image.id))
            expected = expected_task(task, image, prompt, data if isinstance(data, dict) else {})
            sent[task.id] = expected
            if not changed_parts(shown[task.id], expected):
                self.sent[task.id] = expected
        return sent

    def _take(self, read: TaskAnswers) -> None:
        """Add what became of one task's answers."""
        taken = self.taken
        for name in ("annotations", "quarantined", "entries", "present", "revived"):
            getattr(taken, name).extend(getattr(read, name))
        taken.entered |= read.entered
        taken.missing |= read.missing
        taken.counts += read.counts
        taken.rewound += read.rewound

    def _notice(
        self,
        task: dict[str, Any],
        task_id: str,
        sent: SentTask,
        parts: Sequence[str],
        lines: Sequence[str],
        invalid: Sequence[Quarantined],
    ) -> None:
        """Put back what was changed, and change what the page shows above the image where `lines` is news.

        The task's meta says of invalid answers the same for programs.
        """
        reasons = [{"annotation": item.source, "code": item.code, "message": item.message} for item in invalid]
        data, meta = mended(task, sent)
        if not parts and data.get("notice", "") == "\n".join(lines) and meta.get("sdg_quarantine", []) == reasons:
            return
        data["notice"] = "\n".join(lines)
        meta["sdg_quarantine"] = reasons
        self.notices.append(TaskNotice(task_id, int(task["id"]), data, meta))


def _known(tx: Tx, task_ids: Sequence[str]) -> Known:
    entries = answers.of_tasks(tx, task_ids)
    listed = [entry for group in entries.values() for entry in group]
    versions = [entry.annotation_id for entry in listed if entry.annotation_id]
    return Known(
        entries,
        {**annotation_table.by_ids(tx, versions), **known_answers.annotations_by_ids(tx, versions)},
        answers.quarantined_by_ids(tx, [entry.quarantine_id for entry in listed if entry.quarantine_id]),
        frozenset(known_answers.suspended(tx)),
    )


def _replaced(before: Sequence[LabelEntry], now: Sequence[LabelEntry]) -> set[str]:
    """The versions that were entries' current ones and are so no longer."""
    current = {entry.id: entry.annotation_id for entry in before}
    return {
        version for entry in now if (version := current.get(entry.id)) is not None and version != entry.annotation_id
    }


def _not_known_to_be_there(tx: Tx, project: LabelProject, tasks: Sequence[LabelTask]) -> set[str]:
    """The tasks that were about to be sent and of which no number is known."""
    intended = {task.id for task in tasks if task.state is TaskState.INTENDED}
    return intended - set(labelling.numbers_in(tx, project.id)) if intended else set()
