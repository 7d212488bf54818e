"""A picture of a doctor's answers: each image with its true maps and the maps that the doctor drew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from exports.read.shard_table import ShardTable
from sdg_data.metrics.heatmaps import Floats
from trainers.detector.data import TrainingRow
from trainers.doctor.asking import DoctorPrediction
from trainers.doctor.chat import DoctorChat
from trainers.doctor.evaluation import DoctorTruth
from trainers.doctor.model import KINDS

_SIDE: Final = 128
_TITLES: Final = ("image", "misalignment", "drawn", "artifact", "drawn")


def draw_maps(
    chat: DoctorChat,
    table: ShardTable,
    rows: Sequence[TrainingRow],
    truths: Sequence[DoctorTruth],
    predictions: Sequence[DoctorPrediction],
) -> Image.Image:
    """A row for each image: itself, then for each type the true map and the one that was drawn (grey where none was).

    Args:
        chat: Which fits the images.
        table: Where the images are.
        rows: Which images.
        truths: What is true of them.
        predictions: The doctor's answers.

    Returns:
        The picture.
    """
    sheet = Image.new("RGB", (_SIDE * len(_TITLES), 14 + _SIDE * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(_TITLES):
        pen.text((column * _SIDE + 4, 1), title, fill="black")
    for number, (row, truth, prediction) in enumerate(zip(rows, truths, predictions, strict=True)):
        cells = [chat.picture(table.image(row.place)).resize((_SIDE, _SIDE))]
        for kind in KINDS:
            cells += [_grey(truth.maps[kind]), _grey(prediction.maps[kind])]
        for column, cell in enumerate(cells):
            sheet.paste(cell, (column * _SIDE, 14 + number * _SIDE))
    return sheet


def _grey(heat: Floats | None) -> Image.Image:
    if heat is None:
        return Image.new("RGB", (_SIDE, _SIDE), "lightgrey")
    grey = Image.fromarray(np.rint(heat.clip(0, 1) * 255).astype(np.uint8))
    return grey.resize((_SIDE, _SIDE), Image.Resampling.NEAREST).convert("RGB")
