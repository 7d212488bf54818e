"""The configuration of a supervised fine-tuning, and the recipes: functions that return a whole configuration.

`sdg30k` has the paper's settings (arXiv 2606.06113) for Qwen3-VL-4B-Instruct on GPUs; `mini` is for the toy Qwen3-VL on
two CPU cores, and `mini-detector` makes the one that comes with the project. A run differs from its recipe by
`--set group.key=value`, and its folder's `run.json` holds what it was.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sdg_data.metrics.similarity import PAPER_EMBEDDING
from sdg_data.prompt_templates import DETECT_SHORT
from trainers.common.config import AboveZero, NotNegative, Positive, TrainingSettings, changed
from trainers.detector.train_config import (
    DataSettings,
    DetectorOptimizer,
    DetectorSaving,
    EvaluationSettings,
    ModelSettings,
    Share,
    TrainConfig,
)


class SftDataSettings(DataSettings):
    """Settings of the questions and answers of a supervised fine-tuning."""

    jitter: Annotated[float, Field(ge=0, le=500)] = 10.0
    """Thousandths of the image's side by which an answer's coordinates move at most, another way each epoch (the
    paper's 10); 0: they stay."""
    max_tokens: Positive = 5100
    """Tokens of question, image and answer; longer samples are left out (the paper's 5,100)."""


class MiniHelp(TrainingSettings):
    """Variants and heads for a toy detector on images of the mini world, see `trainers.detector.mini.help`."""

    earlier: ClassVar = {"clean": 1.0, "smoothing": 0.0, "coordinate_weight": 1.0}
    variants: Positive = 12
    """Questions made of each image; the first is the image's own sample."""
    reprompted: Share = 0.4
    """Share of the others with another prompt; all are mirrored and moved at random."""
    clean: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the variants without a defect that are kept; 1: all. A doubt that is spread over many possible defects
    loses against the one answer that there is none, so a detector is silent too often where it learns all of them."""
    heads: NotNegative = 1.0
    """Weight of the throw-away heads' loss; 0: without them."""
    smoothing: NotNegative = 8.0
    """Spread of a coordinate's target, in thousandths of the image's side; 0: the plain loss."""
    coordinate_weight: AboveZero = 2.0
    """How many other tokens a coordinate counts as."""


class SftConfig(TrainConfig):
    """All settings of a supervised fine-tuning, in groups."""

    kind: Literal["sft"] = "sft"
    """The kind of training."""
    data: SftDataSettings = SftDataSettings()
    mini: MiniHelp | None = None
    """Help for the toy detector on images of the mini world; none: the answers alone teach, as for real models."""

    @model_validator(mode="after")
    def _whole_model(self) -> Self:
        if self.mini and self.model.lora:
            raise ValueError("the help for the toy detector is for training all of it, not an adapter")
        return self


def sdg30k() -> SftConfig:
    """The paper's: Qwen3-VL-4B-Instruct, frozen vision tower, lr 3e-5, cosine, batch 16, 5,100 tokens, 1,024 px.

    Three epochs and 16 samples a step stand in the release's `train_sft.sh`; weight decay and β₂ are the defaults of
    ms-swift, which it calls. docs/published-run.md goes through all of them.

    Returns:
        The configuration.
    """
    return SftConfig(
        recipe="sdg30k",
        optimizer=DetectorOptimizer(
            learning_rate=3e-5, epochs=3, batch_size=16, micro_batch=1, weight_decay=0.1, adam_betas=(0.9, 0.95)
        ),
        evaluation=EvaluationSettings(eval_every=500, eval_limit=512, eval_max_tokens=4096, similarity=PAPER_EMBEDDING),
        saving=DetectorSaving(save_every=250),
    )


def mini() -> SftConfig:
    """The toy Qwen3-VL on two cores: everything is trained, in fp32, its short question."""
    return SftConfig(
        recipe="mini",
        model=ModelSettings(freeze_vision=False, precision="fp32", checkpointing=False, device="cpu"),
        data=SftDataSettings(template=DETECT_SHORT, max_tokens=1024, held_out=0.05, workers=0),
        optimizer=DetectorOptimizer(
            learning_rate=6e-4,
            adam_betas=(0.9, 0.98),
            weight_decay=0.02,
            epochs=4,
            batch_size=16,
            micro_batch=16,
        ),
        evaluation=EvaluationSettings(eval_every=400, eval_limit=200, eval_batch=50, eval_max_tokens=512),
        saving=DetectorSaving(log_every=10, save_every=200),
    )


def mini_detector() -> SftConfig:
    """The shipped toy detector's: `mini` with Muon, and with the help that only images of the mini world can have."""
    changes = {
        "recipe": "mini-detector",
        "optimizer.max_steps": 3000,
        "optimizer.learning_rate": 1e-3,
        "optimizer.muon.learning_rate": 1.6e-3,
        "mini.variants": 8,
        "evaluation.eval_every": 1000,
        "saving.log_every": 20,
    }
    return changed(mini(), changes)


RECIPES = {"sdg30k": sdg30k, "mini": mini, "mini-detector": mini_detector}
