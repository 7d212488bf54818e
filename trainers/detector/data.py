"""From shards to what a detector is trained on: which samples, how long each is, and which are left out and why.

The train split alone is read. A part of its prompts, chosen by their hash, is held out for choosing the best
checkpoint; all images of a prompt are on one side. A sample that is too long is left out whole and counted: cutting it
would teach an answer that stops half-way. One that lacks the trace which is to be trained is left out too.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from exports.read.shard_table import ShardTable
from schemas.defect import Defect
from schemas.geometry import ImageSize
from schemas.records import Split
from schemas.sample import Sample
from sdg_data.errors import InputError
from sdg_data.progress import Progress
from trainers.detector.chat import Chat

log = logging.getLogger(__name__)

TOO_LONG: Final = "too-long"
NO_TRACE: Final = "no-trace"
BAD_SHAPE: Final = "bad-shape"
"""The model takes no image of such a shape."""
_PAGE: Final = 256


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A sample without its image.

    `place` is its number in the table, `tokens` the length of question, image and answer.
    """

    place: int
    key: str
    prompt_id: str
    prompt: str
    model: str
    size: ImageSize
    defects: tuple[Defect, ...]
    trace: str | None
    tokens: int


@dataclass
class TrainingData:
    """What is trained and what is held out, in stored order.

    `dropped`: reason -> keys of the samples that would have been trained.
    """

    table: ShardTable
    train: list[TrainingRow]
    held_out: list[TrainingRow]
    dropped: dict[str, list[str]] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """What is trained, and what was left out and why, as JSON for logs and `run.json`."""
        tokens = sorted(row.tokens for row in self.train)
        return {
            "train": len(self.train),
            "held_out": len(self.held_out),
            "dropped": {reason: len(keys) for reason, keys in sorted(self.dropped.items())},
            "tokens": {
                "mean": round(sum(tokens) / len(tokens), 1),
                "median": tokens[len(tokens) // 2],
                "max": tokens[-1],
            },
            "fingerprint": self.table.fingerprint(),
        }


def read_training_data(
    source: str | Path | Sequence[str | Path],
    chat: Chat,
    *,
    max_tokens: int,
    held_out: float = 0.0,
    seed: int = 0,
    limit: int | None = None,
    questions_only: bool = False,
) -> TrainingData:
    """Read the train split of an export.

    Args:
        source: shards, as `ShardTable` takes them.
        chat: how the model is asked, which decides how long a sample is.
        max_tokens: longer samples are left out.
        held_out: share of the prompts that is held out.
        seed: of the choice of these prompts.
        limit: only so many samples, for a trial.
        questions_only: for reinforcement learning, where the model writes the answers: the question's tokens alone
            count, and no trace is needed.

    Returns:
        The samples without their images.

    Raises:
        InputError: nothing is left to train on.
    """
    table = ShardTable(source, split=Split.TRAIN)
    data = TrainingData(table, [], [])
    count = len(table) if limit is None else min(limit, len(table))
    with Progress("reading samples", unit="samples").running(count) as progress:
        for page in _pages(table, count):
            taken = [(place, sample) for place, sample in page if chat.takes(_size(sample))]
            if len(taken) < len(page):
                keys = data.dropped.setdefault(BAD_SHAPE, [])
                keys += [sample.key for _, sample in page if not chat.takes(_size(sample))]
            for row in _planned(taken, chat, questions_only):
                if is_held_out(row.prompt_id, held_out, seed):
                    data.held_out.append(row)
                elif chat.trace and row.trace is None and not questions_only:
                    data.dropped.setdefault(NO_TRACE, []).append(row.key)
                elif row.tokens > max_tokens:
                    data.dropped.setdefault(TOO_LONG, []).append(row.key)
                else:
                    data.train.append(row)
            progress.advance(len(page))
    for reason, keys in data.dropped.items():
        log.warning("left out, %s: %d of %d samples, such as %s", reason, len(keys), count, ", ".join(keys[:3]))
    if not data.train:
        raise InputError(
            "no sample is left to train on" + "".join(f"; {reason}: {len(k)}" for reason, k in data.dropped.items()),
            item=str(source),
            hint="Without traces in the export: `sdg enrich run` writes them, or train with --no-trace."
            if NO_TRACE in data.dropped
            else None,
        )
    return data


def is_held_out(prompt_id: str, share: float, seed: int = 0) -> bool:
    """Whether the images of a train prompt are held out: a pure function of the prompt's id and the seed."""
    digest = hashlib.sha256(f"sdg-held-out:{seed}:{prompt_id}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def _pages(table: ShardTable, count: int) -> Iterator[list[tuple[int, Sample]]]:
    for start in range(0, count, _PAGE):
        yield [(place, table.sample(place)) for place in range(start, min(start + _PAGE, count))]


def _size(sample: Sample) -> ImageSize:
    return ImageSize(width=sample.width, height=sample.height)


def _planned(page: list[tuple[int, Sample]], chat: Chat, questions_only: bool) -> Iterator[TrainingRow]:
    sizes = [_size(sample) for _, sample in page]
    if questions_only:
        lengths = chat.question_lengths([(sample.prompt, size) for (_, sample), size in zip(page, sizes, strict=True)])
    else:
        lengths = chat.lengths(
            [
                (sample.prompt, size, sample.plain_defects, sample.trace)
                for (_, sample), size in zip(page, sizes, strict=True)
            ]
        )
    for (place, sample), size, tokens in zip(page, sizes, lengths, strict=True):
        yield TrainingRow(
            place, sample.key, sample.prompt_id, sample.prompt, sample.model, size, sample.plain_defects, sample.trace,
            tokens,
        )  # fmt: skip
