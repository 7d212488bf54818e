"""Reinforcement learning of a doctor by GRPO: the detector's trainer with a doctor's rewards.

Every sampled answer is read again by the model in one pass, for the maps that it asks for; they are rewarded as the
text is. The decoder itself is not trained here: rewards reach the text's tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig as TrlGrpoConfig
from trl.models.utils import unwrap_model_for_generation

from annotate.vlm.generating import padding_on_the_left
from exports.dataset.image_extras import scores_of
from sdg_data.processes import world_size
from trainers.detector.callbacks import RunReporter
from trainers.detector.data import read_training_data
from trainers.detector.grpo_trainer import DetectorGRPOTrainer, RolloutItems, stop_if_collapsed
from trainers.detector.guard import CollapseGuard
from trainers.detector.loading import trainable
from trainers.detector.notes import run_note
from trainers.detector.run_folder import DetectorRunFolder
from trainers.detector.sft_trainer import check_size, in_run_folder, run
from trainers.doctor.asking import maps_of_answers
from trainers.doctor.chat import DoctorChat
from trainers.doctor.data import keep_scored, true_maps
from trainers.doctor.form import AnswerForm
from trainers.doctor.loading import adapter_of, load_doctor
from trainers.doctor.model import KINDS
from trainers.doctor.reward import RewardProtocol, doctor_reward
from trainers.doctor.sft_trainer import DoctorReporter, DoctorTrainerMixin, doctor_chat, doctor_in
from trainers.doctor.train_config import DoctorGrpoConfig


class DoctorRollouts(RolloutItems):
    """Questions with what the rewards compare the answers with: scores and maps."""

    def __init__(self, table: Any, rows: Any, chat: DoctorChat, scale: int) -> None:
        super().__init__(table, rows, chat)
        self._doctor, self._scale = chat, scale

    def __getitem__(self, number: int) -> dict[str, Any]:
        item, row = super().__getitem__(number), self.rows[number]
        shape = self._doctor.map_shape(row.size, self._scale)
        return {
            **item,
            "true_scores": scores_of(self.table.sample(row.place)),
            "true_maps": true_maps(self.table, row, shape).double().numpy(),
        }


class DoctorRewards:
    """`reward_funcs` of TRL's trainer. `drawn` has the maps of the answers that are rewarded next."""

    __name__ = "doctor"

    def __init__(self, form: AnswerForm, protocol: RewardProtocol) -> None:
        self._form, self._protocol = form, protocol
        self.drawn: list[Any] = []
        self.valid: list[bool] = []
        self.seconds = 0.0

    def __call__(
        self,
        completions: Sequence[Any],
        *,
        true_scores: Sequence[dict[str, float]],
        true_maps: Sequence[Any],
        log_metric: Callable[[str, float], None],
        **columns: Any,
    ) -> list[float]:
        """Reward answers, and log the mean of each part.

        Args:
            completions: Conversations of one message, or plain texts.
            true_scores: Of each answer's image.
            true_maps: (2, H, W) of each answer's image.
            log_metric: TRL's.
            columns: What else TRL hands over; it is not used.

        Returns:
            One reward for each answer.
        """
        texts = [
            completion if isinstance(completion, str) else str(completion[0]["content"]) for completion in completions
        ]
        drawn = self.drawn or [dict.fromkeys(KINDS)] * len(texts)
        rewards = [
            doctor_reward(
                text, maps, scores, dict(zip(KINDS, truth, strict=True)), form=self._form, protocol=self._protocol
            )
            for text, maps, scores, truth in zip(texts, drawn, true_scores, true_maps, strict=True)
        ]
        answers = [self._form.read(text) for text in texts]
        self.valid = [answer.well_formed for answer in answers]
        log_metric("format_rate", sum(self.valid) / max(len(texts), 1))
        log_metric("boxes_per_answer", sum(len(answer.regions or ()) for answer in answers) / max(len(texts), 1))
        for name in rewards[0].parts if rewards else ():
            log_metric(f"reward_{name}", sum(reward.parts[name] for reward in rewards) / len(rewards))
        return [reward.total for reward in rewards]


