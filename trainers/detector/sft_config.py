"""What a supervised fine-tuning is told, and the recipes: small functions that return a whole configuration.

`sdg30k` has the paper's settings (arXiv 2606.06113) for Qwen3-VL-4B-Instruct on GPUs; `mini` is for the toy Qwen3-VL on
two CPU cores. A run differs from its recipe by `--set key=value`, and its folder's `run.json` holds what it was.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sdg_data.prompt_templates import DETECT_SHORT
from trainers.detector.train_config import Positive, TrainConfig


class SftConfig(TrainConfig):
    """`jitter`: see `trainers.detector.jitter`. `max_tokens`: of question, image and answer; what is longer is left
    out."""

    kind: Literal["sft"] = "sft"
    jitter: Annotated[float, Field(ge=0, le=500)] = 10.0
    max_tokens: Positive = 5100


def sdg30k() -> SftConfig:
    """The paper's: Qwen3-VL-4B-Instruct, frozen vision tower, lr 3e-5, cosine, batch 16, 5,100 tokens, 1,024 px."""
    return SftConfig(
        recipe="sdg30k",
        learning_rate=3e-5,
        epochs=3,
        batch_size=16,
        micro_batch=1,
        save_every=250,
        eval_every=500,
        eval_limit=512,
    )


def mini() -> SftConfig:
    """The toy Qwen3-VL on two cores: everything is trained, in fp32, its short question."""
    return SftConfig(
        recipe="mini",
        template=DETECT_SHORT,
        freeze_vision=False,
        learning_rate=6e-4,
        adam_betas=(0.9, 0.98),
        weight_decay=0.02,
        epochs=4,
        batch_size=16,
        micro_batch=16,
        max_tokens=1024,
        precision="fp32",
        checkpointing=False,
        device="cpu",
        held_out=0.05,
        log_every=10,
        save_every=200,
        eval_every=400,
        eval_limit=200,
        eval_batch=50,
        eval_max_tokens=512,
        workers=0,
    )


RECIPES = {"sdg30k": sdg30k, "mini": mini}
