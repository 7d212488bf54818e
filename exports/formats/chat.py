"""A sample as a question and its answer: the one prompt and the one answer form, for every chat format.

Trainers read marks out of the text: ms-swift and LLaMA-Factory put an image where it says `<image>`, and a tokenizer
makes one special token of `<|image_pad|>`. A prompt or a trace that holds such a mark is written with a space behind
the `<`, so that it stays the text that people read.
"""

from exports.files.options import ExportOptions
from schemas.answer.parse import render_answer
from schemas.codecs import Qwen3VL
from schemas.sample import Sample
from sdg_data.chat_marks import without_marks
from sdg_data.prompt_templates import load_template

IMAGE = "<image>"
"""Where rows of plain text show their image."""

_CODEC = Qwen3VL()


def question(sample: Sample, options: ExportOptions) -> str:
    """The versioned question about this image, without a mark for the image."""
    return without_marks(load_template(options.template).question(sample.prompt, _CODEC))


def answer(sample: Sample, options: ExportOptions) -> str:
    """The trace, where there is one and it is wanted, and the answer."""
    return without_marks(render_answer(sample.plain_defects, sample.trace if options.trace else None))


def marked(text: str) -> str:
    """A question with the image's mark in front, and no other."""
    return IMAGE + without_marks(text)


def notes(options: ExportOptions) -> dict[str, str]:
    """What the manifest notes about rows of questions and answers: the template, the form of answers, the paths."""
    return {
        "template": load_template(options.template).id,
        "answer": "SPEC section 2; box_2d is [x0, y0, x1, y1], thousandths of width and height",
        "trace": "kept" if options.trace else "left out",
        "paths": "relative to this folder",
    }
