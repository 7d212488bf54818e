"""A world for refinement that needs no model: an image is white, and its defects are black squares that can be seen.

The detector sees every black square of 4 × 4 pixels as an artifact whose importance is written in the prompt's order.
Editors paint the masked part as they are told.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from generators.editors.contract import EditedImage, EditError, EditRequest, Pixels
from generators.editors.presets import EditorPreset
from generators.images import GeneratedImage
from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from schemas.records import ImageRecord, Prelabel, Prompt, Split
from sdg_data.blobs import Blobs
from sdg_data.ids import canonical_json, content_id, normalise_prompt, prompt_id
from sdg_data.metrics.store_sources import Filter
from sdg_data.store import images, prelabels, prompts
from sdg_data.store.connection import Store
from sdg_data.store.images import Variant
from sdg_data.store.prelabels import Prelabeller
from trainers.refinement.chain import Refiner
from trainers.refinement.instructions import load_instruction
from trainers.refinement.settings import RefineSettings, identity_of
from trainers.refinement.signals import Signals
from trainers.refinement.source import Work, work_of
from trainers.refinement.stage import RefineJob, RefineStage
from trainers.rewards.contract import BaseReward, Detection, Score
from trainers.rewards.settings import DetectorSettings

SIDE = 32
SQUARE = 4
PRESET = EditorPreset(name="painter", pipeline="Painter", repository="nobody/painter", cell=2, multiple=1)
ASKED = Prelabeller("seer", "1", "t", "{}")


def picture(*corners: tuple[int, int]) -> Pixels:
    """White, with a black square at each (x, y)."""
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    for x, y in corners:
        pixels[y : y + SQUARE, x : x + SQUARE] = 0
    return pixels


def seen(pixels: Pixels) -> tuple[Defect, ...]:
    """The black squares on a grid of their own size, the lowest the most important."""
    squares = []
    for y in range(0, SIDE, SQUARE):
        for x in range(0, SIDE, SQUARE):
            if (pixels[y : y + SQUARE, x : x + SQUARE] == 0).all():
                edges = [round(edge * 1000 / SIDE) for edge in (x, y, x + SQUARE, y + SQUARE)]
                box = Box(x0=edges[0], y0=edges[1], x1=edges[2], y1=edges[3])
                squares.append(Defect(box=box, type=DefectType.ARTIFACT, reason="a black square", importance=10 + y))
    return tuple(squares)


class Seer:
    """A detector that sees the squares; `silent` says for which pictures it gives no answer."""

    name = "seer"

    def __init__(self, silent: Callable[[Pixels], bool] = lambda _: False, *, fatal: bool = False) -> None:
        self.silent, self.fatal = silent, fatal
        self.asked = 0

    async def detect(self, images: Sequence[GeneratedImage]) -> list[Detection]:
        self.asked += len(images)
        return [
            Detection(None, "timeout", self.fatal) if self.silent(image.pixels) else Detection(seen(image.pixels))
            for image in images
        ]

    async def close(self) -> None:
        return


class Brightness:
    """A base reward: the mean of the picture."""

    name = "brightness"

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        return [Score(self.sign * float(image.pixels.mean())) for image in images]

    async def close(self) -> None:
        return


class Painter:
    """Paints everything in one colour, outside of the mask too; fails where it is told to."""

    def __init__(self, colour: Callable[[EditRequest], int] = lambda _: 255) -> None:
        self.colour = colour
        self.requests: list[EditRequest] = []

    def edit(self, request: EditRequest) -> EditedImage:
        self.requests.append(request)
        colour = self.colour(request)
        if colour < 0:
            raise EditError("refused", "the filter said no", raw="policy")
        return EditedImage(np.full_like(request.image, colour), (SIDE, SIDE))

    def close(self) -> None:
        return


def image_record(
    name: str,
    *,
    prompt: str = "p",
    model: str = "m1",
    settings: Mapping[str, object] | None = None,
    seconds: float | None = None,
) -> ImageRecord:
    """A record without a picture behind it, for tables that are put together by hand."""
    return ImageRecord(
        id=content_id("image", name),
        prompt_id=content_id("prompt", prompt),
        model=model,
        revision="1",
        sample=0,
        seed=0,
        settings=canonical_json(settings or {}),
        blob="0" * 64,
        media_type="image/png",
        width=8,
        height=8,
        bytes=1,
        licence="CC0-1.0",
        source="generated",
        tool="t",
        seconds=seconds,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def stored(home: Path, *pictures: Pixels, text: str = "a white page") -> tuple[Store, Blobs, list[ImageRecord]]:
    """A home with these pictures, each with what `Seer` says as its prelabel."""
    store, blobs = Store(home), Blobs(home / "blobs")
    record = Prompt(id=prompt_id(text), text=normalise_prompt(text), source="t", licence=None, split=Split.TRAIN)
    records, answers = [], []
    for number, pixels in enumerate(pictures):
        data = GeneratedImage(pixels, "").png()
        made = images.record(
            record.id,
            Variant("printer", "1", "{}"),
            number,
            blob=blobs.put(data),
            size=len(data),
            width=SIDE,
            height=SIDE,
            licence="CC0-1.0",
            source="generated",
            seed=number,
        )
        records.append(made)
        answers.append(
            Prelabel(
                id=ASKED.prelabel_id(made.id),
                image_id=made.id,
                model=ASKED.model,
                revision=ASKED.revision,
                template=ASKED.template,
                settings=ASKED.settings,
                raw="[]",
                trace=None,
                defects=seen(pixels),
                repairs=(),
                attempt=1,
                tokens_in=None,
                tokens_out=None,
                cost=None,
                seconds=None,
                tool="test",
                created_at=datetime.now(UTC),
            )
        )
    with store.write() as tx:
        prompts.insert(tx, [record])
        images.insert(tx, records)
        prelabels.insert(tx, answers)
    return store, blobs, records


def job(**options: object) -> RefineJob:
    settings = RefineSettings.model_validate({"acceptance": {"min_seam": -1}, "cells": 0, "feather": 0, **options})
    template = load_instruction("defect-1")
    identity = identity_of(
        settings,
        source="prelabel:seer",
        editor=PRESET.settings,
        revision="1",
        template=template.id,
        detector=DetectorSettings(kind="oracle"),
    )
    return RefineJob(settings, identity, PRESET, "1", template, True)


def work(store: Store, blobs: Blobs, what: RefineJob, *, retry: tuple[str, ...] = ()) -> Work:
    return work_of(store, blobs, "prelabel:seer", what.identity.run_id, chosen=Filter(), retry=retry)


def stage(
    store: Store,
    blobs: Blobs,
    what: RefineJob,
    editor: Painter,
    detector: Seer | None = None,
    reward: BaseReward | None = None,
    *,
    retry: tuple[str, ...] = (),
) -> RefineStage:
    todo = work(store, blobs, what, retry=retry)
    return RefineStage(store, blobs, what, todo, lambda: (editor, Signals(detector or Seer(), reward)))


__all__ = ["Brightness", "Painter", "Refiner", "Seer", "job", "picture", "seen", "stage", "stored", "work"]
