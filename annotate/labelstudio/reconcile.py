"""Comparing pulled tasks with the store: new versions, quarantine, deletions, and notices to annotators.

An annotation on the server is identified by (task, the server's id of the annotation, created_at), because the server
gives ids out again. Version id = hash(that identity, content, previous version). So pulling the same state twice adds
nothing, and A→B→A is three versions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from annotate.labelstudio.client import moment, task_uid
from annotate.labelstudio.convert import (
    InvalidAnnotation,
    ParsedAnnotation,
    QuarantineCode,
    ShownRegions,
    parse,
    shown_in,
)
from annotate.labelstudio.push import started_from
from schemas.base import without_lone_surrogates
from schemas.labelling import LabelEntry, LabelProject, LabelTask, Quarantined, TaskState
from schemas.records import Annotation, AnnotationStatus, Tombstone, Withdrawn
from sdg_data.ids import canonical_json, content_id
from sdg_data.store import annotations as annotation_table
from sdg_data.store import answers, labelling, prelabels, tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.labelling import ServerIds

TOOL = "label-studio"
MAX_RAW = 65_536
"""Characters of a quarantined answer that are kept; its hash says whether two long ones are the same."""
_NOTICE = "Please correct: "


@dataclass(frozen=True)
class TaskNotice:
    """What a task is to show to its annotators: the new `data` and `meta` of the server's task."""

    server_id: int
    data: dict[str, Any]
    meta: dict[str, Any]


