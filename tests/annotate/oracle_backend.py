"""The mini world's oracle as a backend: the right answer, by classical vision."""

from __future__ import annotations

from annotate.vlm.contract import Answer, AskError, EncodedImage, Identity, Question
from annotate.vlm.families import fit_image
from schemas.answer.parse import render_answer
from schemas.codecs import AnswerCodec, Qwen3VL
from schemas.geometry import ImageSize
from sdg_data.mini.oracle import find_defects
from sdg_data.picture import decode_pixels


class OracleBackend:
    """Finds an image's defects from its pixels and its prompt."""

    local = True

    def __init__(self) -> None:
        """Made in code, never by settings."""
        self.identity = Identity("oracle", "oracle", "1", {"backend": "oracle"})

    def codec(self, size: ImageSize) -> AnswerCodec:
        """The codec of Qwen3-VL, in whose form the oracle's answers are written."""
        return Qwen3VL()

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """Encode an image of at most 4,096 pixels on its longer side."""
        return fit_image(data, media_type, family="qwen3-vl", max_side=4096)

    async def ask(self, question: Question) -> Answer:
        """Answer with the defects that the mini world's oracle finds, without a reasoning.

        Raises:
            AskError: `bad-request`, for an image or prompt that is not of the mini world.
        """
        try:
            defects = find_defects(decode_pixels(question.image.data), question.prompt)
        except ValueError as error:
            raise AskError("bad-request", str(error)) from error
        return Answer(render_answer(defects, None))

    async def close(self) -> None:
        """Do nothing: the oracle holds no connection and no model."""
