"""What a task shows, and its body as Label Studio's import takes it.

A task shows an image, its prompt, and regions: a prelabel's, or later those of the annotations that it starts from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from annotate.labelstudio.config import OUR_TAGS, Tags
from annotate.labelstudio.convert import ShownRegions, region_id, shown_in, to_result
from annotate.labelstudio.shown_predictions import MODEL_VERSION
from schemas.geometry import ImageSize
from schemas.labelling import LabelTask, ProjectKind
from schemas.records import Annotation, AnnotationStatus, ImageRecord
from sdg_data.people import People
from sdg_data.store import annotations as annotation_table
from sdg_data.store import cut_prompts, images, known_answers, prelabels, prompts, rewritten_prompts
from sdg_data.store import review_cases as cases
from sdg_data.store.connection import Tx
from sdg_data.store.cut_prompts import CutPrompt


@dataclass(frozen=True)
class PlannedTask:
    """A task with everything that its body is made from; `prompt` as people are shown it."""

    task: LabelTask
    image: ImageRecord
    prompt: str
    shown: ShownRegions | None
    about: str | None = None
    """Who said what is shown, for reviewers; None in the first round."""


def planned_tasks(tx: Tx, tasks: Sequence[LabelTask], kind: ProjectKind, people: People) -> list[PlannedTask]:
    """The tasks of a project of this kind with their images and what is shown; all read at once."""
    ids = [task.image_id for task in tasks]
    items = known_answers.items(tx, ids)
    records = {**images.by_ids(tx, ids), **{key: item.image for key, item in items.items()}}
    # A known-answer item says of its prompt what its original says.
    like = {key: items[key].base_id if key in items else key for key in records}
    texts = prompts.by_ids(tx, list({image.prompt_id for image in records.values()}))
    cuts = cut_prompts.of_images(tx, list(like.values()))
    drawn = rewritten_prompts.of_images(tx, list(like.values()))
    shown_ids = [task.prelabel_id for task in tasks if task.prelabel_id is not None]
    by_id = {**prelabels.by_ids(tx, shown_ids), **known_answers.prelabels_by_ids(tx, shown_ids)}
    versions = started_from(tx, tasks)
    planned = []
    for task in tasks:
        image = records[task.image_id]
        shown = shown_in(task, by_id, versions)
        prompt = shown_prompt(texts[image.prompt_id].text, cuts.get(like[image.id]), drawn.get(like[image.id]))
        review = kind is ProjectKind.REVIEW
        about = about_versions(versions.get(task.id, []), shown or ShownRegions(), people) if review else None
        planned.append(PlannedTask(task, image, prompt, shown, about))
    return planned


def task_body(planned: PlannedTask, image_url: str, tags: Tags = OUR_TAGS) -> dict[str, Any]:
    """The body of a task as the import takes it. Everything shown is one prediction; a blind task has none.

    Args:
        planned: The task with what it shows.
        image_url: Where the page finds the image.
        tags: Those of the project's page.
    """
    task, image = planned.task, planned.image
    data: dict[str, Any] = {
        "sdg_uid": task.id,
        "image_id": task.image_id,
        "image": image_url,
        "prompt": planned.prompt,
        "model": image.model,
        "notice": "",
    }
    if task.parent_id is not None:
        data["parent_id"] = task.parent_id
    if planned.about is not None:
        data["about"] = planned.about
    body: dict[str, Any] = {"data": data, "meta": {"sdg_blind": task.blind}}
    if planned.shown is not None:
        result = to_result(planned.shown, ImageSize(width=image.width, height=image.height), tags)
        body["predictions"] = [{"model_version": MODEL_VERSION, "score": 1.0, "result": result}]
    return body


def about_versions(versions: Sequence[Annotation], shown: ShownRegions, people: People) -> str:
    """What a reviewer reads about the versions that a task shows: who drew which box, and the notes.

    Args:
        versions: The versions; none where the image is done anew.
        shown: Their boxes; they are numbered in this order.
        people: What the authors are called.
    """
    numbers = {name: number for number, name in enumerate(shown.regions, start=1)}
    lines = []
    for version in versions:
        own = [numbers.get(region_id(version.id, index)) for index in range(len(version.defects))]
        boxes = ", ".join(str(number) for number in own if number is not None)
        words = {
            AnnotationStatus.DEFECTS: f"boxes {boxes}" if boxes else "no other boxes",
            AnnotationStatus.CLEAN: "no defects",
        }.get(version.status, version.status.value)
        lines.append(f"{people.called(version.annotator)}: {words}" + (f'. "{version.note}"' if version.note else ""))
    return "\n".join(lines)


def shown_prompt(text: str, cut: CutPrompt | None, drawn_from: str | None = None) -> str:
    """A prompt as an annotator reads it.

    What the model never read stands in brackets, so that nobody judges by it; so does what the model drew from, where
    it wrote its own version first, and there it is the prompt that counts.
    """
    if drawn_from is not None:
        return f"{text} [judge by the text before this; the model drew from its own version: {drawn_from}]"
    if cut is None:
        return text
    return f"{text[: cut.characters].rstrip()} [not read by the model: {text[cut.characters :].strip()}]"


def started_from(tx: Tx, tasks: Sequence[LabelTask]) -> dict[str, list[Annotation]]:
    """Task id to the annotations that it starts from, the leading one first: those of its case, else its parent."""
    about: dict[str, tuple[str, ...]] = {task.id: (task.parent_id,) for task in tasks if task.parent_id is not None}
    about |= {key: case.annotation_ids for key, case in cases.by_tasks(tx, list(about)).items()}
    versions = annotation_table.by_ids(tx, [version_id for ids in about.values() for version_id in ids])
    return {key: [versions[version_id] for version_id in ids] for key, ids in about.items()}
