"""The mini detector's tokenizer: few tokens for what it says often, bytes for everything else.

Every whole number from 0 to 1000 is one token (boxes and importance), every word of the mini world is one, and so is
every sentence part that never varies: what the model has to decide are numbers, names and which sentence, not letters.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from annotate.machine.template_enricher import expanded, trace_of
from schemas.defect import Attribute, Defect, DefectType, Subtype
from schemas.records import AnnotatedDefect, Origin
from sdg_data.mini.inject import sample_corrupted
from sdg_data.mini.world import BACKGROUNDS, COLOURS, COUNT_WORDS, SHAPES, sample_prompts

SPECIAL: Final = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT: Final = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.content is string %}{{- m.content }}{%- else %}"
    "{%- for c in m.content %}{%- if c.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- else %}{{- c.text }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
NUMBERS: Final = tuple(range(1001))
LABELS: Final = tuple(f'],"label":"{kind}","description":"' for kind in DefectType)
FORM: Final = (
    "<think>",
    "</think>",
    "<answer>[]</answer>",
    '<answer>[{"box_2d":[',
    *LABELS,
    '","importance":',
    *(f',"subtype":"{subtype}"' for subtype in Subtype),
    *(f',"attribute":"{attribute}"' for attribute in Attribute),
    '}, {"box_2d":[',
    "}]</answer>",
)
"""The parts of an answer's JSON as `schemas.answer.parse.render_answer` writes it."""
_PLACES = ("upper", "middle", "lower", "left", "right", "centre")
_VARYING = (
    *(word for name in BACKGROUNDS for word in name.split()),
    *COLOURS,
    *(form for shape in SHAPES for form in (f"{shape}s", shape)),
    *("small", "large", "one", *COUNT_WORDS.values()),
    *(str(subtype).replace("-", " ") for subtype in Subtype),
    *_PLACES,
    *("above", "below", "wide", "tall", "compact"),
    *("a tiny part of it", "a small part of it", "a good part of it", "much of it", "nearly all of it"),
)
_FREQUENT = 10


def full_form(defects: Iterable[Defect]) -> tuple[list[Defect], str]:
    """The defects with expanded reasons, and the trace, as the mini profile's enricher writes them."""
    people = [
        AnnotatedDefect(defect=defect, region_id=str(index), origin=Origin.MANUAL)
        for index, defect in enumerate(defects)
    ]
    return [expanded(defect) for defect in people], trace_of(people)


def sentences(count: int = 1500, seed: int = 5) -> Iterator[str]:
    """Reasons, short and expanded, and traces of random corrupted scenes."""
    rng = random.Random(seed)
    yield from [trace_of([])] * (count // 10)
    for _ in range(count):
        defects = sample_corrupted(rng).defects
        longer, trace = full_form(defects)
        yield trace
        for defect in (*defects, *longer):
            yield defect.reason


def fixed_parts(texts: Iterable[str]) -> list[str]:
    """The texts between the varying words that are frequent, such as `the outline of the` and ` is broken`."""
    alternatives = "|".join(re.escape(word) for word in sorted(_VARYING, key=len, reverse=True))
    varying = re.compile(rf" ?\b(?:{alternatives})\b|\d+")
    counts = Counter(part for text in texts for part in varying.split(text))
    # a single word stays with the merges: as an added token it would also be found inside longer words
    return sorted(part for part, number in counts.items() if number >= _FREQUENT and " " in part.strip())


def make_tokenizer() -> Any:
    """A `Qwen2Tokenizer` with the chat template `CHAT`, the same on every machine."""
    from transformers import Qwen2Tokenizer

    texts = list(sentences())
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    learner.train_from_iterator([*sample_prompts(2000, seed=3), *texts], trainer)
    model = json.loads(learner.to_str())["model"]
    vocabulary = dict(model["vocab"])
    for token in SPECIAL:
        vocabulary[token] = len(vocabulary)
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[tuple(pair) for pair in model["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
    )
    phrases = [f" {phrase}" for phrase in _VARYING if " " in phrase]
    added = dict.fromkeys([*FORM, *fixed_parts(texts), *phrases, *(str(number) for number in NUMBERS)])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    tokenizer.chat_template = CHAT
    tokenizer.model_max_length = 1024
    return tokenizer
