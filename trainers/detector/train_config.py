"""What supervised fine-tuning and GRPO have in common in their configurations.

`trainers.detector.sft_config` and `trainers.detector.grpo_config` add what only they have, and the recipes. The string
below a field is its documentation: `sdg train detector sft --help-config` prints it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from sdg_data.errors import ConfigError
from sdg_data.processes import launcher_checkpoints
from sdg_data.prompt_templates import DETECT, is_file
from trainers.common.config import AboveZero, ConfigGroup, LoraSettings, Natural, Positive, TrainingSettings
from trainers.common.config import changed as changed  # whoever has a configuration changes it

Share = Annotated[float, Field(ge=0, lt=1)]
Report = Literal["tensorboard", "trackio", "wandb", "none"]


class DetectorLora(LoraSettings):
    """A low-rank adapter on the linear layers of the language model (and of the vision tower where it is trained)."""

    dropout: Share = 0.0
    """Of the adapter's input; 0, the paper's."""


class ModelSettings(ConfigGroup):
    """What of the model is trained, and in which form."""

    freeze_vision: bool = True
    """Keep the vision tower as it is (the paper's)."""
    lora: DetectorLora | None = None
    """An adapter that is trained instead of all weights; none: everything is trained."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16: autocast over fp32 weights, or bf16 weights under an adapter. fp32 on CPUs, where bf16 is slower."""
    checkpointing: bool = True
    """Recompute activations in the backward pass instead of keeping them: less memory, about a third more time."""
    device: Literal["auto", "cpu"] = "auto"
    """auto: GPUs where there are some."""


class DataSettings(ConfigGroup):
    """Settings of the data: the question, the size of images, and the share that is held out."""

    template: str = DETECT
    """The question's name; the model is asked with it for ever after."""
    trace: bool = True
    """Answers think first (`<think>…</think>`)."""
    max_side: Positive = 1024
    """Pixels of an image's longer side; larger images are shown smaller (the paper's 1,024)."""
    held_out: Share = 0.02
    """Share of the train split's prompts that is kept to choose the best checkpoint, by hash; 0: no evaluation."""
    workers: Natural = 4
    """Processes that prepare batches."""

    @field_validator("template")
    @classmethod
    def _ours(cls, template: str) -> str:
        if is_file(template):
            raise ValueError("a trained detector names its question by a template of ours; a file's is for asking only")
        return template


class MuonSettings(TrainingSettings):
    """Muon for the matrices of the layers; AdamW goes on with embeddings, norms and biases."""

    learning_rate: AboveZero = 1.5e-3
    """The highest one of the matrices."""
    momentum: Share = 0.95
    """Of the gradient."""


class DetectorOptimizer(ConfigGroup):
    """AdamW with a cosine schedule, and the size of a step."""

    learning_rate: Annotated[float, Field(gt=0)]
    """The highest one, at the end of the warm-up."""
    warmup: Share = 0.05
    """Share of the steps over which the learning rate rises (the paper's 5 %)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this norm."""
    adam_betas: tuple[Share, Share] = (0.9, 0.999)
    """AdamW's β₁ and β₂."""
    muon: MuonSettings | None = None
    """Muon (orthogonalised momentum) for the matrices of the layers, of models that lie whole on a device; none: AdamW
    for everything."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the data."""
    max_steps: Positive | None = None
    """Steps after which it ends, whatever the epochs; none: by the epochs."""
    batch_size: Positive = 16
    """Samples (for GRPO: answers) of a step, of all processes together, accumulation included."""
    micro_batch: Positive = 1
    """Samples (for GRPO: answers) that one process holds at a time."""


class EvaluationSettings(ConfigGroup):
    """SDG-Eval of the held-out part while it trains."""

    eval_every: Positive = 500
    """Steps between two evaluations; a multiple of `save_every`, so that the best checkpoint was saved."""
    eval_limit: Positive | None = None
    """Images of an evaluation; none: all that are held out."""
    eval_batch: Positive = 16
    """Images that are asked about at once."""
    eval_max_tokens: Positive = 2048
    """Tokens of an answer."""
    pictures: Natural = 8
    """Answers that are drawn into `samples/` at each evaluation."""
    similarity: str = "lexical"
    """How reasons are compared, here and in GRPO's reward: lexical, Qwen/Qwen3-Embedding-0.6B (the paper's, mean
    pooling), or the name of a sentence-transformers model."""


class DetectorSaving(ConfigGroup):
    """How often log entries and checkpoints are written, how many are kept, and where curves go."""

    log_every: Positive = 10
    """Steps between two entries of the log."""
    save_every: Positive = 100
    """Steps between two checkpoints."""
    keep: Positive = 2
    """Checkpoints that are kept besides the best."""
    report: Report = "tensorboard"
    """Where curves go."""


class TrainConfig(TrainingSettings):
    """What both kinds of training share, in groups."""

    page: ClassVar = "docs/train-detector.md"
    recipe: str
    """The recipe that it was made from."""
    seed: int = 0
    """The order of samples, the jitter and the sampling of answers follow from it."""
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    optimizer: DetectorOptimizer
    evaluation: EvaluationSettings = EvaluationSettings()
    saving: DetectorSaving = DetectorSaving()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        batch_size, micro_batch = self.optimizer.batch_size, self.optimizer.micro_batch
        if batch_size % micro_batch:
            raise ValueError(f"batch_size {batch_size} is no multiple of micro_batch {micro_batch}")
        if self.evaluation.eval_every % self.saving.save_every:
            raise ValueError(
                f"eval_every {self.evaluation.eval_every} is no multiple of save_every {self.saving.save_every}: "
                "the best checkpoint must be one that was saved"
            )
        return self

    def accumulation(self, processes: int) -> int:
        """How many micro-batches each process adds up for a step.

        Args:
            processes: how many train together.

        Returns:
            At least 1.

        Raises:
            ConfigError: the micro-batches of so many processes do not fill the batch.
        """
        at_once = self.optimizer.micro_batch * processes
        if self.optimizer.batch_size % at_once:
            raise ConfigError(
                f"batch_size {self.optimizer.batch_size} is no multiple of micro_batch × processes = {at_once}",
                hint="--set optimizer.micro_batch=N or --set optimizer.batch_size=N.",
            )
        return self.optimizer.batch_size // at_once

    def common_arguments(self, folder: str, processes: int) -> dict[str, Any]:
        """The arguments of transformers' `TrainingArguments` that follow from the configuration.

        Args:
            folder: where checkpoints go.
            processes: how many train together.

        Returns:
            Name of the argument -> value.
        """
        on_cpu = self.model.device == "cpu"
        optimizer, saving, held_out = self.optimizer, self.saving, self.data.held_out
        return {
            "output_dir": folder,
            "learning_rate": optimizer.learning_rate,
            "lr_scheduler_type": "cosine",
            "warmup_steps": optimizer.warmup,
            "weight_decay": optimizer.weight_decay,
            "max_grad_norm": optimizer.max_grad_norm,
            "adam_beta1": optimizer.adam_betas[0],
            "adam_beta2": optimizer.adam_betas[1],
            "num_train_epochs": optimizer.epochs,
            "max_steps": optimizer.max_steps or -1,
            "per_device_train_batch_size": optimizer.micro_batch,
            "gradient_accumulation_steps": self.accumulation(processes),
            "bf16": self.model.precision == "bf16",
            "activation_checkpointing": self.model.checkpointing and not launcher_checkpoints(),
            "use_cpu": on_cpu,
            "dataloader_pin_memory": not on_cpu,
            "dataloader_num_workers": self.data.workers,
            "dataloader_persistent_workers": self.data.workers > 0,
            "logging_strategy": "steps",
            "logging_steps": saving.log_every,
            "logging_nan_inf_filter": False,
            "save_strategy": "steps",
            "save_steps": saving.save_every,
            "save_total_limit": saving.keep,
            "eval_strategy": "steps" if held_out else "no",
            "eval_steps": self.evaluation.eval_every,
            "metric_for_best_model": "score" if held_out else None,
            "greater_is_better": True if held_out else None,
            # TensorBoard by a callback of ours, which knows where a resumed run stands.
            "report_to": [] if saving.report in ("none", "tensorboard") else [saving.report],
            "remove_unused_columns": False,
            "disable_tqdm": True,
            "seed": self.seed,
            "data_seed": self.seed,
        }
