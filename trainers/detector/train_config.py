"""What supervised fine-tuning and GRPO are both told, and how a recipe is changed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sdg_data.errors import ConfigError
from sdg_data.prompt_templates import DETECT

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Report = Literal["tensorboard", "trackio", "wandb", "none"]


class LoraSettings(BaseModel):
    """A low-rank adapter on the linear layers of the language model (and of the vision tower where it is trained)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: Positive = 64
    alpha: Positive = 128
    dropout: Share = 0.0


class TrainConfig(BaseModel):
    """What both kinds of training share.

    `template`: the question's name. `trace`: answers think first. `max_side`: of pictures, in pixels. `batch_size` is
    global: of all processes, accumulation included; `micro_batch` is what one process holds at a time. `precision`
    bf16: autocast over fp32 weights, or bf16 weights under an adapter. `checkpointing`: recompute activations instead
    of keeping them. `held_out`: the share of train prompts kept for evaluation. `save_every`, `eval_every`, `log_every`
    in steps; `keep` checkpoints besides the best. `eval_limit`: images of an evaluation (None: all held out).
    `pictures`: sample predictions drawn each evaluation. `workers`: processes that prepare batches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    template: str = DETECT
    trace: bool = True
    max_side: Positive = 1024
    freeze_vision: bool = True
    lora: LoraSettings | None = None
    learning_rate: Annotated[float, Field(gt=0)]
    warmup: Share = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    adam_betas: tuple[Share, Share] = (0.9, 0.999)
    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Positive | None = None
    batch_size: Positive = 16
    micro_batch: Positive = 1
    precision: Literal["bf16", "fp32"] = "bf16"
    checkpointing: bool = True
    device: Literal["auto", "cpu"] = "auto"
    held_out: Share = 0.02
    log_every: Positive = 10
    save_every: Positive = 100
    eval_every: Positive = 500
    eval_limit: Positive | None = None
    eval_batch: Positive = 16
    eval_max_tokens: Positive = 2048
    keep: Positive = 2
    pictures: Annotated[int, Field(ge=0)] = 8
    similarity: str = "lexical"
    workers: Annotated[int, Field(ge=0)] = 4
    report: Report = "tensorboard"
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.batch_size % self.micro_batch:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of micro_batch {self.micro_batch}")
        if self.eval_every % self.save_every:
            raise ValueError(
                f"eval_every {self.eval_every} is no multiple of save_every {self.save_every}: "
                "the best checkpoint must be one that was saved"
            )
        return self

    def accumulation(self, processes: int) -> int:
        """Micro-batches a step of each of so many processes. ConfigError where they do not fill the batch."""
        at_once = self.micro_batch * processes
        if self.batch_size % at_once:
            raise ConfigError(
                f"batch_size {self.batch_size} is no multiple of micro_batch × processes = {at_once}",
                hint="--set micro_batch=N or --set batch_size=N.",
            )
        return self.batch_size // at_once

    def common_arguments(self, folder: str, processes: int) -> dict[str, Any]:
        """The `TrainingArguments` that follow from the above."""
        on_cpu = self.device == "cpu"
        return {
            "output_dir": folder,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "cosine",
            "warmup_steps": self.warmup,
            "weight_decay": self.weight_decay,
            "max_grad_norm": self.max_grad_norm,
            "adam_beta1": self.adam_betas[0],
            "adam_beta2": self.adam_betas[1],
            "num_train_epochs": self.epochs,
            "max_steps": self.max_steps or -1,
            "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": self.accumulation(processes),
            "bf16": self.precision == "bf16",
            "activation_checkpointing": self.checkpointing,
            "use_cpu": on_cpu,
            "dataloader_pin_memory": not on_cpu,
            "dataloader_num_workers": self.workers,
            "dataloader_persistent_workers": self.workers > 0,
            "logging_strategy": "steps",
            "logging_steps": self.log_every,
            "logging_nan_inf_filter": False,
            "save_strategy": "steps",
            "save_steps": self.save_every,
            "save_total_limit": self.keep,
            "eval_strategy": "steps" if self.held_out else "no",
            "eval_steps": self.eval_every,
            "metric_for_best_model": "score" if self.held_out else None,
            "greater_is_better": True if self.held_out else None,
            # TensorBoard by a callback of ours, which knows where a resumed run stands.
            "report_to": [] if self.report in ("none", "tensorboard") else [self.report],
            "remove_unused_columns": False,
            "disable_tqdm": True,
            "seed": self.seed,
            "data_seed": self.seed,
        }


Config = TypeVar("Config", bound=TrainConfig)


def changed(config: Config, changes: dict[str, Any]) -> Config:
    """The configuration with other values; a dotted name reaches into `lora`. ConfigError names what is wrong."""
    values = config.model_dump()
    for name, value in changes.items():
        head, _, tail = name.partition(".")
        if tail:
            values[head] = {**(values.get(head) or {}), tail: value}
        else:
            values[head] = value
    try:
        return type(config).model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc'])) or 'settings'}: {one['msg']}" for one in error.errors()]
        raise ConfigError(
            "; ".join(lines), item=f"recipe {config.recipe}", hint="docs/train-detector.md has the keys."
        ) from error
