"""A trained doctor behind the contracts of the house: maps, boxes, a base reward, scores of stored images.

    MapDetector    `Doctor`: `sdg train doctor maps`, `sdg eval heatmaps`
    BaseReward     `doctor`: the mean of its four scores
    Detector       `doctor`: regions of its maps as boxes; `doctor-heat`: its maps, cell by cell, for DenseFlow

DenseFlow's H is the largest heat of both types at a location. A detection knows boxes alone, so `doctor-heat` gives
each cell of a coarse map as a box with importance 100 · heat: what `boxflow.credit` draws of them is the map.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from generators.images import GeneratedImage
from schemas.defect import Defect, DefectType
from schemas.geometry import Box, ImageSize
from schemas.records import Split
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.image_scores import NAMES
from sdg_data.metrics.heatmap_sources import scaled
from sdg_data.metrics.heatmaps import Floats
from sdg_data.picture import decode_image
from sdg_data.progress import Progress
from sdg_data.settings import VlmSettings
from sdg_data.store import images, prompts
from sdg_data.store.connection import Store
from trainers.common.row_file import earlier_rows
from trainers.detector.evaluation import png
from trainers.detector.heatmaps import Asked, HeatmapReading
from trainers.doctor.asking import DoctorPrediction, ask
from trainers.doctor.chat import DoctorChat
from trainers.doctor.evaluation import THRESHOLD, defects_of
from trainers.doctor.loading import load_public, load_to_ask
from trainers.rewards.contract import BaseReward, Detection, Detector, Score
from trainers.rewards.settings import DetectorSettings, RewardSettings

CELLS: Final = 8
FINE_CELLS: Final = 40
"""Cells a side of a map that is handed over as boxes, of `doctor-heat` and of `doctor-heat-40`. At most the locations
along a side of the trained model's latents: a location that several boxes share has the strongest one's share alone."""
_PAGE: Final = 200


class Doctor:
    """A loaded doctor as a `MapDetector`.

    Args:
        model: The model.
        chat: How it is asked.
        name: What its maps are filed under.
        threshold: The least heat of a region that counts as a defect.
        max_tokens: Of an answer.
        batch_size: Images that are asked about at once.
    """

    def __init__(
        self,
        model: Any,
        chat: DoctorChat,
        *,
        name: str,
        threshold: float = THRESHOLD,
        max_tokens: int = 4096,
        batch_size: int = 16,
    ) -> None:
        self.name, self.threshold = name, threshold
        self._model, self.chat, self._limit, self.batch_size = model, chat, max_tokens, batch_size
        # The decoder takes its states from hooks on the model: of two batches at a time one would get the other's.
        self._alone = threading.Lock()

    @classmethod
    def load(cls, source: str, *, device: str = "auto", public: bool = False, **options: Any) -> Doctor:
        """Load a doctor's folder; `public`: one converted from the published layout. Errors: `loading.load_to_ask`."""
        model, chat = (load_public if public else load_to_ask)(source, device=device)
        return cls(model, chat, name=source, **options)

    def read(self, asked: Asked) -> list[HeatmapReading]:
        """Ask about images with their prompts; one reading for each, in their order."""
        readings: dict[int, HeatmapReading] = {}
        pictures: list[tuple[str, Image.Image, str]] = []
        for number, (image, prompt) in enumerate(asked):
            size = ImageSize(width=image.width, height=image.height)
            try:
                question = self.chat.question(prompt, size).text
                pictures.append((str(number), self.chat.picture(png(image)), question))
            except ValueError as error:
                readings[number] = HeatmapReading(None, dict.fromkeys(DefectType), reason=str(error))
        for start in range(0, len(pictures), self.batch_size):
            part = pictures[start : start + self.batch_size]
            for answer in self._ask(part):
                readings[int(answer.key)] = reading_of(answer, self.threshold)
        return [readings[number] for number in range(len(asked))]

    def answer(self, pictures: Sequence[tuple[Image.Image, str]]) -> list[HeatmapReading]:
        """Put whole questions about images that `chat` has fitted; one reading for each, in their order."""
        asked = [(str(number), image, question) for number, (image, question) in enumerate(pictures)]
        return [reading_of(answer, self.threshold) for answer in self._ask(asked)]

    def _ask(self, asked: Sequence[tuple[str, Image.Image, str]]) -> list[DoctorPrediction]:
        with self._alone:
            return list(ask(self._model, self.chat, asked, max_tokens=self._limit))


def reading_of(answer: DoctorPrediction, threshold: float) -> HeatmapReading:
    """A doctor's answer as a reading; what it did not say is None, with the reason."""
    missing = [name for name in NAMES if name not in answer.answer.scores]
    missing += [f"{kind} heatmap" for kind in DefectType if answer.maps.get(kind) is None]
    reason = f"it gave no {', '.join(missing)}" if missing else ""
    return HeatmapReading(defects_of(answer.maps, threshold), answer.maps, answer.answer.scores, answer.text, reason)


class DoctorReward:
    """The mean of a doctor's four scores, 0..1; an image without all four has no score."""

    def __init__(self, doctor: Doctor) -> None:
        self.name, self._doctor = "doctor", doctor

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        """Ask about images in a thread; one score for each, in their order."""
        readings = await asyncio.to_thread(self._doctor.read, _asked(images))
        return [mean_score(reading.scores) for reading in readings]

    async def close(self) -> None:
        """Do nothing: the model goes with the process."""


