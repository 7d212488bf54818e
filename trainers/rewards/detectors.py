"""Detectors of defects: any model that `annotate.vlm` can ask, here or behind `sdg serve detector`.

Only an answer in the strict form counts. An answer that needs a repair, was cut off or refused counts as missing: a
repair may drop the box that was cut off, and a box that is missing raises the reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from annotate.machine.prelabel import ask_about
from annotate.vlm.contract import Answer, Backend, EncodedImage, Question
from generators.images import GeneratedImage
from schemas.answer.parse import Outcome, parse_answer
from sdg_data.prompt_templates import Template
from trainers.rewards.contract import Detection, Detector
from trainers.rewards.settings import DetectorSettings, check_address
from trainers.rewards.vlm_client import VlmClient, deadline_of


class VlmDetector(VlmClient[Detection]):
    """A detector behind a backend, asked with the question that it was trained with."""

    kind = "detector"

    def __init__(self, backend: Backend, template: Template, **options: Any) -> None:
        """Prepare a detector; `options` are those of `VlmClient`."""
        super().__init__(backend, **options)
        self._template = template

    async def detect(self, images: Sequence[GeneratedImage]) -> list[Detection]:
        """Ask the vision-language model about each image; where an answer fails or is unreadable, `defects` is None."""
        return await self.ask_all(images)

    def question(self, image: GeneratedImage, encoded: EncodedImage) -> Question:
        """The template's question about the image's prompt."""
        return ask_about(self._backend, self._template, image.prompt, encoded)

    def read(self, answer: Answer, encoded: EncodedImage) -> Detection:
        """The defects of an answer in the strict form; of any other answer none, with the reason."""
        parsed = parse_answer(answer.text, codec=self._backend.codec(encoded.size), hit_length=answer.hit_length)
        if parsed.outcome is not Outcome.PARSED or parsed.defects is None:
            return self.missing(f"malformed: {parsed.reason or 'needs repair'}")
        return Detection(parsed.defects)

    def missing(self, reason: str) -> Detection:
        """A detection whose `defects` is None, with the reason for the missing answer."""
        return Detection(None, reason)


def make_vlm_detector(settings: DetectorSettings) -> Detector:
    """Make the detector whose backend and model the settings name.

    `ConfigError` is raised for an unknown backend, `ModelError` where the model does not load.

    Args:
        settings: the detector's; `vlm` names the backend and the model.

    Returns:
        The detector.
    """
    from annotate.vlm.registry import make_backend, template_for

    check_address(settings.vlm, "detector")
    backend = make_backend(settings.vlm)
    return VlmDetector(
        backend,
        template_for(backend, settings.vlm),
        concurrency=1024 if backend.local else settings.vlm.concurrency,
        **deadline_of(backend, settings.vlm),
    )
