"""What the oracle says of a mini: generate on held-out prompts as the product does, and count."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from generators.adapter import Adapter
from generators.mini.corpus import held_out_prompts
from schemas.defect import DEFECT_TYPES
from sdg_data.ids import image_id, prompt_id, seed_of
from sdg_data.mini.oracle import Judgement, examine
from sdg_data.mini.render import Pixels, to_pixels
from sdg_data.sheets.draw import SheetCell


@dataclass(frozen=True)
class JudgedImage:
    """One generated image and the oracle's verdict on it."""

    prompt: str
    seed: int
    pixels: Pixels
    verdict: Judgement


@dataclass(frozen=True)
class MiniScores:
    """Shares of images and defects per image; `subtypes` counts per image, most frequent first."""

    images: int
    right: float
    clean: float
    artifacts: float
    misalignments: float
    artifact_burden: float
    misalignment_burden: float
    background_deviation: float
    subtypes: dict[str, float]
    seconds_per_image: float

    def as_dict(self) -> dict[str, object]:
        """The scores as a dictionary that can be written as JSON, by field name."""
        return asdict(self)


def generate_and_judge(adapter: Adapter, count: int) -> tuple[list[JudgedImage], MiniScores]:
    """Images of the first `count` held-out prompts, seeds derived as `sdg generate` derives them."""
    prompts = held_out_prompts(count)
    seeds = [
        seed_of(image_id(prompt_id(prompt), adapter.preset.name, "judged", 0, adapter.preset.settings))
        for prompt in prompts
    ]
    judged: list[JudgedImage] = []
    start = time.monotonic()
    for first in range(0, count, adapter.batch_size):
        chosen = slice(first, first + adapter.batch_size)
        images = adapter.generate(prompts[chosen], seeds[chosen])
        for prompt, seed, image in zip(prompts[chosen], seeds[chosen], images, strict=True):
            pixels = to_pixels(np.asarray(image, np.float32) * 255)
            judged.append(JudgedImage(prompt, seed, pixels, examine(pixels, prompt)))
    return judged, score(judged, (time.monotonic() - start) / count)


def score(judged: Sequence[JudgedImage], seconds_per_image: float) -> MiniScores:
    """Count. Burden: the sum of importance / 100 of an image's defects of a type, averaged over images."""
    count = len(judged)
    defects = [defect for each in judged for defect in each.verdict.defects]
    by_type = {kind: [defect for defect in defects if defect.type == kind] for kind in DEFECT_TYPES}
    subtypes = Counter(
        f"{defect.subtype}:{defect.attribute}" if defect.attribute else str(defect.subtype) for defect in defects
    )
    return MiniScores(
        images=count,
        right=round(sum(each.verdict.right for each in judged) / count, 4),
        clean=round(sum(each.verdict.clean for each in judged) / count, 4),
        artifacts=round(len(by_type["artifact"]) / count, 4),
        misalignments=round(len(by_type["misalignment"]) / count, 4),
        artifact_burden=round(sum(defect.importance for defect in by_type["artifact"]) / 100 / count, 4),
        misalignment_burden=round(sum(defect.importance for defect in by_type["misalignment"]) / 100 / count, 4),
        background_deviation=round(float(np.mean([each.verdict.reading.background_deviation for each in judged])), 3),
        subtypes={name: round(number / count, 4) for name, number in subtypes.most_common()},
        seconds_per_image=round(seconds_per_image, 4),
    )


def cells(judged: Sequence[JudgedImage], model: str) -> list[SheetCell]:
    """Cells of a contact sheet (`sdg_data.sheets.draw.render_sheet`) with the oracle's boxes."""
    return [
        SheetCell(
            image=Image.fromarray(each.pixels),
            prompt=each.prompt,
            model=model,
            seed=each.seed,
            defects=each.verdict.defects,
        )
        for each in judged
    ]
