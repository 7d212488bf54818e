"""Asking a doctor: answers of a batch, and the maps of the task tokens that it wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from annotate.vlm.contract import EncodedImage, Question
from annotate.vlm.generating import ending_tokens, messages, padding_on_the_left
from exports.read.shard_table import ShardTable
from schemas.defect import DefectType
from schemas.geometry import ImageSize
from sdg_data.metrics.heatmaps import Floats, finite_map
from trainers.detector.data import TrainingRow
from trainers.doctor.chat import DoctorChat
from trainers.doctor.form import DoctorAnswer
from trainers.doctor.model import KINDS


@dataclass(frozen=True)
class DoctorPrediction:
    """A doctor's answer about an image; a type without a task token in the answer has no map."""

    key: str
    text: str
    answer: DoctorAnswer
    maps: Mapping[DefectType, Floats | None]
    tokens: int


def ask(
    model: Any, chat: DoctorChat, pictures: Sequence[tuple[str, Image.Image, str]], *, max_tokens: int
) -> list[DoctorPrediction]:
    """Greedy answers about images, all at once.

    Args:
        model: A doctor.
        chat: How it is asked.
        pictures: (key, image as the chat fits it, question) of each.
        max_tokens: Of an answer.

    Returns:
        One prediction for each, in their order.
    """
    texts = []
    for _, image, question in pictures:
        shown = EncodedImage(b"", "image/png", ImageSize(width=image.width, height=image.height))
        conversation = messages(Question(question, shown, "", image_first=chat.template.image_first))
        texts.append(chat.processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))
    tokenizer = chat.processor.tokenizer
    images = [image for _, image, _ in pictures]
    with padding_on_the_left(tokenizer):
        inputs = chat.processor(text=texts, images=images, padding=True, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        written = model.generate(
            **inputs, max_new_tokens=max_tokens, pad_token_id=tokenizer.pad_token_id, do_sample=False,
            temperature=None, top_p=None, top_k=None,
        )  # fmt: skip
        length = inputs["input_ids"].shape[1]
        kept = until_end(written[:, length:], ending_tokens(model, tokenizer))
        maps = maps_of_answers(model, inputs, written, kept)
    predictions = []
    for row, (key, _, _) in enumerate(pictures):
        tokens = written[row, length:][kept[row]].tolist()
        text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        predictions.append(DoctorPrediction(key, text, chat.form.read(text), maps[row], len(tokens)))
    return predictions


def until_end(answers: torch.Tensor, ends: frozenset[int]) -> torch.Tensor:
    """(batch, length), bool: the tokens of answers before the first one that ends them."""
    ended = torch.zeros_like(answers, dtype=torch.bool)
    for token in ends:
        ended |= answers == token
    return ended.cumsum(dim=1) == 0


def maps_of_answers(
    model: Any, inputs: Mapping[str, torch.Tensor], written: torch.Tensor, kept: torch.Tensor
) -> list[dict[DefectType, Floats | None]]:
    """The maps that answers ask for.

    Args:
        model: A doctor.
        inputs: Of the questions, padded on the left.
        written: (batch, questions and answers).
        kept: (batch, length of the answers), which of their tokens count.

    Returns:
        For each row (H, W) by type, None where the answer has no such task token, or the decoder gave no numbers.
    """
    mask = torch.cat([inputs["attention_mask"], kept.to(inputs["attention_mask"].dtype)], dim=1)
    pad = int(model.config.text_config.pad_token_id or 0)
    whole = {
        "input_ids": written.masked_fill(mask == 0, pad),
        "attention_mask": mask,
        "pixel_values": inputs["pixel_values"],
        "image_grid_thw": inputs["image_grid_thw"],
    }
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        whole["mm_token_type_ids"] = torch.cat([kinds, kinds.new_zeros(kept.shape)], dim=1)
    maps: list[dict[DefectType, Floats | None]] = [dict.fromkeys(DefectType) for _ in written]
    for row, kind, heat in model.read_maps(**whole):
        maps[row][KINDS[kind]] = finite_map(heat.float().cpu().numpy().astype(np.float64))
    return maps


def ask_rows(
    model: Any, chat: DoctorChat, table: ShardTable, rows: Sequence[TrainingRow], *, batch: int, max_tokens: int
) -> list[DoctorPrediction]:
    """Greedy answers about rows of shards; rows of like length are asked together.

    Args:
        model: A doctor.
        chat: How it is asked.
        table: Where the rows' images are.
        rows: What is asked about.
        batch: Rows that are asked about at once.
        max_tokens: Of an answer.

    Returns:
        One prediction for each row, in their order; an image of a shape that the model does not take has an empty one.
    """
    nothing = chat.form.read("")
    predictions = {row.key: DoctorPrediction(row.key, "", nothing, dict.fromkeys(DefectType), 0) for row in rows}
    order = sorted((row for row in rows if chat.takes(row.size)), key=lambda row: (row.tokens, row.key))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        pictures = [
            (row.key, chat.picture(table.image(row.place)), chat.question(row.prompt, row.size).text) for row in part
        ]
        predictions |= {prediction.key: prediction for prediction in ask(model, chat, pictures, max_tokens=max_tokens)}
    return [predictions[row.key] for row in rows]
