"""The configuration of a GRPO training, and its recipes (arXiv 2606.06113, the detector's reinforcement learning)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sdg_data.metrics.similarity import PAPER_EMBEDDING
from sdg_data.prompt_templates import DETECT_SHORT
from trainers.common.config import ConfigGroup, Natural, Positive, TrainingSettings, changed
from trainers.detector.train_config import (
    DataSettings,
    DetectorOptimizer,
    DetectorSaving,
    EvaluationSettings,
    ModelSettings,
    Share,
    TrainConfig,
)


class GuardSettings(TrainingSettings):
    """The bounds of a collapse: a training stops where one is passed in each of the last `window` log entries."""

    window: Positive = 5
    """Log entries in a row."""
    max_silent: Share = 0.98
    """Share of valid answers that say "no defects" of images that have some."""
    min_format: Share = 0.05
    """Share of answers in a valid form."""
    max_boxes: Annotated[float, Field(gt=0)] = 12.0
    """Boxes of an answer."""
    max_copied: Share = 0.9
    """Share of answers that are another image's too, word for word."""


class VllmSettings(TrainingSettings):
    """How vLLM samples the answers of a rollout, in this process or on a server."""

    mode: Literal["colocate", "server"] = "colocate"
    """colocate: in the training's own processes. server: by `trl vllm-serve` elsewhere."""
    gpu_memory: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the GPU's memory that vLLM takes."""
    tensor_parallel: Positive = 1
    """GPUs that hold one model."""
    base_url: str | None = None
    """Where the server is."""
    max_model_length: Positive | None = None
    """Tokens of question and answer; none: those of max_prompt_tokens and max_new_tokens together."""
    sleep: bool = False
    """Free vLLM's memory while learning."""


class GrpoDataSettings(DataSettings):
    """Settings of the questions of a GRPO training."""

    max_prompt_tokens: Positive = 4096
    """Tokens of a question with its image; longer ones are left out and counted."""