class DoctorDetector:
    """A doctor as a detector. An answer without a map of each type is missing: silence is no clean image."""

    def __init__(self, doctor: Doctor, *, cells: int | None = None) -> None:
        self.name, self._doctor, self._cells = "doctor" if cells is None else "doctor-heat", doctor, cells

    async def detect(self, images: Sequence[GeneratedImage]) -> list[Detection]:
        """Ask about images in a thread; one detection for each, in their order."""
        readings = await asyncio.to_thread(self._doctor.read, _asked(images))
        return [self._detection(reading) for reading in readings]

    async def close(self) -> None:
        """Do nothing: the model goes with the process."""

    def _detection(self, reading: HeatmapReading) -> Detection:
        if any(reading.heatmaps[kind] is None for kind in DefectType):
            return Detection(None, reading.reason or "it gave no heatmap")
        if self._cells is None:
            return Detection(reading.defects)
        maps = {kind: heat for kind, heat in reading.heatmaps.items() if heat is not None}
        return Detection(cells_as_defects(maps, self._cells))


def mean_score(scores: Mapping[str, float]) -> Score:
    """The mean of all four scores, with each as a part; None where one is missing."""
    missing = [name for name in NAMES if name not in scores]
    if missing:
        return Score(None, f"it gave no {', '.join(missing)}", parts=dict(scores))
    return Score(math.fsum(scores[name] for name in NAMES) / len(NAMES), parts=dict(scores))


def cells_as_defects(maps: Mapping[DefectType, Floats], cells: int) -> tuple[Defect, ...]:
    """Maps as one box for each cell of a coarser grid, importance 100 · its heat; cells below ½ % are left out.

    Args:
        maps: (H, W) by type, 0..1.
        cells: A side of the grid; one that divides 1,000 is exact.

    Returns:
        The boxes, which `metrics.heatmaps.rasterise` draws as the maps again.
    """
    defects = []
    for kind, heat in maps.items():
        coarse = scaled(heat, (cells, cells))
        for row, column in zip(*(coarse >= 0.005).nonzero(), strict=True):
            box = Box.from_corners(int(column), int(row), int(column) + 1, int(row) + 1, span_x=cells, span_y=cells)
            importance = min(max(round(100 * float(coarse[row, column])), 1), 100)
            defects.append(Defect(box=box, type=kind, reason=f"{kind} heat", importance=importance))
    return tuple(defects)


def make_doctor_reward(settings: RewardSettings) -> BaseReward:
    """The doctor that the settings' `model` names, as a reward."""
    return DoctorReward(Doctor.load(_named(settings.model), device=settings.device, batch_size=settings.batch_size))


def make_doctor_detector(settings: DetectorSettings) -> Detector:
    """The doctor that the settings' `vlm.model` names, as a detector of boxes."""
    return DoctorDetector(_loaded(settings.vlm))


def make_heat_detector(settings: DetectorSettings) -> Detector:
    """The same with its maps cell by cell, for DenseFlow-GRPO; `doctor-heat-40` has finer ones."""
    cells = CELLS if settings.kind == "doctor-heat" else FINE_CELLS
    return DoctorDetector(_loaded(settings.vlm), cells=cells)


def score_images(
    doctor: Doctor,
    store: Store,
    blobs: Blobs,
    out: Path,
    *,
    models: Sequence[str] | None = None,
    split: Split | None = None,
    limit: int | None = None,
    batch: int = 16,
) -> dict[str, int]:
    """Score images of a store into a table that `sdg select` reads. Again: what is missing.

    Args:
        doctor: Who is asked.
        store: The images'.
        blobs: Its blobs.
        out: A JSON-lines file: `image_id`, `score` (the mean of all four, null where one is missing), each score,
            `burden` of its maps' regions, and the reason where something is missing.
        models: Only images of these generators.
        split: Only images of this split.
        limit: Only so many images.
        batch: Images that are asked about between two lines of the file.

    Returns:
        How many images have a row now, and how many of those no score.

    Raises:
        InputError: The file cannot be written, or holds another doctor's scores.
    """
    done = earlier_rows(out, "image_id", maker="doctor", name=doctor.name, what="scores")
    with store.read() as tx:
        chosen = list(images.page(tx, models=models, split=split))[:limit]
        texts = {key: prompt.text for key, prompt in prompts.by_ids(tx, [image.prompt_id for image in chosen]).items()}
    waiting = [image for image in chosen if image.id not in done]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            Progress("asking", unit="images").running(len(waiting)) as progress,
            out.open("a", encoding="utf-8") as file,
        ):
            for start in range(0, len(waiting), batch):
                part = waiting[start : start + batch]
                pictures = [(decode_image(blobs.get(image.blob)), texts[image.prompt_id]) for image in part]
                for image, reading in zip(part, doctor.read(pictures), strict=True):
                    row = _score_row(image.id, doctor.name, reading)
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    done[image.id] = row
                file.flush()
                progress.advance(len(part))
    except OSError as error:
        raise InputError(f"cannot write there ({error.strerror})", item=str(out)) from error
    return {"images": len(done), "without a score": sum(row["score"] is None for row in done.values())}


def _score_row(image: str, name: str, reading: HeatmapReading) -> dict[str, Any]:
    burden = None if reading.defects is None else sum(defect.importance for defect in reading.defects) / 100
    scores = {key: reading.scores.get(key) for key in NAMES}
    return {
        "image_id": image, "doctor": name, "score": mean_score(reading.scores).value, **scores, "burden": burden,
        "reason": reading.reason,
    }  # fmt: skip


def _asked(generated: Sequence[GeneratedImage]) -> list[tuple[Image.Image, str]]:
    return [(Image.fromarray(image.pixels), image.prompt) for image in generated]


def _loaded(vlm: VlmSettings) -> Doctor:
    return Doctor.load(_named(vlm.model), device=vlm.device, max_tokens=vlm.max_tokens, batch_size=vlm.batch_size)


def _named(model: str) -> str:
    if not model:
        raise InputError("no doctor is named", hint="Set its folder as the model's.")
    return model