@dataclass
class PulledChanges:
    """What the store takes from a page of tasks, in one transaction."""

    remote: ServerIds
    annotations: list[Annotation] = field(default_factory=list)
    entered: dict[str, tuple[str, str]] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    entries: list[LabelEntry] = field(default_factory=list)
    deleted: list[LabelEntry] = field(default_factory=list)
    server_ids: dict[str, int] = field(default_factory=dict)
    notices: list[TaskNotice] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def from_tasks(
        cls,
        tx: Tx,
        project: LabelProject,
        remote: ServerIds,
        tasks: Sequence[dict[str, Any]],
        *,
        readable: bool = True,
    ) -> PulledChanges:
        """Compare tasks with what the store knows of them.

        Args:
            tx: The store.
            project: Their project; tasks of others are only counted.
            remote: Where the project is.
            tasks: Tasks as the server lists them, with all their annotations.
            readable: False where only their ids and data came, because the server fails to give more.
        """
        changes = cls(remote)
        uids = [task_uid(task) or "" for task in tasks]
        known = labelling.tasks_by_ids(tx, uids)
        numbers = (
            labelling.numbers_in(tx, project.id)
            if any(task.state is TaskState.INTENDED for task in known.values())
            else {}
        )
        entries = answers.of_tasks(tx, uids)
        last_ids = [
            entry.annotation_id for group in entries.values() for entry in group if entry.annotation_id is not None
        ]
        last = annotation_table.by_ids(tx, last_ids)
        shown_prelabels = prelabels.by_ids(
            tx, [task.prelabel_id for task in known.values() if task.prelabel_id is not None]
        )
        versions = started_from(tx, list(known.values()))
        for task, uid in zip(tasks, uids, strict=True):
            ours = known.get(uid)
            if ours is None or ours.project_id != project.id:
                changes.counts["foreign"] += bool(task.get("annotations"))
                continue
            if ours.state is TaskState.INTENDED and uid not in numbers:
                changes.server_ids[uid] = int(task["id"])  # the push that sent it was killed before it could say so
            of_copy = [entry for entry in entries.get(uid, []) if entry.task_number == int(task["id"])]
            if not readable:
                changes._quarantine_task(task, ours, of_copy)
                continue
            changes._compare(task, ours, project, shown_in(ours, shown_prelabels, versions)[0], of_copy, last)
        return changes

    def commit(self, tx: Tx) -> None:
        """Write all pulled changes into the store, inside the given transaction."""
        labelling.mark_pushed(tx, self.server_ids)
        annotation_table.insert(tx, self.annotations)
        answers.insert_entered(tx, self.entered)
        answers.insert_quarantined(tx, self.quarantined)
        answers.put(tx, self.entries)
        _withdraw(tx, self.remote, self.deleted, "deleted in Label Studio")

    @staticmethod
    def tasks_deleted(tx: Tx, remote: ServerIds, task_ids: Sequence[str]) -> Counter[str]:
        """Withdraw all annotations of these tasks, which were deleted; returns how many of what."""
        lost = [entry for group in answers.of_tasks(tx, task_ids).values() for entry in group if not entry.deleted]
        _withdraw(tx, remote, lost, "its task was deleted in Label Studio")
        labelling.mark_deleted(tx, task_ids)
        return Counter({"tasks deleted": len(task_ids), "deleted": len(lost)} if task_ids else {})

    def _compare(
        self,
        task: dict[str, Any],
        ours: LabelTask,
        project: LabelProject,
        shown: ShownRegions,
        entries: Sequence[LabelEntry],
        last: dict[str, Annotation],
    ) -> None:
        known = {entry.id: entry for entry in entries}
        present: set[str] = set()
        invalid: list[Quarantined] = []
        for raw in task.get("annotations") or []:
            entry = _entry(ours, int(task["id"]), raw)
            present.add(entry.id)
            before = known.get(entry.id)
            previous = (
                last.get(before.annotation_id) if before is not None and before.annotation_id is not None else None
            )
            if before is not None and before.deleted:
                continue  # a withdrawal is final
            try:
                parsed = None if raw.get("was_cancelled") else parse(raw.get("result"), shown)
            except InvalidAnnotation as refusal:
                item = self._quarantine(entry, ours, raw, refusal.code, str(refusal))
                invalid.append(item)
                if before is None or before.quarantine_id != item.id:
                    self.quarantined.append(item)
                    self.counts["quarantined"] += 1
                self._set_entry(entry, before, before.annotation_id if before is not None else None, item.id)
                continue
            version, text = self._version(entry, ours, project, shown, raw, parsed, previous)
            if previous is None or version.id != previous.id:
                self.annotations.append(version)
                self.entered[version.id] = (entry.id, text)
                self.counts["skipped" if parsed is None else "new" if previous is None else "edited"] += 1
            elif before is not None and before.quarantine_id is not None:
                self.counts["mended"] += 1
            self._set_entry(entry, before, version.id, None)
        for entry in entries:
            if entry.id not in present and not entry.deleted:
                if entry.number is None:
                    self.entries.append(entry.model_copy(update={"quarantine_id": None, "deleted": True}))
                    continue
                self.deleted.append(entry)
                self.counts["deleted"] += 1
        self._notice(task, invalid)

    def _set_entry(
        self, entry: LabelEntry, before: LabelEntry | None, annotation_id: str | None, quarantine_id: str | None
    ) -> None:
        updated = entry.model_copy(update={"annotation_id": annotation_id, "quarantine_id": quarantine_id})
        if updated != before:
            self.entries.append(updated)

    def _version(
        self,
        entry: LabelEntry,
        ours: LabelTask,
        project: LabelProject,
        shown: ShownRegions,
        raw: dict[str, Any],
        parsed: ParsedAnnotation | None,
        previous: Annotation | None,
    ) -> tuple[Annotation, str]:
        """The annotation's current version, which may be the last one again, and what was entered, as JSON."""
        status = AnnotationStatus.SKIPPED if parsed is None else parsed.status
        text = without_lone_surrogates(canonical_json({} if parsed is None else parsed.entered))
        content = hashlib.sha256(f"{status.value} {text}".encode()).hexdigest()

        def version_id(parent_id: str | None) -> str:
            return content_id("label-version", entry.id, content, parent_id or "")

        parent_id = shown.parent_id
        if previous is not None:
            parent_id = previous.parent_id if version_id(previous.parent_id) == previous.id else previous.id
        version = Annotation(
            id=version_id(parent_id),
            image_id=ours.image_id,
            prelabel_id=shown.prelabel_id,
            parent_id=parent_id,
            annotator=entry.annotator,
            round=project.round,
            status=status,
            defects=() if parsed is None else parsed.defects,
            note=None if parsed is None else parsed.note,
            source=self._source(entry),
            seconds=_seconds(raw.get("lead_time")),
            tool=TOOL,
            created_at=moment(str(raw["updated_at"])),
        )
        return version, text

    def _quarantine(
        self, entry: LabelEntry, ours: LabelTask, raw: dict[str, Any] | None, code: QuarantineCode, message: str
    ) -> Quarantined:
        text = "" if raw is None else json.dumps(raw.get("result"), ensure_ascii=False, sort_keys=True)
        text = without_lone_surrogates(text).replace("\x00", "\ufffd")
        digest = hashlib.sha256(text.encode()).hexdigest()
        if len(text) > MAX_RAW:
            text = f"{text[:MAX_RAW]}… ({len(text):,} characters, sha256 {digest})"
        return Quarantined(
            id=content_id("quarantine", entry.id, code.value, digest),
            entry_id=entry.id,
            task_id=ours.id,
            image_id=ours.image_id,
            annotator=entry.annotator,
            code=code.value,
            message=message,
            raw=text,
            source=self._source(entry),
            created_at=datetime.now(UTC) if raw is None else moment(str(raw["updated_at"])),
        )

    def _quarantine_task(self, task: dict[str, Any], ours: LabelTask, entries: Sequence[LabelEntry]) -> None:
        """Quarantine a task that holds something the server cannot give back; what was read before stays."""
        entry = LabelEntry(
            id=content_id("label-entry", ours.id, "task", int(task["id"])),
            task_id=ours.id,
            task_number=int(task["id"]),
            number=None,
            annotator="unknown",
            annotation_id=None,
            quarantine_id=None,
            deleted=False,
        )
        message = "The server answers 500 when it is asked for this task: one of its annotations holds a value that "
        item = self._quarantine(
            entry, ours, None, QuarantineCode.POISONED, f"{message}cannot be given back. Delete it."
        )
        before = next((known for known in entries if known.id == entry.id), None)
        if before is None or before.quarantine_id != item.id:
            self.quarantined.append(item)
            self.counts["quarantined"] += 1
        self._set_entry(entry, before, None, item.id)

    def _notice(self, task: dict[str, Any], invalid: Sequence[Quarantined]) -> None:
        """Change what the page shows above the image, and the task's meta, where invalid annotations came or went."""
        data, meta = dict(task.get("data") or {}), dict(task.get("meta") or {})
        lines = [f"{_NOTICE}{item.message} ({item.annotator})" for item in invalid]
        reasons = [{"annotation": item.source, "code": item.code, "message": item.message} for item in invalid]
        if data.get("notice", "") == "\n".join(lines) and meta.get("sdg_quarantine", []) == reasons:
            return
        data["notice"] = "\n".join(lines)
        meta["sdg_quarantine"] = reasons
        self.notices.append(TaskNotice(int(task["id"]), data, meta))

    def _source(self, entry: LabelEntry) -> str:
        number = "" if entry.number is None else f"/{entry.number}"
        return f"{TOOL}:{self.remote.server_id}/{entry.task_number}{number}"