class AnswerSettings(ConfigGroup):
    """How many answers are sampled for each question, and how."""

    group: Annotated[int, Field(ge=2)] = 8
    """Answers to a question, which are compared with one another (the paper's 8). A step has batch_size / group
    questions."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of sampling (the paper's 1.0)."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.85
    """Of sampling (the paper's 0.85)."""
    max_new_tokens: Positive = 4096
    """Tokens of an answer (the paper's 4,096)."""
    vllm: VllmSettings | None = None
    """Sample by vLLM, on GPUs; none: by transformers."""


class ObjectiveSettings(ConfigGroup):
    """Settings of the loss, and of the answers that are left out of it."""

    beta: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the KL to the model that it started from (the paper's 0.01)."""
    iterations: Positive = 1
    """Optimizer passes over a batch of answers."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """ε of the probability ratio."""
    loss: str = "grpo"
    """TRL's `loss_type`."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """TRL's name of what advantages are divided by."""
    group_filter: Literal["none", "zero-std"] = "none"
    """zero-std: groups whose rewards are all equal are left out of the loss."""
    min_valid: Natural = 0
    """Groups with fewer answers in a valid form are left out of the loss: they teach the form alone."""
    mask_truncated: bool = False
    """Answers that hit the length limit are left out of the loss."""
    require_overlap: bool = False
    """Pairs of boxes that do not overlap earn no credit for reason and importance, see `trainers/detector/reward.py`
    (false, the paper's)."""


class GrpoConfig(TrainConfig):
    """All settings of a detector's GRPO training, in groups."""

    kind: Literal["grpo"] = "grpo"
    """The kind of training."""
    data: GrpoDataSettings = GrpoDataSettings()
    answers: AnswerSettings = AnswerSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    guard: GuardSettings | None = None
    """Stop a training that has collapsed; none: it goes on."""

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        group = self.answers.group
        if self.optimizer.batch_size % group:
            raise ValueError(f"batch_size {self.optimizer.batch_size} answers is no multiple of group {group}")
        if self.objective.min_valid > group:
            raise ValueError(f"min_valid {self.objective.min_valid} is more than a group of {group} can have")
        return self

    def grpo_arguments(self, folder: str, processes: int) -> dict[str, Any]:
        """The arguments of TRL's `GRPOConfig`.

        Args:
            folder: where checkpoints go.
            processes: how many train together.

        Returns:
            Name of the argument -> value.
        """
        answers, objective, vllm = self.answers, self.objective, self.answers.vllm
        arguments = {
            **self.common_arguments(folder, processes),
            "num_generations": answers.group,
            "max_completion_length": answers.max_new_tokens,
            "temperature": answers.temperature,
            "top_p": answers.top_p,
            "top_k": 0,
            "beta": objective.beta,
            "num_iterations": objective.iterations,
            "epsilon": objective.clip,
            "loss_type": objective.loss,
            "scale_rewards": objective.scale_rewards,
            "mask_truncated_completions": objective.mask_truncated,
        }
        if vllm is not None:
            arguments |= {
                "use_vllm": True,
                "vllm_mode": vllm.mode,
                "vllm_gpu_memory_utilization": vllm.gpu_memory,
                "vllm_tensor_parallel_size": vllm.tensor_parallel,
                "vllm_server_base_url": vllm.base_url,
                "vllm_max_model_length": vllm.max_model_length or self.data.max_prompt_tokens + answers.max_new_tokens,
                "vllm_enable_sleep_mode": vllm.sleep,
            }
        return arguments


def sdg30k() -> GrpoConfig:
    """The paper's: 8 answers, temperature 1.0, top-p 0.85, lr 5e-6, β 0.01, ≤ 4,096 new tokens, 2 epochs.

    128 answers a step stand in the release's `train_grpo.sh` (16 GPUs × 4 × 2); reasons are compared as in its reward,
    by Qwen3-Embedding with mean pooling. docs/published-run.md goes through all of them.

    Returns:
        The configuration.
    """
    return GrpoConfig(
        recipe="sdg30k",
        optimizer=DetectorOptimizer(
            learning_rate=5e-6, epochs=2, batch_size=128, micro_batch=4, weight_decay=0.1, adam_betas=(0.9, 0.95)
        ),
        evaluation=EvaluationSettings(eval_every=100, eval_limit=512, eval_max_tokens=4096, similarity=PAPER_EMBEDDING),
        saving=DetectorSaving(log_every=1, save_every=50),
        guard=GuardSettings(window=20),
    )


def mini() -> GrpoConfig:
    """The toy Qwen3-VL on two cores: 32 questions a step (fewer are too noisy to learn from), short answers."""
    return GrpoConfig(
        recipe="mini",
        model=ModelSettings(freeze_vision=False, precision="fp32", checkpointing=False, device="cpu"),
        data=GrpoDataSettings(template=DETECT_SHORT, max_prompt_tokens=512, held_out=0.05, workers=0),
        optimizer=DetectorOptimizer(learning_rate=5e-5, max_steps=60, batch_size=256, micro_batch=64),
        evaluation=EvaluationSettings(eval_every=20, eval_limit=500, eval_batch=50, eval_max_tokens=512),
        saving=DetectorSaving(log_every=1, save_every=20),
        answers=AnswerSettings(max_new_tokens=320),
        guard=GuardSettings(window=20),
    )


def mini_detector() -> GrpoConfig:
    """The shipped toy detector's: a third of the steps of `mini`, each twice as long."""
    changes = {
        "recipe": "mini-detector",
        "optimizer.max_steps": 20,
        "optimizer.learning_rate": 1e-4,
        "evaluation.eval_limit": 200,
    }
    return changed(mini(), changes)


RECIPES = {"sdg30k": sdg30k, "mini": mini, "mini-detector": mini_detector}
