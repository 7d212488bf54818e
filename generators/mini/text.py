"""Tokenizers and text encoders of the minis, of the real classes.

A text encoder is trained before its transformer and then frozen, as in the real models. Its task is to read:
from the hidden state at each noun, say which group it is and how it looks; from the last token, say everything.
Without that, colours bleed between objects for as long as a CPU training lasts.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional

from sdg_data.mini.schedule import warmup_cosine
from sdg_data.mini.world import (
    BACKGROUNDS,
    COLOURS,
    COUNT_WORDS,
    RADII,
    SHAPES,
    Relation,
    Scene,
    parse_prompt,
    sample_prompts,
)

logger = logging.getLogger(__name__)

CHAT_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen's special tokens that the pipelines name."""
MISTRAL_TOKENS = ("<unk>", "<s>", "</s>", "<pad>", "[INST]", "[/INST]", "[IMG]")
QWEN_CHAT = (
    "{%- for m in messages %}{{- m.content if m.content is string else m.content[-1].text }}"
    "{{- '<|im_end|>' }}{%- endfor %}"
)
"""The minis' chat template keeps the user's words alone: a template's fixed words would be paid for in every image."""
MISTRAL_CHAT = (
    "{%- for m in messages %}{%- if m.role == 'user' %}{{- '[INST]' }}"
    "{%- for c in m.content %}{{- c.text }}{%- endfor %}{{- '[/INST]' }}{%- endif %}{%- endfor %}"
)


def _sentences(extra: Sequence[str]) -> list[str]:
    # the words of the fixed templates weigh as much as prompts, so that they become single tokens too
    return sample_prompts(3000, seed=3) + list(extra) * 50


def _byte_bpe(extra: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sentences(extra), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return dict(model["vocab"]), [tuple(pair) for pair in model["merges"]]


def qwen_tokenizer(extra: Sequence[str] = ()) -> Any:
    """A `Qwen2Tokenizer` with the world's words as single tokens."""
    from transformers import Qwen2Tokenizer

    vocab, merges = _byte_bpe(extra)
    for token in CHAT_TOKENS:
        vocab[token] = len(vocab)
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=list(CHAT_TOKENS),
    )
    tokenizer.chat_template = QWEN_CHAT
    tokenizer.model_max_length = 512
    tokenizer.padding_side = "right"
    return tokenizer


def mistral_tokenizer() -> Any:
    """Make a small byte-level BPE tokenizer that has the chat markers of FLUX.2's text encoder."""
    from transformers import PreTrainedTokenizerFast

    vocab, merges = _byte_bpe(())
    for token in MISTRAL_TOKENS:
        vocab[token] = len(vocab)
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=list(MISTRAL_TOKENS[4:]),
        padding_side="right",
        model_max_length=512,
    )
    tokenizer.chat_template = MISTRAL_CHAT
    return tokenizer


def gemma_tokenizer() -> Any:
    """Train a small `GemmaTokenizer` on the mini world's sentences; unknown characters fall back to bytes."""
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=720, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(_sentences(()), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return GemmaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], model_max_length=512)


_SIZES = tuple(RADII)
_GROUP_FACTS = (3, len(COUNT_WORDS) + 1, len(_SIZES), len(COLOURS), len(SHAPES))
"""Classes of a group's facts: which group of the prompt, count, size, colour, shape."""
_SCENE_FACTS = (len(Relation) + 1, len(BACKGROUNDS) + 1)


def _facts_of_group(scene: Scene, index: int) -> list[int]:
    group = scene.groups[index]
    colours, sizes = list(COLOURS), list(_SIZES)
    return [index, group.count, sizes.index(group.size), colours.index(group.colour), SHAPES.index(group.shape)]


def _facts_of_scene(scene: Scene) -> list[int]:
    relation = 1 + list(Relation).index(scene.relation) if scene.relation else 0
    background = 1 + list(BACKGROUNDS).index(scene.background) if scene.background else 0
    facts = [relation, background]
    for index in range(3):
        facts += _facts_of_group(scene, index)[1:] if index < len(scene.groups) else [-100] * 4
    return facts


