"""What a task was sent as, compared with what it shows now: any member of a Label Studio can change a task's data.

An answer that was given about a changed task says something about another picture or prompt. So it is not believed, and
the task is made again what it was. What may change is left alone: the notice that is shown above the image, and keys
that were never sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from annotate.labelstudio.client import moment
from annotate.labelstudio.presigned import unsigned
from schemas.labelling import LabelTask
from schemas.records import ImageRecord
from sdg_data.store.label_trust import SentTask

NOTICE = "notice"
IMAGE = "image"
_CLOCK = timedelta(seconds=2)
"""The server's `Date` has whole seconds."""


def sent_task(body: Mapping[str, Any]) -> SentTask:
    """What of a task's body must stay as it is."""
    data = {key: value for key, value in body["data"].items() if key != NOTICE}
    return SentTask(data=data, meta=dict(body.get("meta") or {}))


def expected_task(task: LabelTask, image: ImageRecord, prompt: str, shown: Mapping[str, Any]) -> SentTask:
    """What a task must have been sent as that was sent before this was written down.

    Args:
        task: The task.
        image: Its image.
        prompt: The prompt as people are shown it.
        shown: The task's data now. Its image's address is believed where it names the image's blob.
    """
    address = shown.get("image")
    data: dict[str, Any] = {"sdg_uid": task.id, "image_id": task.image_id, "prompt": prompt, "model": image.model}
    data["image"] = address if isinstance(address, str) and image.blob in address else f"{image.blob} (unknown)"
    if task.parent_id is not None:
        data["parent_id"] = task.parent_id
    return SentTask(data=data, meta={"sdg_blind": task.blind})


def changed_parts(task: Mapping[str, Any], sent: SentTask) -> list[str]:
    """The names of what a task shows otherwise than it was sent; `data` or `meta` where that is no object at all."""
    changed = []
    for name, wanted in (("data", sent.data), ("meta", sent.meta)):
        held = task.get(name)
        if not isinstance(held, dict):
            changed += [name] if wanted else []
            continue
        changed += [key for key, value in wanted.items() if key not in held or not _same(key, held[key], value)]
    return changed


def _same(key: str, held: Any, sent: Any) -> bool:
    """Whether a task shows what was sent; another signature on the address of the same picture is no change."""
    return bool(held == sent) or (key == IMAGE and bool(unsigned(held) == unsigned(sent)))


def is_another(task: Mapping[str, Any], sent: SentTask) -> bool:
    """Whether a task with a known number cannot be the one that was sent, because it was made later.

    The server gives the numbers of deleted tasks out again. Where no time is known, a task that shares nothing with
    what was sent is another.
    """
    if sent.made_before is not None:
        return moment(str(task["created_at"])) > sent.made_before + _CLOCK
    held = task.get("data")
    return isinstance(held, dict) and not any(held.get(key) == value for key, value in sent.data.items())


def mended(task: Mapping[str, Any], sent: SentTask) -> tuple[dict[str, Any], dict[str, Any]]:
    """A task's data and meta with what was sent put back; other keys stay."""
    data, meta = task.get("data"), task.get("meta")
    held = data if isinstance(data, dict) else {}
    wanted = dict(sent.data)
    if IMAGE in held and IMAGE in wanted and _same(IMAGE, held[IMAGE], wanted[IMAGE]):
        wanted[IMAGE] = held[IMAGE]  # an address that was renewed lives longer than the one that was sent
    return (
        {**held, **wanted},
        {**(meta if isinstance(meta, dict) else {}), **sent.meta},
    )
