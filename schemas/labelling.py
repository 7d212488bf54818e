"""What was handed to people and what became of it: projects, tasks, and answers that cannot be used.

Label Studio's integer ids are not stable: servers are installed anew, and ids are used again. So records are keyed by
our own ids, and keep a server's id only to say where something is.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from schemas.base import Record, Text
from schemas.records import ContentId, Count, Named, UtcTime


class ProjectKind(StrEnum):
    """What people do there. A project's `round` counts from 1: annotation is round 1, reviews follow."""

    ANNOTATE = "annotate"
    REVIEW = "review"


class TaskState(StrEnum):
    """`intended`: about to be pushed, so it may be there. `deleted`: somebody deleted it; it is not pushed again."""

    INTENDED = "intended"
    PUSHED = "pushed"
    DELETED = "deleted"


class LabelProject(Record):
    """A project for people. `config` is the page (Label Studio XML), `config_version` its hash.

    `generation` counts projects that differ in nothing else. `closed`: given up, its unfinished tasks go elsewhere.
    """

    id: ContentId
    name: Named
    kind: ProjectKind
    round: Annotated[int, Field(ge=1)]
    generation: Count
    config_version: Named
    config: Text
    closed: bool
    created_at: UtcTime


class LabelTask(Record):
    """An image in a project. `prelabel_id` or `parent_id` (an annotation) say whose defects are shown; blind: neither.

    `id` is the task's `data.sdg_uid`. `overlap`: how many people shall do it.
    """

    id: ContentId
    project_id: ContentId
    image_id: ContentId
    prelabel_id: ContentId | None
    parent_id: ContentId | None
    blind: bool
    overlap: Annotated[int, Field(ge=1)]
    priority: Annotated[float, Field(allow_inf_nan=False)]
    state: TaskState
    created_at: UtcTime


class Quarantined(Record):
    """An answer that cannot be used: why, in a code a program can count, and the raw answer (its beginning, if long).

    `message` is what the annotator is told; `source` says where it is (tool, project, task, annotation).
    """

    id: ContentId
    entry_id: ContentId
    task_id: ContentId
    image_id: ContentId
    annotator: Named
    code: Named
    message: Text
    raw: Text
    source: Named
    created_at: UtcTime


class LabelEntry(Record):
    """One person's answer to a task, as Label Studio counts: its versions in the store, and what it is now.

    `annotation_id`: its last valid version. `quarantine_id`: set while what it says now cannot be used.
    `deleted`: it is gone there, and its versions are withdrawn. `task_number`, `number`: the task's and the
    annotation's there; None for what is wrong with the task itself.
    """

    id: ContentId
    task_id: ContentId
    task_number: Count
    number: Count | None
    annotator: Named
    annotation_id: ContentId | None
    quarantine_id: ContentId | None
    deleted: bool
