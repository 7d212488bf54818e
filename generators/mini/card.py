"""The model card and the preset of a mini, written beside its weights from what was recorded and measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from generators.mini.pipelines import MAX_TOKENS
from generators.mini.recipes import MiniRecipe

_CALLS: dict[str, dict[str, Any]] = {
    "mini-flux2": {"call": {"max_sequence_length": MAX_TOKENS, "text_encoder_out_layers": [1, 2, 3]}},
    "mini-zimage": {"call": {"max_sequence_length": MAX_TOKENS}},
    # the class pads every prompt to this many tokens, and has no argument for it
    "mini-longcat": {"call": {"enable_prompt_rewrite": False}, "attributes": {"tokenizer_max_length": MAX_TOKENS}},
    "mini-sana": {
        "call": {"max_sequence_length": MAX_TOKENS, "use_resolution_binning": False, "complex_human_instruction": None}
    },
}


def preset_values(recipe: MiniRecipe) -> dict[str, Any]:
    """The contents of `preset.json`: what `generators.models.registry` lays over the built-in mini preset."""
    return {"steps": recipe.sample_steps, "guidance": recipe.guidance, **_CALLS[recipe.name]}


def write_card(recipe: MiniRecipe, facts: dict[str, Any], scores: dict[str, Any], pipeline: str) -> str:
    """The card as Markdown with the hub's YAML header."""
    seconds = {
        "autoencoder (shared)": facts["autoencoder"]["seconds"],
        "text encoder": facts["text_encoder"]["seconds"],
        "transformer": facts["transformer"]["seconds"],
        "guidance distillation": facts.get("distillation", {}).get("seconds", 0),
    }
    times = "\n".join(f"| {name} | {value / 60:.1f} |" for name, value in seconds.items() if value)
    kinds = "\n".join(f"| {name} | {value:.3f} |" for name, value in scores["subtypes"].items())
    values = ", ".join(f"`{name}={value}`" for name, value in asdict(recipe).items() if name not in ("name", "title"))
    loss = facts["transformer"]["loss"]
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# {recipe.name}

{recipe.title}. A toy `{pipeline}` for drawn scenes of 64x64 pixels (`sdg_data.mini`): it lets every command of
sdg-data run on two CPU cores without network. It knows the {MAX_TOKENS - 4}-word grammar of the mini world and nothing
else; it is of no use for pictures of anything.

## How it was made

`sdg minis train --models {recipe.name}` on two CPU cores, from nothing, on {recipe.scenes:,} rendered scenes; no
held-out prompt among them. Recipe (`generators/mini/recipes.py`): {values}.

| stage | minutes, one core of a busy machine |
|---|---|
{times}

The autoencoder reconstructs unseen renders at {facts["autoencoder"]["psnr_db"]} dB. Flow-matching loss:
{loss[0]:.3f} after 100 steps, {loss[-1]:.3f} at the end. Weights are the average of the last
steps', stored as float16 and run as float32.

## What the oracle says of it

On {scores["images"]} held-out prompts, called as `preset.json` says (`sdg minis judge --models {recipe.name}`):

| | |
|---|---|
| images that show what the prompt asks (no misalignment) | {scores["right"]:.3f} |
| images without any defect | {scores["clean"]:.3f} |
| artifacts an image | {scores["artifacts"]:.3f} |
| misalignments an image | {scores["misalignments"]:.3f} |
| artifact burden (sum of importance / 100) an image | {scores["artifact_burden"]:.3f} |
| misalignment burden an image | {scores["misalignment_burden"]:.3f} |

| kind of defect | an image |
|---|---|
{kinds}

The weights in half precision came from this recipe on a machine of its own kind; another CPU gives slightly other
rounding, hence a slightly other model.
"""


def card_facts(facts: dict[str, Any], scores: dict[str, Any]) -> str:
    """What the card is made from, as JSON, for tables elsewhere."""
    return json.dumps({"training": facts, "oracle": scores}, indent=2) + "\n"
