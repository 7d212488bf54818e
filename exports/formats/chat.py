"""A sample as a question and its answer: the one prompt and the one answer form, for every chat format."""

from exports.files.options import ExportOptions
from schemas.answer.parse import render_answer
from schemas.codecs import Qwen3VL
from schemas.sample import Sample
from sdg_data.prompt_templates import load_template

IMAGE = "<image>"
"""Where rows of plain text show their image. A prompt that holds the word itself is written `< image>`."""

_CODEC = Qwen3VL()


def question(sample: Sample, options: ExportOptions) -> str:
    """The versioned question about this image, without a mark for the image."""
    return load_template(options.template).question(sample.prompt, _CODEC)


def answer(sample: Sample, options: ExportOptions) -> str:
    """Trace and answer; without a trace where there is none, or none is wanted."""
    return render_answer(sample.plain_defects, sample.trace if options.trace else None)


def marked(text: str) -> str:
    """A question with the image's mark in front, and no other."""
    return IMAGE + text.replace(IMAGE, "< image>")


def notes(options: ExportOptions) -> dict[str, str]:
    """What a manifest says of such rows."""
    return {
        "template": load_template(options.template).id,
        "answer": "SPEC section 2; box_2d is [x0, y0, x1, y1], thousandths of width and height",
        "trace": "kept" if options.trace else "left out",
        "paths": "relative to this folder",
    }