class ReadingHeads(nn.Module):
    """Throw-away classifiers over text features (B, L, D): a group's facts at its noun, all facts at the last token."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.noun = nn.Linear(features, sum(_GROUP_FACTS))
        self.noun_relation = nn.Linear(features, _SCENE_FACTS[0])
        self.last_sizes = [*_SCENE_FACTS, *(_GROUP_FACTS[1:] * 3)]
        self.last = nn.Linear(features, sum(self.last_sizes))

    def loss(
        self, features: torch.Tensor, nouns: torch.Tensor, last: torch.Tensor, scenes: Sequence[Scene]
    ) -> torch.Tensor:
        """Mean cross-entropy. `nouns`: (B, L) true at shape words; `last`: (B,) index of the last token read."""
        total = features.new_zeros(())
        at_nouns = features[nouns]
        facts = torch.tensor([_facts_of_group(scene, i) for scene in scenes for i in range(len(scene.groups))])
        for column, logits in enumerate(self.noun(at_nouns).split(list(_GROUP_FACTS), dim=-1)):
            total = total + functional.cross_entropy(logits, facts[:, column])
        # the relation is known from the second noun on
        later = facts[:, 0] > 0
        relations = torch.tensor([_facts_of_scene(scene)[0] for scene in scenes for _ in scene.groups])
        if later.any():
            total = total + functional.cross_entropy(self.noun_relation(at_nouns[later]), relations[later])
        at_last = features[torch.arange(len(features)), last]
        targets = torch.tensor([_facts_of_scene(scene) for scene in scenes])
        for column, logits in enumerate(self.last(at_last).split(self.last_sizes, dim=-1)):
            if (targets[:, column] >= 0).any():
                total = total + functional.cross_entropy(logits, targets[:, column], ignore_index=-100)
        return total / (len(_GROUP_FACTS) + 1 + len(self.last_sizes))


def train_text_encoder(
    encoder: nn.Module,
    read: Callable[[list[str]], tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    tokenizer: Any,
    *,
    steps: int,
    batch: int,
    seed: int,
) -> float:
    """Teach `encoder` to read prompts.

    Args:
        encoder: the text encoder, trained in place, then frozen.
        read: from prompts to features (B, L, D) with gradient, token ids (B, L) and mask (B, L), as the pipeline does.
        tokenizer: to recognise the shape words.
        steps: optimizer steps.
        batch: prompts a step.
        seed: of data and heads.

    Returns:
        The last mean loss.
    """
    rng = random.Random(seed)
    torch.manual_seed(seed)
    words = {form for shape in SHAPES for form in (f" {shape}", f" {shape}s", f"▁{shape}", f"▁{shape}s")}
    noun_ids = torch.tensor([token for token in range(len(tokenizer)) if _surface(tokenizer, token) in words])
    prompts = sample_prompts(12_000, seed=seed)
    with torch.no_grad():
        width = read(prompts[:1])[0].shape[-1]
    heads = ReadingHeads(width)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=2e-3, weight_decay=0.01)
    encoder.train()
    recent: list[float] = []
    start = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, steps, warmup=50, floor=0.01, peak=2e-3)
        chosen = rng.sample(prompts, batch)
        features, ids, mask = read(chosen)
        nouns = torch.isin(ids, noun_ids) & mask.bool()
        last = mask.long().cumsum(1).argmax(1)
        loss = heads.loss(features, nouns, last, [parse_prompt(prompt) for prompt in chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        recent = [*recent[-49:], loss.item()]
        if (step + 1) % 100 == 0:
            rate = (step + 1) / (time.monotonic() - start)
            logger.info(
                "text encoder step %d/%d loss %.4f, %.1f steps/s", step + 1, steps, sum(recent) / len(recent), rate
            )
    encoder.eval().requires_grad_(False)
    return sum(recent) / len(recent)


def _surface(tokenizer: Any, token: int) -> str:
    return str(tokenizer.convert_ids_to_tokens(token)).replace("Ġ", " ")
