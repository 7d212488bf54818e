"""Supervised training of a doctor, stage 1 and stage 2: the detector's trainer with maps in the loss.

The loss is the text's cross entropy plus λ · the mean squared error of both maps, a mean over the images of the whole
batch. The maps come out of the same forward pass as the text's loss. Everything else (order of samples, checkpoints,
resumption, curves) is `trainers.detector.sft_trainer`'s.
"""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from trl import SFTConfig as TrlSftConfig
from trl.trainer.utils import FusedCausalLMOutput

from exports.dataset.image_extras import scores_of
from sdg_data.errors import ConfigError
from sdg_data.processes import world_size
from trainers.detector.callbacks import DetectorTrainerMixin, RunReporter
from trainers.detector.data import TrainingRow, read_training_data
from trainers.detector.loading import trainable
from trainers.detector.notes import detector_note, run_note
from trainers.detector.run_folder import DetectorRunFolder
from trainers.detector.sft_trainer import DetectorSFTTrainer, check_size, in_run_folder, run
from trainers.doctor.asking import DoctorPrediction, ask_rows
from trainers.doctor.chat import DoctorChat
from trainers.doctor.data import DoctorCollator, DoctorItems, keep_scored, true_maps
from trainers.doctor.evaluation import DoctorTruth, doctor_figures
from trainers.doctor.form import doctor_template
from trainers.doctor.loading import adapter_of, load_doctor
from trainers.doctor.model import KINDS
from trainers.doctor.train_config import DoctorConfig, DoctorSftConfig, FormSettings


@dataclass
class FusedOutput(FusedCausalLMOutput):
    """TRL's output of its fused forward, with the maps of the task tokens in the batch (`DoctorOutput.maps`)."""

    maps: Any = None


class DoctorReporter(RunReporter):
    """The detector's reporter, with a doctor's figures in its lines."""

    def evaluated(self, numbers: dict[str, float]) -> str:
        """An evaluation's figures in a line."""
        names = ("plcc/average", "srcc/average", "cc/artifact", "cc/misalignment", "form_rate")
        return ", ".join(f"{name} {numbers[f'eval_{name}']:.3f}" for name in names if f"eval_{name}" in numbers)


class DoctorTrainerMixin(DetectorTrainerMixin):
    """Evaluation of a doctor in place of a detector's, and a model folder that says how it is asked."""

    chat: DoctorChat
    config: DoctorConfig

    def answered(self, model: Any, rows: list[TrainingRow]) -> list[Any]:
        """Greedy answers with their maps."""
        settings = self.config.evaluation
        return ask_rows(
            model, self.chat, self.table, rows, batch=settings.eval_batch, max_tokens=settings.eval_max_tokens
        )

    def measured(self, predictions: list[Any], *, resamples: int) -> dict[str, Any]:
        """The figures of the held-out answers; a doctor's have no intervals."""
        answers: list[DoctorPrediction] = predictions
        form = self.config.form
        return {"figures": doctor_figures(self.truths(), answers, maps=form.maps, look=form.look)}

    def truths(self) -> list[DoctorTruth]:
        """What is true of the held-out rows, the maps in the shape that the decoder gives."""
        trainer: Any = self
        scale = decoder_of(trainer.accelerator.unwrap_model(trainer.model)).shape.scale
        truths = []
        for row in self.held_out:
            maps = true_maps(self.table, row, self.chat.map_shape(row.size, scale)).double().numpy()
            by_kind = dict(zip(KINDS, maps, strict=True))
            truths.append(DoctorTruth(row.key, scores_of(self.table.sample(row.place)), by_kind, row.defects))
        return truths

    def create_optimizer(self, model: Any = None) -> Any:
        """Make the optimizer as a detector's training does.

        Returns:
            The trainer's `optimizer`.

        Raises:
            ConfigError: An adapter of a model that is divided among devices: merging it needs whole matrices.
        """
        trainer: Any = self
        if self.config.model.lora is not None and trainer.is_fsdp_enabled:
            raise ConfigError(
                "a doctor's adapter is merged at the end, which needs whole matrices, and FSDP divides them",
                hint="--config_file configs/accelerate/ddp.yaml; or without --lora.",
            )
        return super().create_optimizer(model)

    def save_final(self, folder: str) -> None:
        """Write a whole doctor: an adapter is merged into its base. Of several processes one writes."""
        trainer: Any = self
        model = trainer.accelerator.unwrap_model(trainer.model)
        if hasattr(model, "merge_and_unload"):
            trainer.model = model.merge_and_unload()
            if trainer.is_world_process_zero():
                trainer.model.save_pretrained(folder)
            return
        super().save_final(folder)

    def model_note(self, note: dict[str, Any]) -> dict[str, Any]:
        """A detector's note with the form of the answers."""
        form = {**self.config.form.model_dump(), "max_side": self.config.data.max_side}
        return {**detector_note(note), "trace": self.config.form.think, "form": form}

    def _picture(self, rows: list[TrainingRow], predictions: list[Any], step: int) -> None:
        from trainers.doctor.sheet import draw_maps

        image = draw_maps(self.chat, self.table, rows, self.truths()[: len(rows)], predictions[: len(rows)])
        image.save(self.folder.samples / f"step-{step:06d}.png")


