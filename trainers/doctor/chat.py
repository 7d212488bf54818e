"""A doctor's question and answer as a conversation: the detector's `Chat` with another answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.defect import Defect
from schemas.geometry import ImageSize
from sdg_data.image_scores import NAMES
from trainers.detector.chat import Chat
from trainers.doctor.form import AnswerForm, regions_of

_ANY_SCORES = dict.fromkeys(NAMES, 0.5)
"""For lengths alone: all scores are as long."""


@dataclass(frozen=True)
class DoctorChat(Chat):
    """How a doctor is asked; `form` is what its answers have."""

    form: AnswerForm = field(default_factory=AnswerForm)

    def answer(
        self,
        defects: Sequence[Defect],
        trace: str | None,
        size: ImageSize,
        scores: Mapping[str, float] | None = None,
    ) -> str:
        """The answer's text, without the token that ends it; without scores one of the same length."""
        return self.form.render(scores or _ANY_SCORES, regions_of(defects), trace)

    def map_shape(self, size: ImageSize, scale: int) -> tuple[int, int]:
        """Rows and columns of a map of an image.

        Args:
            size: The image's own.
            scale: Cells along a side of one visual token.

        Returns:
            The shape that the decoder gives.
        """
        fitted, images = self.fitted(size), self.processor.image_processor
        token = int(images.patch_size) * int(images.merge_size)
        return fitted.height // token * scale, fitted.width // token * scale
