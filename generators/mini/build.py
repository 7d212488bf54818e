"""Build the mini family from nothing: autoencoders, text encoders, transformers, then judge and save each mini.

Every stage leaves its result in the work folder and is skipped when the result is there, so a build that was killed
goes on where it was. `sdg minis train` is the command.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from generators.mini.autoencoders import make_autoencoder
from generators.mini.corpus import render_corpus
from generators.mini.pipelines import make_pipeline
from generators.mini.recipes import AUTOENCODERS, MINIS, MiniRecipe
from generators.mini.text import train_text_encoder
from generators.mini.training import distil_guidance, encode_corpus, train_transformer
from generators.models.flow import Flow

logger = logging.getLogger(__name__)


def build_autoencoder(name: str, work: Path) -> Any:
    """The trained autoencoder `name` ("kl" or "dc"), from the work folder or made now."""
    import diffusers

    recipe = AUTOENCODERS[name]
    folder = work / f"autoencoder-{name}"
    if not (folder / "result.json").exists():
        start = time.monotonic()
        model, psnr = make_autoencoder(recipe)
        model.save_pretrained(folder)
        _write_json(folder / "result.json", {"psnr_db": round(psnr, 2), "seconds": round(time.monotonic() - start)})
    return getattr(diffusers, recipe.kind).from_pretrained(folder).eval().requires_grad_(False)


def _build_text_encoder(flow: Flow, recipe: MiniRecipe, folder: Path) -> dict[str, float]:
    pipeline = flow.pipeline
    encoder, tokenizer = pipeline.text_encoder, pipeline.tokenizer
    weights, result = folder / "text_encoder.pt", folder / "text_encoder.json"
    if result.exists():
        encoder.load_state_dict(torch.load(weights, weights_only=True))
        encoder.eval().requires_grad_(False)
        return dict(json.loads(result.read_text()))
    seen: dict[str, torch.Tensor] = {}

    def watch(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        seen["ids"] = kwargs.get("input_ids", args[0] if args else None)
        seen["mask"] = kwargs["attention_mask"]
        if getattr(output, "hidden_states", None):
            seen["last"] = output.hidden_states[-1]

    def read(prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        text = flow.encode(prompts)
        ids, mask, features = seen["ids"], seen["mask"], text.features
        if ids.shape[1] != features.shape[1]:
            # LongCat wraps the prompt in a template, cuts it off again, and detaches
            prefix = len(tokenizer(pipeline.prompt_template_encode_prefix, add_special_tokens=False)["input_ids"])
            cut = slice(prefix, prefix + features.shape[1])
            ids, mask, features = ids[:, cut], mask[:, cut], seen["last"][:, cut]
        return features, ids, mask

    hook = encoder.register_forward_hook(watch, with_kwargs=True)
    start = time.monotonic()
    loss = train_text_encoder(encoder, read, tokenizer, steps=recipe.text_steps, batch=64, seed=recipe.seed)
    hook.remove()
    facts = {"loss": round(loss, 5), "seconds": round(time.monotonic() - start)}
    torch.save(encoder.state_dict(), weights)
    _write_json(result, facts)
    return facts


def train_mini(name: str, work: Path) -> tuple[Flow, dict[str, Any]]:
    """Train the mini `name` by its recipe; returns it with what is to be said of the training."""
    recipe = MINIS[name]
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    autoencoder = build_autoencoder(recipe.autoencoder, work)
    flow = make_pipeline(recipe, autoencoder)
    facts: dict[str, Any] = {
        "autoencoder": json.loads((work / f"autoencoder-{recipe.autoencoder}" / "result.json").read_text())
    }
    facts["text_encoder"] = _build_text_encoder(flow, recipe, folder)
    logger.info("%s: text encoder %s", name, facts["text_encoder"])
    data = encode_corpus(flow, render_corpus(recipe.scenes, recipe.seed))
    seconds, curve = train_transformer(flow, recipe, data, folder)
    facts["transformer"] = {"seconds": round(seconds), "loss": [round(value, 4) for value in curve]}
    if recipe.distil:
        seconds, curve = distil_guidance(flow, recipe, data, folder)
        facts["distillation"] = {"seconds": round(seconds), "loss": [round(value, 4) for value in curve]}
    return flow, facts


def save_mini(flow: Flow, target: Path, extra: dict[str, str]) -> None:
    """Save the pipeline as float16 safetensors with `extra` text files beside it, whole or not at all."""
    temporary = target.with_name(f".{target.name}.building")
    shutil.rmtree(temporary, ignore_errors=True)
    # halves the repository's weight; loaded as float32, the rounding is far below what the oracle sees
    flow.pipeline.to(torch.float16)
    flow.pipeline.save_pretrained(temporary)
    flow.pipeline.to(torch.float32)
    _name_known_classes(temporary / "model_index.json")
    for name, content in extra.items():
        (temporary / name).write_text(content, encoding="utf-8")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)


def _name_known_classes(index: Path) -> None:
    """Let plain diffusers load the folder: our processor without a video half saves what the full class reads."""
    values = json.loads(index.read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)  # where it was loaded from on the machine that made it
    for name, entry in values.items():
        if isinstance(entry, list) and entry[1] == "ImageOnlyQwen2VLProcessor":
            values[name] = ["transformers", "Qwen2VLProcessor"]
    _write_json(index, values)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