def _entry(ours: LabelTask, task_number: int, raw: dict[str, Any]) -> LabelEntry:
    """The identity of an annotation. `completed_by` is a number in lists and an object in a task's detail."""
    user = raw.get("completed_by")
    if isinstance(user, dict):
        user = user.get("id")
    return LabelEntry(
        id=content_id("label-entry", ours.id, int(raw["id"]), str(raw["created_at"])),
        task_id=ours.id,
        task_number=task_number,
        number=int(raw["id"]),
        annotator="unknown" if user is None else f"user-{user}",
        annotation_id=None,
        quarantine_id=None,
        deleted=False,
    )


def _withdraw(tx: Tx, remote: ServerIds, lost: Sequence[LabelEntry], reason: str) -> None:
    """Withdraw all versions of the annotations; withdrawing only the last would make the one before current again."""
    versions = answers.versions(tx, [entry.id for entry in lost])
    now = datetime.now(UTC)
    tombstones.insert(
        tx,
        [
            Tombstone(
                kind=Withdrawn.ANNOTATION,
                item_id=version,
                reason=reason,
                source=f"{TOOL}:{remote.server_id}/{entry.task_number}/{entry.number}",
                created_at=now,
            )
            for entry in lost
            for version in versions.get(entry.id, [])
        ],
    )
    answers.put(tx, [entry.model_copy(update={"deleted": True}) for entry in lost])


def _seconds(value: Any) -> float | None:
    """A lead time in seconds; None where it is no finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
