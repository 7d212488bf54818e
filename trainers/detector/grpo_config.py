"""What a GRPO training is told, and its recipes (arXiv 2606.06113, the detector's reinforcement learning)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sdg_data.prompt_templates import DETECT_SHORT
from trainers.detector.train_config import Positive, Share, TrainConfig


class GuardSettings(BaseModel):
    """When a training counts as collapsed: one of these in each of the last `window` log entries.

    `max_silent`: share of valid answers that say "no defects" of images that have some. `min_format`: share of answers
    in a valid form. `max_boxes`: boxes an answer. `max_copied`: share of answers given word for word to another image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: Positive = 5
    max_silent: Share = 0.98
    min_format: Share = 0.05
    max_boxes: Annotated[float, Field(gt=0)] = 12.0
    max_copied: Share = 0.9


class VllmSettings(BaseModel):
    """Rollouts by vLLM: in the training's own processes (`colocate`) or by `trl vllm-serve` elsewhere (`server`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["colocate", "server"] = "colocate"
    gpu_memory: Annotated[float, Field(gt=0, lt=1)] = 0.3
    tensor_parallel: Positive = 1
    base_url: str | None = None
    max_model_length: Positive | None = None
    sleep: bool = False


class GrpoConfig(TrainConfig):
    """`group` answers a question; `batch_size` counts answers, so a step has batch_size / group questions.

    `max_new_tokens` an answer, `max_prompt_tokens` a question with its image (longer ones are left out and counted).
    `beta`: weight of the KL to the starting model. `iterations`: optimiser passes over a batch of answers; `clip`: of
    the probability ratio. `loss`, `scale_rewards`: TRL's names. `group_filter` "zero-std" leaves groups out of the loss
    whose rewards are all equal, `min_valid` those with fewer answers in a valid form (they teach the form alone).
    `mask_truncated` leaves answers out that hit the length limit. `require_overlap`: see `trainers.detector.reward`.
    """

    kind: Literal["grpo"] = "grpo"
    group: Annotated[int, Field(ge=2)] = 8
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.85
    beta: Annotated[float, Field(ge=0)] = 0.01
    max_new_tokens: Positive = 4096
    max_prompt_tokens: Positive = 4096
    iterations: Positive = 1
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    loss: str = "grpo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    group_filter: Literal["none", "zero-std"] = "none"
    min_valid: Annotated[int, Field(ge=0)] = 0
    mask_truncated: bool = False
    require_overlap: bool = False
    guard: GuardSettings | None = None
    vllm: VllmSettings | None = None

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.batch_size % self.group:
            raise ValueError(f"batch_size {self.batch_size} answers is no multiple of group {self.group}")
        if self.min_valid > self.group:
            raise ValueError(f"min_valid {self.min_valid} is more than a group of {self.group} can have")
        return self

    def grpo_arguments(self, folder: str, processes: int) -> dict[str, Any]:
        """TRL's `GRPOConfig`."""
        arguments = {
            **self.common_arguments(folder, processes),
            "num_generations": self.group,
            "max_completion_length": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": 0,
            "beta": self.beta,
            "num_iterations": self.iterations,
            "epsilon": self.clip,
            "loss_type": self.loss,
            "scale_rewards": self.scale_rewards,
            "mask_truncated_completions": self.mask_truncated,
        }
        if self.vllm is not None:
            arguments |= {
                "use_vllm": True,
                "vllm_mode": self.vllm.mode,
                "vllm_gpu_memory_utilization": self.vllm.gpu_memory,
                "vllm_tensor_parallel_size": self.vllm.tensor_parallel,
                "vllm_server_base_url": self.vllm.base_url,
                "vllm_max_model_length": self.vllm.max_model_length,
                "vllm_enable_sleep_mode": self.vllm.sleep,
            }
        return arguments


def sdg30k() -> GrpoConfig:
    """The paper's: 8 answers, temperature 1.0, top-p 0.85, lr 5e-6, β 0.01, ≤ 4,096 new tokens, 2 epochs."""
    return GrpoConfig(
        recipe="sdg30k",
        learning_rate=5e-6,
        epochs=2,
        batch_size=128,
        micro_batch=4,
        save_every=50,
        eval_every=100,
        eval_limit=512,
        eval_max_tokens=4096,
        log_every=1,
        guard=GuardSettings(window=20),
    )


def mini() -> GrpoConfig:
    """The toy Qwen3-VL on two cores: 32 questions a step (fewer are too noisy to learn from), short answers."""
    return GrpoConfig(
        recipe="mini",
        template=DETECT_SHORT,
        freeze_vision=False,
        learning_rate=5e-5,
        max_steps=60,
        batch_size=256,
        micro_batch=64,
        max_new_tokens=320,
        max_prompt_tokens=512,
        precision="fp32",
        checkpointing=False,
        device="cpu",
        held_out=0.05,
        log_every=1,
        save_every=20,
        eval_every=20,
        eval_limit=500,
        eval_batch=50,
        eval_max_tokens=512,
        workers=0,
        guard=GuardSettings(window=20),
    )


RECIPES = {"sdg30k": sdg30k, "mini": mini}
