"""Label Studio's ML-backend protocol: live prelabels in its own terms.

A task says which image it is about by `data.image_id` (an image of the served home; what `sdg` puts into its tasks), or
carries it in `data.image` as a data URL; the prompt stands in `data.prompt`. Other URLs are not fetched. The project's
labelling config says what its tags are called; boxes go to its RectangleLabels, reasons to its per-region TextArea,
importance and subtypes to the fields that it has for them (`annotate.labelstudio.config.read_tags`).

A task that its annotators are to do blind gets no prediction: neither one that says so itself (`meta.sdg_blind`), nor
one that the served home handed out blind, whatever its `data` and `meta` have become since.

A task that cannot be answered gets an error of its own in `results`, and no regions: never an empty prediction, which
would claim a clean image.
"""

from __future__ import annotations

import asyncio
import hashlib
import xml.etree.ElementTree as ElementTree
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from annotate.labelstudio.config import IMPORTANCE, REASON, Tags
from annotate.labelstudio.config import read_tags as tags_of_page
from annotate.labelstudio.convert import region
from annotate.machine.prelabel import ask_about
from annotate.serve.chat import MAX_TEXT
from annotate.serve.served import Served, answered, image_of_url, prepared, read_body
from annotate.vlm.contract import EncodedImage
from schemas.answer.parse import parse_answer
from schemas.base import without_lone_surrogates
from schemas.defect import Defect
from schemas.geometry import ImageSize
from schemas.records import ImageRecord
from sdg_data.errors import BlobError
from sdg_data.store import cut_prompts, images, known_answers, labelling, prompts

_MAX_CONFIG = 200_000
_MOST_TASKS = 256
_TASK_IDS = ("sdg_uid", "image_id")
BLIND = "this task is done without prelabels"
"""Why a blind task gets no prediction."""
_TASKS_AT_ONCE = 4
"""A request's tasks that wait for the model at a time, so that a long one does not hold up the others."""


class _Task(BaseModel):
    id: int | str | None = None
    data: dict[str, Any] = {}
    meta: Any = None


class _Predict(BaseModel):
    tasks: list[_Task] = Field(max_length=_MOST_TASKS)
    label_config: str = ""


def read_tags(config: str) -> Tags:
    """The tags of a labelling config.

    Raises:
        HTTPException: 400 where it is no XML, or has no RectangleLabels.
    """
    if not config.strip():
        return Tags(reason=REASON, importance=IMPORTANCE)
    if len(config) > _MAX_CONFIG or "<!DOCTYPE" in config or "<!ENTITY" in config:
        raise HTTPException(400, "the labelling config is too long, or declares entities")
    try:
        tags = tags_of_page(without_lone_surrogates(config))
    except ElementTree.ParseError as error:
        raise HTTPException(400, f"the labelling config is no XML: {error}") from error
    if tags is None:
        raise HTTPException(400, "the labelling config has no RectangleLabels")
    return tags


def regions(defects: tuple[Defect, ...], tags: Tags, size: ImageSize) -> list[dict[str, Any]]:
    """A prediction's `result`: the region of each defect, under an id made of its place and content."""
    return [
        item
        for index, defect in enumerate(defects)
        for item in region(
            hashlib.sha256(f"{index}:{defect.model_dump_json()}".encode()).hexdigest()[:10], defect, size, tags
        )
    ]


def label_studio_router(served: Served) -> APIRouter:
    """Make the routes by which Label Studio asks its machine learning backend."""
    router = APIRouter()
    identity = served.backend.identity
    model_version = f"{identity.model}:{identity.revision[:12]}:{served.template.id}"

    @router.post("/setup")
    async def setup() -> dict[str, str]:
        return {"model_version": model_version}

    @router.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        asked = await read_body(served, await request.body(), _Predict)
        tags = read_tags(asked.label_config)
        at_once = asyncio.Semaphore(_TASKS_AT_ONCE)

        async def in_turn(task: _Task) -> dict[str, Any]:
            async with at_once:
                return await _answer_task(task, tags)

        results = await asyncio.gather(*(in_turn(task) for task in asked.tasks))
        return {"results": results, "model_version": model_version}

    async def _answer_task(task: _Task, tags: Tags) -> dict[str, Any]:
        """A task's result. A full queue refuses the whole request with 503; other failures are the task's own."""
        if await asyncio.to_thread(is_blind, served, task.data, task.meta):
            return {"error": BLIND, "model_version": model_version}
        try:
            image, prompt, size = await _image(served, task)
            answer = await answered(served.backend, ask_about(served.backend, served.template, prompt, image))
        except HTTPException as error:
            if error.status_code == 503:
                raise
            return {"error": without_lone_surrogates(str(error.detail)), "model_version": model_version}
        parsed = parse_answer(answer.text, codec=served.backend.codec(image.size), hit_length=answer.hit_length)
        if parsed.defects is None:
            return {"error": f"{parsed.reason}: {parsed.detail}", "model_version": model_version}
        return {"result": regions(parsed.defects, tags, size), "model_version": model_version}

    return router


def is_blind(served: Served, data: dict[str, Any], meta: Any) -> bool:
    """Whether a task is to be done without seeing what a machine says."""
    if isinstance(meta, dict) and meta.get("sdg_blind"):
        return True
    if served.store is None:
        return False
    uid, image_id = (
        without_lone_surrogates(value) if isinstance(value, str) else "" for value in map(data.get, _TASK_IDS)
    )
    with served.store.read() as tx:
        return labelling.is_blind(tx, task_id=uid, image_id=image_id)


async def _image(served: Served, task: _Task) -> tuple[EncodedImage, str, ImageSize]:
    """(the image as sent to the model, its prompt, its own size in pixels). Raises HTTPException."""
    image_id, prompt, url = (task.data.get(name) for name in ("image_id", "prompt", "image"))
    if isinstance(image_id, str) and served.store is not None and served.blobs is not None:
        record, text, data = await asyncio.to_thread(_stored, served, without_lone_surrogates(image_id))
        try:
            image = await prepared(served, data, record.media_type)
        except ValueError as error:
            raise HTTPException(422, f"the image cannot be read: {error}") from error
        return image, text, ImageSize(width=record.width, height=record.height)
    if isinstance(url, str) and isinstance(prompt, str):
        if len(prompt) > MAX_TEXT:
            raise HTTPException(400, f"a prompt of {len(prompt)} characters, more than the {MAX_TEXT} that are read")
        image = await image_of_url(served, url)
        return image, without_lone_surrogates(prompt), image.size
    raise HTTPException(400, "a task has data.image_id of the served home, or data.image (a data URL) and data.prompt")


def _stored(served: Served, image_id: str) -> tuple[ImageRecord, str, bytes]:
    """(an image's record, its prompt, its bytes). Raises HTTPException."""
    assert served.store is not None
    assert served.blobs is not None
    with served.store.read() as tx:
        ids = [image_id]
        record = {**images.by_ids(tx, ids), **known_answers.images_by_ids(tx, ids)}.get(image_id)
        text = None
        if record is not None:
            whole = prompts.by_ids(tx, [record.prompt_id])[record.prompt_id].text
            text = cut_prompts.read_part(whole, cut_prompts.of_images(tx, [image_id]).get(image_id))
    if record is None or text is None:
        raise HTTPException(404, f"there is no image {image_id[:64]!r} in the served home")
    try:
        return record, text, served.blobs.get(record.blob)
    except BlobError as error:
        raise HTTPException(422, f"the image cannot be read: {error}") from error
