"""GRPO of a detector on TRL's `GRPOTrainer`: the composite reward, filters of groups, SDG-Eval, a guard.

What this leaves to TRL: rollouts (transformers or vLLM), advantages within groups, the clipped objective and its KL,
sharding. Killed runs go on from their last checkpoint as those of `sft_trainer` do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import torch
from torch.utils.data import Dataset, Sampler
from trl import GRPOConfig as TrlGrpoConfig
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from annotate.vlm.generating import messages
from annotate.vlm.qwen.attention import batch_equal_images
from exports.read.shard_table import ShardTable
from sdg_data.errors import MissingDependency, ModelError
from sdg_data.metrics.similarity import similarity_named
from sdg_data.processes import world_size
from sdg_data.prompt_templates import load_template
from trainers.common.sharded import gather_output_layer
from trainers.detector.callbacks import DetectorTrainerMixin, RunReporter
from trainers.detector.chat import Chat
from trainers.detector.data import TrainingRow, read_training_data
from trainers.detector.grpo_config import GrpoConfig
from trainers.detector.guard import CollapseGuard
from trainers.detector.loading import load_detector, lora_config, trainable
from trainers.detector.notes import run_note
from trainers.detector.reward_logging import AnswersReward, CompositeReward
from trainers.detector.run_folder import DetectorRunFolder
from trainers.detector.sft_trainer import check_size, in_run_folder, run


class RolloutItems(Dataset[dict[str, Any]]):
    """Questions with their images, and what the reward compares the answers with."""

    def __init__(self, table: ShardTable, rows: list[TrainingRow], chat: Chat) -> None:
        self.table, self.rows, self.chat = table, rows, chat

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = self.rows[number]
        question = self.chat.question(row.prompt, row.size)
        return {
            "prompt": messages(question),
            "images": [self.chat.picture(self.table.image(row.place))],
            "key": row.key,
            "ground_truth": row.defects,
            "size": question.image.size,
        }


class EpochRepeatSampler(RepeatSampler):
    """TRL's sampler with an order that is a function of (seed, epoch), so that a resumed run finds its place."""

    def __init__(self, *, epoch: Callable[[], int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed((self.seed << 20) + self._epoch())
        yield from super().__iter__()


class DetectorGRPOTrainer(DetectorTrainerMixin, GRPOTrainer):
    """TRL's GRPO trainer on the questions of `RolloutItems`; groups that teach nothing are left out of the loss."""

    def __init__(self, *, items: RolloutItems, reward: AnswersReward, config: GrpoConfig, **kwargs: Any) -> None:
        placeholder = datasets.Dataset.from_dict({"prompt": ["?"] * max(len(items), config.optimizer.batch_size)})
        super().__init__(reward_funcs=[reward], train_dataset=placeholder, eval_dataset=placeholder, **kwargs)
        self.train_dataset = items
        gather_output_layer(self.model)
        self.reward = reward
        self._config = config
        self._rewarded = 0.0
        if self.ref_model is not None and self.ref_model.config.model_type.startswith("qwen3_vl"):
            batch_equal_images(self.ref_model)

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        return EpochRepeatSampler(
            epoch=lambda: int(self.state.epoch or 0),
            data_source=self.train_dataset,
            mini_repeat_count=self.num_generations,
            batch_size=self.args.generation_batch_size // self.num_generations,
            repeat_count=self.num_iterations * self.args.steps_per_generation,
            shuffle=True,
            seed=self.args.seed,
        )

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        keep = kept_groups(
            self.accelerator.gather(output["advantages"]),
            self.accelerator.gather(torch.tensor(self.reward.valid, device=output["advantages"].device)),
            group=self.num_generations,
            zero_std=self._config.objective.group_filter == "zero-std",
            min_valid=self._config.objective.min_valid,
        )
        self._metrics["train"]["groups_left_out"].append(1 - keep.float().mean().item())
        if not bool(keep.all()):
            count = len(inputs)
            mine = keep[self.accelerator.process_index * count :][:count]
            output["completion_mask"] = output["completion_mask"] * mine[:, None]
            output["num_items_in_batch"] = self.accelerator.gather(output["completion_mask"].sum()).sum()
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as the trainer does, with the share of the time that the reward took, without its embedding."""
        spent, self._rewarded = self.reward.seconds - self._rewarded, self.reward.seconds
        if spent and "loss" in logs:
            logs["reward_share"] = spent / max(self.elapsed, 1e-9)
        super().log(logs, start_time)


def kept_groups(
    advantages: torch.Tensor, valid: torch.Tensor, *, group: int, zero_std: bool, min_valid: int
) -> torch.Tensor:
    """Which answers stay in the loss.

    Args:
        advantages: (n,), of all processes, a group after the other.
        valid: (n,), whether the answer has a valid form.
        group: answers of a group.
        zero_std: leave out a group whose advantages are all 0, because its rewards are equal.
        min_valid: leave out a group with fewer valid answers.

    Returns:
        (n,), bool, the same for all answers of a group.
    """
    keep = torch.ones(len(advantages) // group, dtype=torch.bool, device=advantages.device)
    if zero_std:
        keep &= (advantages.view(-1, group) != 0).any(dim=1)
    if min_valid:
        keep &= valid.view(-1, group).sum(dim=1) >= min_valid
    return keep.repeat_interleave(group)


def train_grpo(config: GrpoConfig, *, data: str, model: str, out: Path, limit: int | None = None) -> dict[str, Any]:
    """Train, or go on where it stopped; arguments and result are those of `sft_trainer.train_sft`.

    Returns:
        The model's folder and its evaluation. Errors are those of `train_sft`; also ModelError where the guard found
        the training collapsed, MissingDependency for rollouts by vLLM without vLLM.
    """
    return in_run_folder(out, lambda folder: _train_grpo(config, folder, data=data, model=model, limit=limit))


def _train_grpo(
    config: GrpoConfig, folder: DetectorRunFolder, *, data: str, model: str, limit: int | None
) -> dict[str, Any]:
    """As `train_grpo`, in a folder that is held.

    Returns:
        As `train_grpo`.

    Raises:
        MissingDependency: rollouts by vLLM without vLLM.
    """
    detector, processor, family = load_detector(model, config)
    chat = Chat(processor, load_template(config.data.template), family, config.data.max_side, config.data.trace)
    samples = read_training_data(
        data,
        chat,
        max_tokens=config.data.max_prompt_tokens,
        held_out=config.data.held_out,
        seed=config.seed,
        limit=limit,
        questions_only=True,
    )
    check_size(samples, config, each=config.answers.group)
    reporter = RunReporter(folder)
    guard = None if config.guard is None else CollapseGuard(config.guard)
    reward = CompositeReward(
        similarity_named(config.evaluation.similarity),
        family=family,
        require_trace=config.data.trace,
        require_overlap=config.objective.require_overlap,
    )
    try:
        trainer = DetectorGRPOTrainer(
            items=RolloutItems(samples.table, samples.train, chat),
            reward=reward,
            config=config,
            model=detector,
            args=TrlGrpoConfig(**config.grpo_arguments(str(folder.checkpoints), world_size())),
            processing_class=processor,
            peft_config=lora_config(config.model.lora, freeze_vision=config.model.freeze_vision),
            callbacks=[reporter] if guard is None else [reporter, guard],
        )
    except ImportError as error:
        raise MissingDependency(
            f"vLLM in the training's own processes needs it ({error})",
            hint="Rather as a server in a venv of its own: `sdg serve vllm install`, then `sdg serve vllm start "
            "--kind rollout`, and --set answers.vllm.mode=server here. In this venv only vllm 0.30.0 fits, without the "
            "extras that need FastAPI.",
        ) from error
    trainer.prepare_evaluation(chat, samples.table, samples.held_out, config, folder)
    note = run_note(config, samples, chat, model=model, data=data, counts=trainable(trainer.model))
    return run(trainer, folder, note, reporter, check=lambda: stop_if_collapsed(guard, folder))


def stop_if_collapsed(guard: CollapseGuard | None, folder: DetectorRunFolder) -> None:
    """End a training that a guard has found collapsed.

    Raises:
        ModelError: It has.
    """
    if guard is not None and guard.verdict is not None:
        raise ModelError(
            f"the training has collapsed: {guard.verdict}",
            item=str(folder.root),
            hint="Look at log.jsonl; a smaller --set optimizer.learning_rate=… or a larger "
            "--set objective.beta=… holds the model closer to its start.",
        )
