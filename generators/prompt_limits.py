"""How much of a prompt each model reads: counted with its own tokenizer, before any image is made.

A pipeline cuts a prompt behind so many tokens, in silence. Two prompts that differ behind that give one picture, and
nobody can judge a picture by words that the model never read. So each model's file says in a `PromptWindow` how its
pipeline tokenizes a prompt, and here the prompts that do not fit are found; the store keeps them (`store.cut_prompts`).

Only long prompts are tokenized: no tokenizer makes more tokens of a text than it has bytes, but for a few.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from generators.models.contract import PromptWindow
from generators.models.presets import Preset
from generators.models.registry import model_of
from generators.plan import ModelPlan, ModelSelection
from schemas.records import Split
from sdg_data.store import cut_prompts, prompts
from sdg_data.store.connection import Store
from sdg_data.store.cut_prompts import CutPrompt
from sdg_data.store.images import Variant

log = logging.getLogger(__name__)

_PAGE: Final = 5_000
# Tokens that a tokenizer may add to those of a text's bytes: its own marks at both ends, a space in front.
_MARGIN: Final = 4


@dataclass(frozen=True)
class ReadPart:
    """What a model reads of a prompt: its first `characters`. `tokens` counts the whole prompt."""

    characters: int
    tokens: int


class PromptLimit:
    """The limit of one model, with its tokenizer."""

    def __init__(self, tokenizer: Any, window: PromptWindow) -> None:
        self._tokenizer = tokenizer
        self.window = window
        own = self._tokenizer(window.before + window.after, add_special_tokens=False)["input_ids"]
        self.safe_bytes = max(0, window.limit - len(own) - _MARGIN)
        """A text of no more bytes is read whole."""

    def read(self, texts: Sequence[str]) -> list[ReadPart | None]:
        """How much of each prompt is read; None for those that are read whole."""
        window = self.window
        if window.pieces is not None:
            parts = [self._read_pieces(window.pieces(text)) for text in texts]
            return [part if part.characters < len(text) else None for part, text in zip(parts, texts, strict=True)]
        prepared = [window.prepare(text) for text in texts]
        encoded = self._tokenizer(
            [window.before + text + window.after for text in prepared],
            truncation=True,
            max_length=window.limit,
            add_special_tokens=window.special_tokens,
            return_offsets_mapping=True,
        )
        read: list[ReadPart | None] = []
        for text, offsets in zip(prepared, encoded["offset_mapping"], strict=True):
            end = max((end for _, end in offsets), default=0) - len(window.before)
            if end >= len(text.rstrip()):
                read.append(None)
            else:
                tokens = len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
                read.append(ReadPart(max(0, end), tokens))
        return read

    def _read_pieces(self, pieces: Sequence[str]) -> ReadPart:
        """Pieces that are tokenized one by one, and cut where their tokens together reach the limit."""
        tokens = characters = 0
        for piece in pieces:
            encoded = self._tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
            offsets = encoded["offset_mapping"]
            left = self.window.limit - tokens
            if left >= len(offsets):
                characters += len(piece)
            elif left > 0:
                characters += int(offsets[left - 1][1])
            tokens += len(offsets)
        return ReadPart(characters, tokens)


def load_limit(preset: Preset, revision: str, *, online: bool = False) -> PromptLimit | None:
    """The limit of a model.

    Args:
        preset: The model.
        revision: Of its repository; a local folder needs none.
        online: Whether its tokenizer may be downloaded.

    Returns:
        None where nobody knows: the class says nothing about its tokenizer, or the tokenizer is not on this machine.
    """
    model = model_of(preset)
    if model.prompt_window is None:
        return None
    arguments: dict[str, Any] = {"subfolder": model.tokenizer, "local_files_only": not online}
    if preset.folder is None:
        arguments["revision"] = revision
    source = str(preset.folder or preset.repository)
    try:
        import transformers

        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source, **arguments)
        window = model.prompt_window(preset, tokenizer)
        return None if window is None else PromptLimit(tokenizer, window)
    except (OSError, ValueError, ImportError, LookupError, AttributeError) as error:
        log.debug("%s: its prompts cannot be counted: %s", preset.name, error)
        return None


def find_cuts(store: Store, limit: PromptLimit, variant: Variant, split: Split | None) -> Iterator[list[CutPrompt]]:
    """The prompts of the store that a model does not read to their ends, a page of prompts at a time."""
    after = ""
    while True:
        with store.read() as tx:
            page = prompts.page_longer_than(tx, limit.safe_bytes, split=split, after=after, limit=_PAGE)
        if not page:
            return
        after = page[-1].id
        read = limit.read([prompt.text for prompt in page])
        yield [
            CutPrompt(prompt.id, variant.id, min(part.characters, len(prompt.text)), part.tokens, limit.window.limit)
            for prompt, part in zip(page, read, strict=True)
            if part is not None
        ]


def count_cuts(store: Store, selection: ModelSelection, lines: Sequence[ModelPlan], *, record: bool) -> list[ModelPlan]:
    """The lines of a plan, each with its number of cut prompts.

    Args:
        store: Where the prompts are.
        selection: The models, and the split of the prompts.
        lines: A line for each model.
        record: Whether to write the cut prompts down, which is done before images of them are made. The tokenizer of a
            model that is not on this machine yet is then downloaded, as the rest of it will be.
    """
    counted = []
    for line, preset, variant in zip(lines, selection.presets, selection.variants, strict=True):
        limit = load_limit(preset, variant.revision, online=record)
        if limit is None:
            counted.append(line)
            continue
        number = 0
        for cuts in find_cuts(store, limit, variant, selection.wanted.split):
            number += len(cuts)
            if record and cuts:
                with store.write() as tx:
                    cut_prompts.insert(tx, cuts)
        counted.append(replace(line, cut_prompts=number, token_limit=limit.window.limit))
    return counted
