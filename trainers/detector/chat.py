"""A sample in the form of a conversation: the versioned question, the fitted image, the answer's text, their tokens.

Training, rollouts and evaluation all ask through `Chat`, in the same form as `annotate.vlm` when it prelabels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from annotate.vlm.contract import EncodedImage, Question
from annotate.vlm.families import codec_of, fitted_size
from annotate.vlm.generating import messages
from schemas.answer.parse import render_answer
from schemas.defect import Defect
from schemas.geometry import ImageSize
from sdg_data.chat_marks import without_marks
from sdg_data.picture import decode_image
from sdg_data.prompt_templates import Template

Planned = tuple[str, ImageSize, tuple[Defect, ...], str | None]
"""Prompt, image size, defects, trace."""


@dataclass(frozen=True)
class Chat:
    """How a model is asked.

    `family` is how it writes boxes, `max_side` the most pixels of an image's side, `trace` whether answers think first.
    """

    processor: Any
    template: Template
    family: str
    max_side: int
    trace: bool

    def question(self, prompt: str, size: ImageSize, data: bytes = b"") -> Question:
        """The question about an image.

        Args:
            prompt: the image's.
            size: the image's own.
            data: PNG bytes of the fitted image, where they are needed.

        Returns:
            The template's question.
        """
        fitted = self.fitted(size)
        return Question(
            text=self.template.question(prompt, codec_of(self.family, fitted)),
            image=EncodedImage(data, "image/png", fitted),
            prompt=prompt,
            image_first=self.template.image_first,
        )

    def fitted(self, size: ImageSize) -> ImageSize:
        """The size in which the model is shown an image of the given size.

        `ValueError` is raised for a shape that the model does not take.

        Args:
            size: the image's own size in pixels.

        Returns:
            The size in pixels after the model's resizing.
        """
        return fitted_size(size, self.family, self.max_side)

    def takes(self, size: ImageSize) -> bool:
        """Whether the model takes an image of such a shape."""
        try:
            self.fitted(size)
        except ValueError:
            return False
        return True

    def picture(self, data: bytes) -> Image.Image:
        """Decode an image and resize it as the model is shown it.

        `ValueError` is raised where the bytes are no image, or one of a shape that the model does not take.

        Args:
            data: the bytes of an image file.

        Returns:
            The image, RGB, of the size that `fitted` gives.
        """
        image = decode_image(data)
        fitted = self.fitted(ImageSize(width=image.width, height=image.height))
        if (image.width, image.height) != (fitted.width, fitted.height):
            image = image.resize((fitted.width, fitted.height), Image.Resampling.BICUBIC)
        return image

    def png(self, data: bytes) -> bytes:
        """The image as `picture` resizes it, as the bytes of a PNG file."""
        buffer = io.BytesIO()
        self.picture(data).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def asked(self, prompt: str, size: ImageSize) -> str:
        """The question in the model's chat form, up to where its answer begins."""
        conversation = messages(self.question(prompt, size))
        text: str = self.processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        return text

    def answer(self, defects: Sequence[Defect], trace: str | None, size: ImageSize) -> str:
        """The answer's text, without the token that ends it and without any other special token."""
        codec = codec_of(self.family, self.fitted(size))
        return without_marks(render_answer(defects, trace if self.trace else None, codec=codec))

    @property
    def end(self) -> str:
        """The text of the token that ends an answer."""
        return str(self.processor.tokenizer.eos_token)

    def image_tokens(self, size: ImageSize) -> int:
        """How many tokens an image of that size takes in a question."""
        fitted, images = self.fitted(size), self.processor.image_processor
        patches: int = images.get_number_of_image_patches(fitted.height, fitted.width, {})
        return patches // int(images.merge_size) ** 2

    def lengths(self, rows: Sequence[Planned]) -> list[int]:
        """Tokens of question, image, answer and end of each row; the images' bytes are not needed."""
        return self._lengths(
            [
                (self.asked(prompt, size) + self.answer(defects, trace, size) + self.end, size)
                for prompt, size, defects, trace in rows
            ]
        )

    def question_lengths(self, rows: Sequence[tuple[str, ImageSize]]) -> list[int]:
        """Tokens of question and image, of each (prompt, image size)."""
        return self._lengths([(self.asked(prompt, size), size) for prompt, size in rows])

    def _lengths(self, texts: Sequence[tuple[str, ImageSize]]) -> list[int]:
        if not texts:
            return []
        ids = self.processor.tokenizer([text for text, _ in texts], add_special_tokens=False)["input_ids"]
        # The picture's one placeholder stands in the text.
        return [len(tokens) - 1 + self.image_tokens(size) for tokens, (_, size) in zip(ids, texts, strict=True)]
