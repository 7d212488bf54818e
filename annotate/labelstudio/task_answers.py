"""The answers of one task on the server, compared with what the store knows: versions, quarantine, what is missing.

An annotation on the server is identified by (task, the server's id of the annotation, created_at), because the server
gives ids out again. Version id = hash(that identity, content, previous version). So pulling the same state twice adds
nothing, and A→B→A is three versions.

Who said it is who changed it last. A POST or PATCH may name anybody in `completed_by`, but `updated_by` is set by the
server: where the two differ, what is new goes to quarantine, and what the named person said before stays theirs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from annotate.labelstudio.client import moment
from annotate.labelstudio.convert import ParsedAnnotation, ShownRegions, parse
from annotate.labelstudio.page_check import page_check
from annotate.labelstudio.refusals import InvalidAnnotation, QuarantineCode, refuse
from annotate.labelstudio.withdrawing import TOOL
from schemas.base import without_lone_surrogates
from schemas.labelling import LabelEntry, LabelProject, LabelTask, Quarantined
from schemas.records import Annotation, AnnotationStatus, Origin
from sdg_data.ids import canonical_json, content_id

MAX_RAW = 65_536
"""Characters of a quarantined answer that are kept; its hash says whether two long ones are the same."""
UNKNOWN = "unknown"
_LASTING = frozenset({QuarantineCode.TASK_CHANGED.value, QuarantineCode.PAGE_CHANGED.value})
"""What was entered meanwhile stays in doubt when the cause is mended, until it is submitted again."""
_BULK = "Nobody entered this answer on the page. Open it, check it, and submit it."
_POISONED = (
    "The server answers 500 when it is asked for this task: one of its annotations holds a value that cannot be given "
    "back. Delete it."
)


@dataclass(frozen=True)
class Doubt:
    """Why answers that are new or changed are not believed: a code, and what annotators are told."""

    code: QuarantineCode
    message: str


_NOT_BLIND = Doubt(
    QuarantineCode.UNKNOWN_PREDICTION,
    "This image is done without a machine's boxes, and this answer started from some. Delete it, then begin anew.",
)


_SUSPENDED = Doubt(
    QuarantineCode.SUSPENDED, "This answer is kept, and waits. Please ask whoever leads the project before you go on."
)


@dataclass(frozen=True)
class Known:
    """What the store holds of the answers of some tasks: entries by task, last versions and quarantine by id.

    `suspended`: people whose new answers are held back until a lead admits them.
    """

    entries: Mapping[str, Sequence[LabelEntry]]
    versions: Mapping[str, Annotation]
    quarantined: Mapping[str, Quarantined]
    suspended: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PulledTask:
    """A task as the server lists it (`raw`), ours, and what it shows. `number`: the server's of the project."""

    raw: Mapping[str, Any]
    ours: LabelTask
    project: LabelProject
    server_id: int
    shown: ShownRegions
    doubt: Doubt | None = None

    @property
    def number(self) -> int:
        """The server's number of the task."""
        return int(self.raw["id"])

    def source(self, number: int | None) -> str:
        """Where an answer (by its number) is: tool, project, task, annotation."""
        return f"{TOOL}:{self.server_id}/{self.number}" + ("" if number is None else f"/{number}")


@dataclass
class TaskAnswers:
    """What became of a task's answers.

    `missing`: entry id to whether the server looks older than that entry. `invalid`: all that is in quarantine now, for
    the notice. `rewound`: answers that the server has in an older state than was read from it.
    """

    annotations: list[Annotation] = field(default_factory=list)
    entered: dict[str, tuple[str, str]] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    entries: list[LabelEntry] = field(default_factory=list)
    missing: dict[str, bool] = field(default_factory=dict)
    present: list[str] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)
    invalid: list[Quarantined] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    rewound: int = 0


def read_answers(task: PulledTask, known: Known, *, believe: bool = False) -> TaskAnswers:
    """Compare a task's answers with what is known of them.

    Args:
        task: The task.
        known: What the store holds.
        believe: Take older states of answers too, as somebody said that the server is right.
    """
    reader = _Reader(task, known, believe)
    for raw in task.raw.get("annotations") or []:
        reader.read(raw)
    reader.find_missing()
    return reader.answers


def started_from_prediction(raw: Mapping[str, Any]) -> bool:
    """Whether an annotation says that it was made from a prediction, as a whole or in any of its items.

    A person who works blind has no reason to make that up, and what they see of an unknown model is not ours to know.
    """
    result = raw.get("result")
    items = [item for item in result if isinstance(item, dict)] if isinstance(result, list) else []
    return raw.get("parent_prediction") is not None or any(
        item.get("origin") in (Origin.PREDICTION, Origin.PREDICTION_CHANGED) for item in items
    )


def unreadable(task: PulledTask, known: Known) -> TaskAnswers:
    """Quarantine a task that holds something the server cannot give back; what was read before stays."""
    reader = _Reader(task, known, believe=False)
    entry = LabelEntry(
        id=content_id("label-entry", task.ours.id, "task", task.number),
        task_id=task.ours.id,
        task_number=task.number,
        number=None,
        annotator=UNKNOWN,
        annotation_id=None,
        quarantine_id=None,
        deleted=False,
    )
    reader.refuse(entry, None, Doubt(QuarantineCode.POISONED, _POISONED))
    return reader.answers


