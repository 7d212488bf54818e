"""What stands in the way of training a detector, found before the model is fetched or loaded."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from sdg_data.errors import ExitCode
from sdg_data.metrics.similarity import LEXICAL, needs_transformers
from sdg_data.preflight import hub, machine
from sdg_data.preflight.findings import Finding
from sdg_data.preflight.packages import check_extra
from sdg_data.preflight.sizes import GIB, Component, ModelSizes, sizes_of
from trainers.detector.train_config import TrainConfig

_BUCKETS: Final = 4
"""Bytes a trained number that DDP adds for its buckets of gradients."""


def examine(config: TrainConfig, model: str) -> list[Finding]:
    """The findings about a training.

    Args:
        config: the training's.
        model: what it starts from: a folder or a hub repository.

    Returns:
        The findings.
    """
    findings = [check_extra("train", "train"), *_similarity(config), *_base(model)]
    sizes = sizes_of(model)
    if sizes is not None and config.model.device != "cpu":
        findings.append(gpu_memory(config, sizes))
    return findings


def gpu_memory(config: TrainConfig, sizes: ModelSizes) -> Finding:
    """What a GPU holds before activations: weights, gradients, AdamW's moments and, for GRPO, the reference.

    Full training keeps weights, gradients and moments in fp32 under autocast; an adapter leaves the weights in bf16.

    Args:
        config: the training's.
        sizes: the model's.

    Returns:
        The finding, for one GPU, for DDP and for FSDP2 over the GPUs that are here (8 where there are none).
    """
    whole = sizes.components[0].parameters
    frozen = vision_parameters(sizes.components[0]) if config.model.freeze_vision else 0
    lora = config.model.lora
    if lora is None:
        trained, weights = whole - frozen, 4.0 * whole
    else:
        trained, weights = adapter_parameters(sizes.components[0], lora.rank), 2.0 * whole
    # Of an adapter the weights themselves are in fp32 too; the model before training is the same without it.
    own = 4.0 * trained if lora is not None else 0.0
    reference = 4.0 * whole if lora is None and _has_reference(config) else 0.0
    whole_gib = (weights + own + 12.0 * trained + reference) / GIB
    gpus = machine.gpus()
    number = len(gpus) or 8
    shared = whole_gib / number
    state = (
        f"before activations {whole_gib:.1f} GiB on one GPU, {whole_gib + _BUCKETS * trained / GIB:.1f} by DDP, "
        f"{shared:.1f} on each of {number} by FSDP2"
    )
    if not gpus:
        return Finding("train", "GPU memory", f"{state}; no GPU: not checked", None)
    smallest = min(gpu.gib for gpu in gpus)
    state += f"; here are {len(gpus)} × {gpus[0].name}, {smallest:.1f} GiB"
    if whole_gib < smallest:
        return Finding("train", "GPU memory", state)
    fix = "accelerate launch --config_file configs/accelerate/fsdp2.yaml, or --lora 64"
    return Finding("train", "GPU memory", state, None if shared < smallest and number > 1 else False, fix)


def vision_parameters(part: Component) -> int:
    """The numbers of a Qwen3-VL's vision tower, from its configuration: layers, patches, mergers, positions."""
    vision = part.config["vision_config"]
    width, inner, out = vision["hidden_size"], vision["intermediate_size"], vision["out_hidden_size"]
    layer = 4 * width * width + 4 * width + 2 * width * inner + width + inner + 4 * width
    patch = 3 * vision["temporal_patch_size"] * vision["patch_size"] ** 2 * width + width
    wide = width * vision["spatial_merge_size"] ** 2
    linears = wide * wide + wide + wide * out + out
    deep = len(vision["deepstack_visual_indexes"])
    mergers = linears + 2 * width + deep * (linears + 2 * wide)
    return int(vision["depth"] * layer + patch + mergers + vision["num_position_embeddings"] * width)


def adapter_parameters(part: Component, rank: int) -> int:
    """The numbers of an adapter on the language model's linear layers: rank times inputs and outputs of each."""
    text = part.config["text_config"]
    width, inner, head = text["hidden_size"], text["intermediate_size"], text["head_dim"]
    queries, keys = text["num_attention_heads"] * head, text["num_key_value_heads"] * head
    ends = 2 * (width + queries) + 2 * (width + keys) + 3 * (width + inner)
    return int(rank * ends * text["num_hidden_layers"])


def _has_reference(config: TrainConfig) -> bool:
    objective = getattr(config, "objective", None)
    return objective is not None and objective.beta > 0


def _similarity(config: TrainConfig) -> list[Finding]:
    name = config.evaluation.similarity
    if name == LEXICAL:
        return []
    pooled = needs_transformers(name)
    name = name.removeprefix("mean:")
    if not pooled and importlib.util.find_spec("sentence_transformers") is None:
        state = f"similarity {name}, and sentence-transformers is missing"
        fix = "pip install 'sdg-data[eval]', or --similarity lexical"
        return [Finding("evaluation", "packages", state, False, fix, ExitCode.MISSING_DEPENDENCY)]
    if hub.is_path(name) or hub.is_cached(name, ""):
        return [Finding("evaluation", "similarity", f"{name} is on this machine")]
    return [hub.check_hub("evaluation", name, "")]


def _base(model: str) -> list[Finding]:
    if hub.is_path(model):
        has_config = (Path(model).expanduser() / "config.json").is_file()
        fix = None if has_config else "A folder with config.json, or a repository owner/name."
        state = f"the folder {model}" if has_config else f"cannot read its config: there is none in {model}"
        return [Finding("train", "model", state, has_config, fix)]
    if hub.is_cached(model, ""):
        return [Finding("train", "model", f"{model} is on this machine already")]
    findings = []
    sizes = sizes_of(model)
    if sizes is not None:
        free = machine.free_bytes(hub.cache_folder())
        enough = sizes.download <= free
        state = f"{sizes.download / 1e9:.0f} GB of weights to fetch, {free / 1e9:.0f} GB free for them"
        fix = None if enough else "Free some space, or name another place: HF_HUB_CACHE=…"
        findings.append(Finding("train", "download", state, enough, fix))
    return [*findings, hub.check_hub("train", model, "")]
