"""What one round edits: which defects, where the image may change, and what the editor is told and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

from generators.editors.contract import Mask, Pixels
from generators.editors.presets import EditorPreset
from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from sdg_data.ids import canonical_json
from trainers.refinement import masks
from trainers.refinement.instructions import InstructionTemplate
from trainers.refinement.settings import RefineSettings

_RED: Final = (255, 0, 0)
_BOX_LINE: Final = 3


@dataclass(frozen=True)
class EditTask:
    """What one round edits, and where.

    Attributes:
        targets: The defects that are edited away.
        mask: Where the image may change: (height, width) from 0 to 1.
        described: What the mask is made from, as canonical JSON.
        references: Pictures that stand beside the image.
        instruction: What the editor is told.
        core: The mask of the defects alone; None where everything is edited at once.
    """

    targets: tuple[Defect, ...]
    mask: Mask
    described: str
    references: tuple[Pixels, ...]
    instruction: str
    core: Mask | None = None


@dataclass(frozen=True)
class EditPlanner:
    """Chooses what the next round edits, by the settings of a run."""

    settings: RefineSettings
    preset: EditorPreset
    template: InstructionTemplate

    def task(self, pixels: Pixels, prompt: str, left: Sequence[Defect], refused: Sequence[Defect]) -> EditTask:
        """The most important defect, those not refused before first, and whose masks overlap with its mask.

        Args:
            pixels: The image that is edited.
            prompt: Its prompt.
            left: The defects that are not edited yet; all of them, where the arm edits everything at once.
            refused: Those of which an edit was refused.

        Returns:
            What to edit.
        """
        size = (pixels.shape[1], pixels.shape[0])
        arm = self.settings.of_arm
        if not arm.one_by_one:
            targets = tuple(sorted(left, key=_order))
            mask, described = self._all_at_once(size, targets)
            references = _references(arm.shown, pixels, targets)
            return EditTask(targets, mask, canonical_json(described), references, self.template.fill(prompt, targets))
        ordered = sorted(left, key=lambda defect: (_was_refused(defect, refused), *_order(defect)))
        first = self._region(ordered[0].box, size)
        targets = (ordered[0],)
        if self.settings.cluster:
            targets = tuple(defect for defect in ordered if _overlap(self._region(defect.box, size), first))
        boxes = [defect.box for defect in targets]
        mask, described = self._around(boxes, size)
        core = masks.box_mask(boxes, size, cell=1, cells=0, feather=0)
        return EditTask(targets, mask, canonical_json(described), (), self.template.fill(prompt, targets), core)

    def _all_at_once(self, size: tuple[int, int], targets: Sequence[Defect]) -> tuple[Mask, dict[str, Any]]:
        """The mask of an arm that edits everything at once: an editor that takes masks is shown the feedback in it."""
        shown, feather = self.settings.of_arm.shown, self.settings.feather
        if not shown or not self.preset.masked:
            return masks.whole_mask(size), masks.described("whole", [(0, 0, *size)])
        boxes = [defect.box for defect in targets]
        if shown == "heatmaps":
            regions = [masks.pixel_region(box, size, 1, 0) for box in boxes]
            return masks.heat_mask(targets, size, feather=feather), masks.described("heat", regions, feather=feather)
        return self._around(boxes, size)

    def _around(self, boxes: Sequence[Box], size: tuple[int, int]) -> tuple[Mask, dict[str, Any]]:
        cell, cells, feather = self.preset.cell, self.settings.cells, self.settings.feather
        mask = masks.box_mask(boxes, size, cell=cell, cells=cells, feather=feather)
        regions = [self._region(box, size) for box in boxes]
        return mask, masks.described("boxes", regions, cell=cell, cells=cells, feather=feather)

    def _region(self, box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
        return masks.pixel_region(box, size, self.preset.cell, self.settings.cells)


def _order(defect: Defect) -> tuple[int, int, int]:
    """The most important first; equal ones from top to bottom and left to right."""
    return -defect.importance, defect.box.y0, defect.box.x0


def _was_refused(defect: Defect, refused: Sequence[Defect]) -> bool:
    """Whether an edit of the same place and type was refused before."""
    return any(defect.type is other.type and defect.box.iou(other.box) >= 0.5 for other in refused)


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _references(shown: str, pixels: Pixels, defects: Sequence[Defect]) -> tuple[Pixels, ...]:
    if shown == "boxes":
        return (boxed_copy(pixels, defects),)
    if shown == "heatmaps":
        size = (pixels.shape[1], pixels.shape[0])
        return tuple(masks.heat([defect for defect in defects if defect.type is kind], size) for kind in DefectType)
    return ()


def boxed_copy(pixels: Pixels, defects: Sequence[Defect]) -> Pixels:
    """A copy with a red outline of three pixels around each defect, as the paper draws it."""
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    for defect in defects:
        left, top, right, bottom = masks.pixel_region(defect.box, picture.size, 1, 0)
        pen.rectangle((left, top, right - 1, bottom - 1), outline=_RED, width=_BOX_LINE)
    return np.asarray(picture)
