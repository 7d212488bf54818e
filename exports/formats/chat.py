"""A sample as a question and its answer: the one prompt and the one answer form, for every chat format.

Trainers read marks out of the text: ms-swift and LLaMA-Factory put an image where it says `<image>`, and a tokenizer
makes one special token of `<|image_pad|>`. A prompt or a trace that holds such a mark is written with a space behind
the `<`, so that it stays the text that people read.
"""

import re

from exports.files.options import ExportOptions
from schemas.answer.parse import render_answer
from schemas.codecs import Qwen3VL
from schemas.sample import Sample
from sdg_data.prompt_templates import load_template

IMAGE = "<image>"
"""Where rows of plain text show their image."""

_MEDIA = "image|video|audio|img|bbox|box|ref|ref-object|quad|point|cot-process|start-image|object"
_CONTROL = (
    "s|bos|eos|pad|unk|mask|sep|cls|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token|eop|"
    "tool_call|tool_response|tools|fim_prefix|fim_middle|fim_suffix"
)
_MARK = re.compile(rf"<(?=[|｜]|/?(?:(?:{_MEDIA})(?:[ _-]?\w+)?|{_CONTROL})\s*/?>)", re.IGNORECASE)
"""The `<` of a mark: `<|…|>` of any name, placeholders of media (numbered ones too), tokens that delimit text."""

_CODEC = Qwen3VL()


def question(sample: Sample, options: ExportOptions) -> str:
    """The versioned question about this image, without a mark for the image."""
    return without_marks(load_template(options.template).question(sample.prompt, _CODEC))


def answer(sample: Sample, options: ExportOptions) -> str:
    """Trace and answer; without a trace where there is none, or none is wanted."""
    return without_marks(render_answer(sample.plain_defects, sample.trace if options.trace else None))


def marked(text: str) -> str:
    """A question with the image's mark in front, and no other."""
    return IMAGE + without_marks(text)


def without_marks(text: str) -> str:
    """Break up what a trainer or a tokenizer would take for a mark of its own: `<image>` becomes `< image>`."""
    return _MARK.sub("< ", text)


def notes(options: ExportOptions) -> dict[str, str]:
    """What a manifest says of such rows."""
    return {
        "template": load_template(options.template).id,
        "answer": "SPEC section 2; box_2d is [x0, y0, x1, y1], thousandths of width and height",
        "trace": "kept" if options.trace else "left out",
        "paths": "relative to this folder",
    }
