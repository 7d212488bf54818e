"""Batches for supervised fine-tuning: their order, a pure function of (seed, epoch), and their tensors.

Answers are neither cut nor packed: a batch holds samples of like length, padded on the right. The loss sees trace and
answer only. The order of an epoch is cut into whole global batches (the few samples of a last incomplete one wait for
the next epoch, which draws others), so one process and several train on the same batches.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch.utils.data import Dataset, Sampler

from exports.read.shard_table import ShardTable
from sdg_data.errors import InputError
from trainers.detector.chat import Chat
from trainers.detector.data import TrainingRow
from trainers.detector.jitter import jitter_defects

IGNORED: Final = -100
_GROUP: Final = 50
"""Batches of like length are formed within so many batches' worth of shuffled samples."""


class TrainingItem(NamedTuple):
    """A row with its image's bytes and the epoch that it is drawn in, which the jitter depends on."""

    row: TrainingRow
    image: bytes
    epoch: int


class EpochItems(Dataset[TrainingItem]):
    """Rows by number. A number is `epoch · len(rows) + row`, so that worker processes know the epoch."""

    def __init__(self, table: ShardTable, rows: Sequence[TrainingRow]) -> None:
        self.table, self.rows = table, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> TrainingItem:
        epoch, index = divmod(number, len(self.rows))
        row = self.rows[index]
        return TrainingItem(row, self.table.image(row.place), epoch)


class EpochSampler(Sampler[int]):
    """Numbers for `EpochItems`: every epoch another shuffle, grouped by length into whole batches of `batch`.

    `epoch` is asked when an iteration begins.
    """

    def __init__(self, lengths: Sequence[int], *, batch: int, seed: int, epoch: Callable[[], int]) -> None:
        self._lengths, self._batch, self._seed, self._epoch = lengths, batch, seed, epoch

    def __len__(self) -> int:
        return len(self._lengths) // self._batch * self._batch

    def __iter__(self) -> Iterator[int]:
        epoch = self._epoch()
        for index in epoch_order(self._lengths, batch=self._batch, seed=self._seed, epoch=epoch):
            yield epoch * len(self._lengths) + index


def epoch_order(lengths: Sequence[int], *, batch: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch: batches of like length, the longest batch first, the others shuffled.

    The longest comes first so that memory runs out in the first step or never.

    Args:
        lengths: tokens of each sample.
        batch: samples of a global batch.
        seed: the training's.
        epoch: from 0.

    Returns:
        Numbers of samples, of whole batches only.
    """
    rng = random.Random(f"sdg-order:{seed}:{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    order = order[: len(order) // batch * batch]
    batches = []
    for start in range(0, len(order), _GROUP * batch):
        group = sorted(order[start : start + _GROUP * batch], key=lambda index: -lengths[index])
        batches += [group[at : at + batch] for at in range(0, len(group), batch)]
    rng.shuffle(batches)
    longest = max(range(len(batches)), key=lambda at: lengths[batches[at][0]], default=0)
    if batches:
        batches[0], batches[longest] = batches[longest], batches[0]
    return [index for numbers in batches for index in numbers]


class SftCollator:
    """Makes tensors of items: input_ids, attention_mask and labels, (batch, length), and those of the images.

    Jitter happens here, by the item's epoch. An image that does not decode raises InputError.
    """

    def __init__(self, chat: Chat, *, jitter: float, seed: int) -> None:
        self._chat, self._jitter, self._seed = chat, jitter, seed

    def __call__(self, items: Sequence[TrainingItem]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Returns:
            Name of the model's argument -> tensor.
        """
        chat = self._chat
        inputs = chat.processor(
            text=[chat.asked(item.row.prompt, item.row.size) for item in items],
            images=[self._picture(item) for item in items],
            add_special_tokens=False,
        )
        answers = [self.answer(item) + chat.end for item in items]
        replies = chat.processor.tokenizer(answers, add_special_tokens=False)["input_ids"]
        batch = _padded(inputs.pop("input_ids"), replies, chat.processor.tokenizer.pad_token_id)
        kinds = inputs.pop("mm_token_type_ids", None)
        if kinds is not None:
            length = batch["input_ids"].shape[1]
            batch["mm_token_type_ids"] = torch.tensor([[*map(int, row), *[0] * (length - len(row))] for row in kinds])
        for name in ("pixel_values", "image_grid_thw"):
            batch[name] = torch.as_tensor(inputs[name])
        return batch

    def answer(self, item: TrainingItem) -> str:
        """The answer's text that the model learns, in the item's epoch."""
        row = item.row
        defects = jitter_defects(row.defects, self._jitter, seed=self._seed, epoch=item.epoch, key=row.key)
        return self._chat.answer(defects, row.trace, row.size)

    def _picture(self, item: TrainingItem) -> Any:
        try:
            return self._chat.picture(item.image)
        except ValueError as error:
            raise InputError(
                f"its image does not decode: {error}", item=item.row.key, hint="`sdg export verify` names all damage."
            ) from error


def _padded(questions: Sequence[Any], replies: Sequence[list[int]], pad: int) -> dict[str, torch.Tensor]:
    """Question and reply as one row each, padded on the right; only the reply has labels."""
    length = max(len(question) + len(reply) for question, reply in zip(questions, replies, strict=True))
    ids = torch.full((len(replies), length), pad)
    mask = torch.zeros((len(replies), length), dtype=torch.long)
    labels = torch.full((len(replies), length), IGNORED)
    for row, (question, reply) in enumerate(zip(questions, replies, strict=True)):
        start, end = len(question), len(question) + len(reply)
        ids[row, :start], ids[row, start:end] = torch.as_tensor(question), torch.tensor(reply)
        mask[row, :end] = 1
        labels[row, start:end] = torch.tensor(reply)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