class DoctorSFTTrainer(DoctorTrainerMixin, DetectorSFTTrainer):
    """The detector's trainer, with λ · the maps' squared error in the loss."""

    def __init__(self, *, config: DoctorSftConfig, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self._weight = config.heatmaps.weight
        self._images = config.optimizer.batch_size
        self._doctor = doctor_in(self.model)
        give_maps(self._doctor)
        if config.model.lora is not None:
            # peft's wrapper of the task tokens' rows has no bias, and TRL's fused forward asks the head for one.
            self._doctor.get_output_embeddings().bias = None

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss, and that of the maps where the batch brings true ones."""
        truth = inputs.pop("true_maps", None)
        if truth is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = super().compute_loss(model, {**inputs, "maps": True}, False, num_items_in_batch)
        heat = maps_loss(self._doctor.drawn, truth) * (self.accelerator.num_processes / self._images)
        self._doctor.drawn = []
        mean = self.accelerator.gather_for_metrics(heat.detach()).mean() * (self._images / (2 * len(truth)))
        self._metrics["train"]["heatmap_mse"].append((mean / self.accelerator.num_processes).item())
        return loss + self._weight * heat


def maps_loss(drawn: list[tuple[int, int, torch.Tensor]], truth: list[torch.Tensor]) -> torch.Tensor:
    """The sum over a batch's images and both types of the maps' mean squared error.

    Args:
        drawn: (row, number of the type, (H, W)) of each map.
        truth: (2, H, W) of each image.

    Returns:
        A number with a gradient.
    """
    errors = [functional.mse_loss(heat.float(), truth[row][kind].to(heat.device).float()) for row, kind, heat in drawn]
    return torch.stack(errors).sum()


def give_maps(doctor: Any) -> None:
    """Let the forward that TRL gave a doctor take `maps`, and keep what it draws in `drawn`: call it after TRL's."""
    fused = doctor.forward

    @functools.wraps(type(doctor).forward)
    def forward(self: Any, *args: Any, maps: bool = False, **kwargs: Any) -> Any:
        if not maps:
            return fused(*args, **kwargs)
        output = self.with_maps(fused, *args, **kwargs)
        self.drawn = output.maps
        return FusedOutput(**output.inner, maps=[heat for _, _, heat in output.maps])

    doctor.drawn = []
    doctor.forward = types.MethodType(forward, doctor)


def doctor_in(model: Any) -> Any:
    """The doctor itself, of one that is wrapped by peft or not."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_of(model: Any) -> Any:
    """The heatmap decoder of a doctor, of one that is wrapped by peft or not."""
    return doctor_in(model).heatmap


def doctor_chat(processor: Any, family: str, form: FormSettings, max_side: int) -> DoctorChat:
    """How a doctor with that form of answers is asked."""
    template = doctor_template(form.answer, short=form.short)
    return DoctorChat(processor, template, family, max_side, form.think, form.answer)


def train_doctor(
    config: DoctorSftConfig, *, data: str, model: str, out: Path, limit: int | None = None
) -> dict[str, Any]:
    """Train a doctor, or go on where the training stopped.

    Arguments, result and errors are those of `trainers.detector.sft_trainer.train_sft`.

    Returns:
        The model's folder and its evaluation.
    """
    return in_run_folder(out, lambda folder: _train(config, folder, data=data, model=model, limit=limit))


def _train(
    config: DoctorSftConfig, folder: DetectorRunFolder, *, data: str, model: str, limit: int | None
) -> dict[str, Any]:
    settings, heat = config.data, config.heatmaps
    doctor, processor, family = load_doctor(model, config.model, heat.shape, seed=config.seed, weight=heat.weight)
    if not config.form.maps:
        doctor.heatmap.requires_grad_(False)
    chat = doctor_chat(processor, family, config.form, settings.max_side)
    samples = read_training_data(
        data, chat, max_tokens=settings.max_tokens, held_out=settings.held_out, seed=config.seed, limit=limit
    )
    keep_scored(samples)
    check_size(samples, config)
    reporter = DoctorReporter(folder)
    scale = doctor.heatmap.shape.scale if config.form.maps else None
    trainer = DoctorSFTTrainer(
        items=DoctorItems(samples.table, samples.train, chat, scale),
        config=config,
        model=doctor,
        args=TrlSftConfig(**config.common_arguments(str(folder.checkpoints), world_size()), max_length=None),
        data_collator=DoctorCollator(chat, jitter=settings.jitter, seed=config.seed),
        processing_class=processor,
        peft_config=adapter_of(doctor, config.model, decoder=config.form.maps),
        callbacks=[reporter],
    )
    trainer.prepare_evaluation(chat, samples.table, samples.held_out, config, folder)
    note = run_note(config, samples, chat, model=model, data=data, counts=trainable(trainer.model))
    return run(trainer, folder, note, reporter)