class DoctorGRPOTrainer(DoctorTrainerMixin, DetectorGRPOTrainer):
    """The detector's trainer, whose rewards see the maps that the answers ask for."""

    reward: DoctorRewards

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        if self.config.form.maps:
            self.reward.drawn = self._drawn(inputs, completion_ids_list)
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)

    def _drawn(self, inputs: list[dict[str, Any]], answers: list[list[int]]) -> list[Any]:
        """The maps of answers, `micro_batch` at a time; sharded weights are gathered for it, as for sampling."""
        was_training = self.model.training
        self.model.eval()
        drawn: list[Any] = []
        size = self.config.optimizer.micro_batch
        with unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
        ) as unwrapped:
            for start in range(0, len(answers), size):
                part, written = inputs[start : start + size], answers[start : start + size]
                drawn += self._maps_of(doctor_in(unwrapped), part, written)
        self.model.train(was_training)
        return drawn

    @torch.no_grad()
    def _maps_of(self, model: Any, part: list[dict[str, Any]], written: list[list[int]]) -> list[Any]:
        processor = self.chat.processor
        texts = [
            processor.apply_chat_template(item["prompt"], tokenize=False, add_generation_prompt=True) for item in part
        ]
        tokenizer = processor.tokenizer
        images = [item["images"][0] for item in part]
        with padding_on_the_left(tokenizer):
            asked = processor(text=texts, images=images, padding=True, return_tensors="pt").to(model.device)
        length = max(len(ids) for ids in written)
        tokens = torch.full((len(written), length), int(tokenizer.pad_token_id), device=model.device)
        kept = torch.zeros_like(tokens, dtype=torch.bool)
        for row, ids in enumerate(written):
            tokens[row, : len(ids)] = torch.tensor(ids, device=model.device)
            kept[row, : len(ids)] = True
        with self.accelerator.autocast():
            return maps_of_answers(model, asked, torch.cat([asked["input_ids"], tokens], dim=1), kept)


def train_doctor_by_rewards(
    config: DoctorGrpoConfig, *, data: str, model: str, out: Path, limit: int | None = None
) -> dict[str, Any]:
    """Train a doctor by reinforcement, or go on where it stopped.

    Arguments, result and errors are those of `trainers.detector.sft_trainer.train_sft`.

    Returns:
        The model's folder and its evaluation.
    """
    return in_run_folder(out, lambda folder: _train(config, folder, data=data, model=model, limit=limit))


def _train(
    config: DoctorGrpoConfig, folder: DetectorRunFolder, *, data: str, model: str, limit: int | None
) -> dict[str, Any]:
    doctor, processor, family = load_doctor(model, config.model, None, seed=config.seed)
    doctor.heatmap.requires_grad_(False)
    chat = doctor_chat(processor, family, config.form, config.data.max_side)
    samples = read_training_data(
        data,
        chat,
        max_tokens=config.data.max_prompt_tokens,
        held_out=config.data.held_out,
        seed=config.seed,
        limit=limit,
        questions_only=True,
    )
    keep_scored(samples)
    check_size(samples, config, each=config.answers.group)
    reporter: RunReporter = DoctorReporter(folder)
    guard = None if config.guard is None else CollapseGuard(config.guard)
    trainer = DoctorGRPOTrainer(
        items=DoctorRollouts(samples.table, samples.train, chat, doctor.heatmap.shape.scale),
        reward=DoctorRewards(config.form.answer, config.reward.protocol),
        config=config,
        model=doctor,
        args=TrlGrpoConfig(**config.grpo_arguments(str(folder.checkpoints), world_size())),
        processing_class=processor,
        peft_config=adapter_of(doctor, config.model, decoder=False),
        callbacks=[reporter] if guard is None else [reporter, guard],
    )
    trainer.prepare_evaluation(chat, samples.table, samples.held_out, config, folder)
    note = run_note(config, samples, chat, model=model, data=data, counts=trainable(trainer.model))
    return run(trainer, folder, note, reporter, check=lambda: stop_if_collapsed(guard, folder))