class _Reader:
    """Reads the answers of one task, one after the other."""

    def __init__(self, task: PulledTask, known: Known, believe: bool) -> None:
        self._task, self._believe = task, believe
        entries = known.entries.get(task.ours.id, ())
        self._known = {entry.id: entry for entry in entries if entry.task_number == task.number}
        self._versions, self._quarantined = known.versions, known.quarantined
        self._suspended = known.suspended
        self._seen: set[str] = set()
        self.answers = TaskAnswers()

    def read(self, raw: Mapping[str, Any]) -> None:
        """Read one annotation."""
        author, editor = _person(raw, "completed_by"), _person(raw, "updated_by")
        entry = self._entry(raw, author or UNKNOWN)
        before = self._known.get(entry.id)
        if before is not None and before.deleted:
            self.answers.revived.append(entry.id)
            self.answers.counts["back"] += 1
        self.answers.present.append(entry.id)
        previous = self._previous(before)
        if before is not None and previous is not None:
            entry = entry.model_copy(update={"annotator": before.annotator})
        version, text, problem = None, "", None
        try:
            parsed = None if raw.get("was_cancelled") else parse(raw.get("result"), self._task.shown)
            if parsed is not None and (wrong := page_check(self._task.project.config).errors(raw["result"])):
                raise refuse(QuarantineCode.NOT_OF_THE_PAGE, f"The page has no such answer: {wrong[0]}")
            version, text = self._version(entry, raw, parsed, previous)
            if self._task.ours.blind and parsed is not None and started_from_prediction(raw):
                problem = _NOT_BLIND
        except InvalidAnnotation as refusal:
            problem = Doubt(refusal.code, str(refusal))
        if version is not None and previous is not None and version.id == previous.id:
            # Whoever touched it last changed nothing of what was said.
            if before is not None and before.quarantine_id is not None:
                self.answers.counts["mended"] += 1
            self._keep(entry, version.id, None)
            return
        if previous is not None and moment(str(raw["updated_at"])) < previous.created_at and not self._believe:
            self.answers.rewound += 1
            self._seen.add(entry.id)
            return
        stranger = self._stranger(raw, author, editor, before if previous is not None else None)
        if stranger is not None and previous is not None:
            self._seen.add(entry.id)  # what the person said stays; what the other made of it stands beside it
            self.refuse(self._entry(raw, editor or UNKNOWN, beside=editor or UNKNOWN), raw, stranger)
            return
        if stranger is not None and editor is not None:
            entry = entry.model_copy(update={"annotator": editor})
        problem = problem or stranger or self._lasting(before, raw) or self._task.doubt or self._held_back(entry)
        if version is None or problem is not None:
            self.refuse(entry, raw, problem or Doubt(QuarantineCode.UNREADABLE, "The answer cannot be read."))
            return
        self.answers.annotations.append(version)
        self.answers.entered[version.id] = (entry.id, text)
        skipped = version.status is AnnotationStatus.SKIPPED
        self.answers.counts["skipped" if skipped else "new" if previous is None else "edited"] += 1
        self._keep(entry, version.id, None)

    def find_missing(self) -> None:
        """Note the entries of the task that were not among its answers."""
        touched = moment(str(self._task.raw["updated_at"])) if self._task.raw.get("updated_at") else None
        for entry in self._known.values():
            if entry.id in self._seen or entry.deleted:
                continue
            if entry.number is None:
                self.answers.entries.append(entry.model_copy(update={"quarantine_id": None, "deleted": True}))
                continue
            # A deletion touches the task. One that was last touched before its answer was read is from another past.
            known = self._last_known(entry)
            self.answers.missing[entry.id] = touched is not None and known is not None and touched < known

    def refuse(self, entry: LabelEntry, raw: Mapping[str, Any] | None, problem: Doubt) -> None:
        """Put what an entry says now into quarantine; its last valid version stays known."""
        before = self._known.get(entry.id)
        item = self._quarantine(entry, raw, problem)
        self.answers.invalid.append(item)
        if before is None or before.quarantine_id != item.id:
            self.answers.quarantined.append(item)
            self.answers.counts["quarantined"] += 1
        kept = before.annotation_id if before is not None and entry.number is not None else None
        self._keep(entry, kept, item.id)

    # --- who said it, and what was known

    def _stranger(
        self, raw: Mapping[str, Any], author: str | None, editor: str | None, before: LabelEntry | None
    ) -> Doubt | None:
        """Why it is not the word of the person that it is said to be of; None: it is.

        `before`: the entry where a version of it is known, whose author it stays.
        """
        known = before.annotator if before is not None and before.annotator != UNKNOWN else None
        if "updated_by" not in raw:  # a server that does not say who
            editor = author
        if author is None or editor is None:
            return Doubt(QuarantineCode.BY_ANOTHER, _BULK)
        if editor == author == (known or author):
            return None
        said = known or author
        message = f"{editor} wrote or changed this answer of {said}. If it is right, {said} has to submit it."
        if editor == said:
            message = f"{editor} gave this answer the name of {author}. Submit it as {said}."
        return Doubt(QuarantineCode.BY_ANOTHER, message)

    def _lasting(self, before: LabelEntry | None, raw: Mapping[str, Any]) -> Doubt | None:
        """The doubt that an answer is in since it was entered, if nobody submitted it again."""
        item = self._quarantined.get(before.quarantine_id or "") if before is not None else None
        if item is None or item.code not in _LASTING or item.created_at != moment(str(raw["updated_at"])):
            return None
        return Doubt(QuarantineCode(item.code), item.message)

    def _held_back(self, entry: LabelEntry) -> Doubt | None:
        return _SUSPENDED if entry.annotator in self._suspended else None

    def _previous(self, before: LabelEntry | None) -> Annotation | None:
        return None if before is None or before.annotation_id is None else self._versions.get(before.annotation_id)

    def _last_known(self, entry: LabelEntry) -> datetime | None:
        """When what is known of an entry was entered, by the server's clock."""
        previous = self._previous(entry)
        item = self._quarantined.get(entry.quarantine_id or "")
        return max((known.created_at for known in (previous, item) if known is not None), default=None)

    # --- records

    def _keep(self, entry: LabelEntry, annotation_id: str | None, quarantine_id: str | None) -> None:
        self._seen.add(entry.id)
        updated = entry.model_copy(update={"annotation_id": annotation_id, "quarantine_id": quarantine_id})
        if updated != self._known.get(entry.id):
            self.answers.entries.append(updated)

    def _entry(self, raw: Mapping[str, Any], annotator: str, *, beside: str = "") -> LabelEntry:
        """The identity of an annotation; `beside`: of what that person made of another's."""
        ours = self._task.ours
        parts: list[str | int] = [ours.id, int(raw["id"]), str(raw["created_at"]), *([beside] if beside else [])]
        return LabelEntry(
            id=content_id("label-entry", *parts),
            task_id=ours.id,
            task_number=self._task.number,
            number=None if beside else int(raw["id"]),
            annotator=annotator,
            annotation_id=None,
            quarantine_id=None,
            deleted=False,
        )

    def _version(
        self,
        entry: LabelEntry,
        raw: Mapping[str, Any],
        parsed: ParsedAnnotation | None,
        previous: Annotation | None,
    ) -> tuple[Annotation, str]:
        """The annotation's current version, which may be the last one again, and what was entered, as JSON."""
        status = AnnotationStatus.SKIPPED if parsed is None else parsed.status
        text = without_lone_surrogates(canonical_json({} if parsed is None else parsed.entered))
        content = hashlib.sha256(f"{status.value} {text}".encode()).hexdigest()

        def version_id(parent_id: str | None) -> str:
            return content_id("label-version", entry.id, content, parent_id or "")

        parent_id = self._task.shown.parent_id
        if previous is not None:
            parent_id = previous.parent_id if version_id(previous.parent_id) == previous.id else previous.id
        version = Annotation(
            id=version_id(parent_id),
            image_id=self._task.ours.image_id,
            prelabel_id=self._task.shown.prelabel_id,
            parent_id=parent_id,
            annotator=entry.annotator,
            round=self._task.project.round,
            status=status,
            defects=() if parsed is None else parsed.defects,
            note=None if parsed is None else parsed.note,
            source=self._task.source(entry.number),
            seconds=_seconds(raw.get("lead_time")),
            tool=TOOL,
            created_at=moment(str(raw["updated_at"])),
        )
        return version, text

    def _quarantine(self, entry: LabelEntry, raw: Mapping[str, Any] | None, problem: Doubt) -> Quarantined:
        text = "" if raw is None else json.dumps(raw.get("result"), ensure_ascii=False, sort_keys=True)
        text = without_lone_surrogates(text).replace("\x00", "\ufffd")
        digest = hashlib.sha256(text.encode()).hexdigest()
        if len(text) > MAX_RAW:
            text = f"{text[:MAX_RAW]}… ({len(text):,} characters, sha256 {digest})"
        number = entry.number if raw is None else int(raw["id"])
        entered = datetime.now(UTC) if raw is None else moment(str(raw["updated_at"]))
        # An answer that was given about a changed task and given again is in doubt anew.
        again = [entered.isoformat()] if problem.code.value in _LASTING else []
        return Quarantined(
            id=content_id("quarantine", entry.id, problem.code.value, digest, *again),
            entry_id=entry.id,
            task_id=self._task.ours.id,
            image_id=self._task.ours.image_id,
            annotator=entry.annotator,
            code=problem.code.value,
            message=problem.message,
            raw=text,
            source=self._task.source(number),
            created_at=entered,
        )


def _person(raw: Mapping[str, Any], name: str) -> str | None:
    """Who an annotation names: a number in lists, an object in a task's detail."""
    user = raw.get(name)
    if isinstance(user, dict):
        user = user.get("id")
    return None if user is None else f"user-{user}"


def _seconds(value: Any) -> float | None:
    """A lead time in seconds; None where it is no finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
