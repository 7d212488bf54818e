"""A batch of answers from a loaded Qwen-VL: the same code for prelabelling and for evaluation while training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from annotate.vlm.contract import Answer, Question
from schemas.base import without_lone_surrogates
from sdg_data.chat_marks import without_marks
from sdg_data.picture import decode_image


def generate_answers(
    model: Any, processor: Any, questions: Sequence[Question], *, max_tokens: int, temperature: float = 0.0
) -> list[Answer]:
    """Answer a batch of questions, greedily at temperature 0.

    Args:
        model: The loaded model.
        processor: Its processor, which pads on the left.
        questions: The questions.
        max_tokens: Bound of each answer.
        temperature: Of sampling.

    Returns:
        One answer for each question, in the same order.
    """
    import torch

    texts = [
        processor.apply_chat_template(messages(question), tokenize=False, add_generation_prompt=True)
        for question in questions
    ]
    images = [decode_image(question.image.data) for question in questions]
    inputs = processor(text=texts, images=images, padding=True, return_tensors="pt").to(model.device)
    limits = [min(question.max_tokens or 2**31, max_tokens) for question in questions]
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature}
    tokenizer = processor.tokenizer
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=max(limits), pad_token_id=tokenizer.pad_token_id, **sampling)
    prompt_length = inputs["input_ids"].shape[1]
    read = inputs["attention_mask"].sum(dim=1).tolist()
    ends = ending_tokens(model, tokenizer)
    answers = []
    for row, limit, tokens_in in zip(output[:, prompt_length:].tolist(), limits, read, strict=True):
        stop = next((index for index, token in enumerate(row) if token in ends), None)
        written = row[:limit] if stop is None else row[: min(stop, limit)]
        whole = stop is not None and stop <= limit
        answers.append(
            Answer(
                tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False),
                "stop" if whole else "length",
                tokens_in,
                len(written),
            )
        )
    return answers


@contextmanager
def padding_on_the_left(tokenizer: Any) -> Iterator[None]:
    """Let a tokenizer pad on the left, as generation wants it; where training pads, it pads again afterwards."""
    side = tokenizer.padding_side
    tokenizer.padding_side = "left"
    try:
        yield
    finally:
        tokenizer.padding_side = side


def messages(question: Question) -> list[dict[str, Any]]:
    """A question's conversation in the form that chat templates take, without special tokens in its texts."""
    parts = [{"type": "image"}, {"type": "text", "text": without_marks(without_lone_surrogates(question.text))}]
    first = {"role": "user", "content": parts if question.image_first else parts[::-1]}
    later = [
        {"role": turn.role, "content": [{"type": "text", "text": without_marks(without_lone_surrogates(turn.text))}]}
        for turn in question.more
    ]
    return [first, *later]


def ending_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids of the tokens that end an answer, from the model's generation settings and the tokenizer."""
    stated = model.generation_config.eos_token_id
    ends = stated if isinstance(stated, list) else [stated]
    return frozenset(token for token in (*ends, tokenizer.eos_token_id) if token is not None)
