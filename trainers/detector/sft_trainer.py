"""Supervised fine-tuning of a detector on TRL's `SFTTrainer`: our batches, SDG-Eval, exact resumption.

What this leaves to TRL, transformers, accelerate and peft: the loss (token NLL, fused head), mixed precision, sharding
(FSDP2, DeepSpeed, by `accelerate launch --config_file configs/accelerate/…`), adapters, checkpoints.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # tokenizers warn and stall in forked workers otherwise

import datasets
from torch.utils.data import Sampler
from transformers import PrinterCallback
from trl import SFTConfig as TrlSftConfig
from trl import SFTTrainer

from annotate.vlm.qwen.processors import save_processor
from sdg_data.errors import InputError, Interrupted
from sdg_data.processes import world_size
from sdg_data.prompt_templates import load_template
from trainers.common.run_folder import write_json
from trainers.common.sharded import gather_output_layer
from trainers.detector.batches import EpochItems, EpochSampler, SftCollator
from trainers.detector.callbacks import DetectorTrainerMixin, RunReporter, tensorboard
from trainers.detector.chat import Chat
from trainers.detector.data import TrainingData, TrainingRow, read_training_data
from trainers.detector.half import halve
from trainers.detector.loading import load_detector, lora_config, trainable, write_detector_file
from trainers.detector.mini.answer_loss import AnswerLoss, LastHidden
from trainers.detector.mini.heads import MiniHeads
from trainers.detector.mini.help import PATCHES, WRONG, MiniCollator, with_variants
from trainers.detector.notes import run_note
from trainers.detector.run_folder import DetectorRunFolder
from trainers.detector.sft_config import SftConfig
from trainers.detector.train_config import TrainConfig

log = logging.getLogger(__name__)

_HEADS = "mini_heads"
"""The attribute of a model by which the toy detector's heads are saved in checkpoints."""
# TRL looks at its first row to learn that there are images; the rows themselves come from `EpochItems`.
_PLACEHOLDER = {"images": [[]], "prompt": ["?"], "completion": ["!"]}


class DetectorSFTTrainer(DetectorTrainerMixin, SFTTrainer):
    """TRL's trainer on `EpochItems`, in the order of `EpochSampler`."""

    def __init__(self, *, items: EpochItems, config: SftConfig, **kwargs: Any) -> None:
        placeholder = datasets.Dataset.from_dict(_PLACEHOLDER)
        super().__init__(train_dataset=placeholder, eval_dataset=placeholder, **kwargs)
        self.train_dataset = items
        self._config = config
        gather_output_layer(self.model)
        # Qwen-VL's classes say no, so the loss would be a mean of micro-batches' means; TRL's loss takes the number of
        # tokens of the whole batch, and every token weighs the same however the batch is divided.
        self.model_accepts_loss_kwargs = True

    def help_with(self, answer_loss: AnswerLoss, heads: MiniHeads | None) -> None:
        """Train the toy detector by its own loss, and by heads, which checkpoints keep and the finished model does not.

        Args:
            answer_loss: of the answers.
            heads: None: there are none.
        """
        self._answer_loss, self._hidden = answer_loss, LastHidden(self.model)
        if heads is not None:
            self.model.add_module(_HEADS, heads)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss of the answers; for the toy detector with help its own, and that of its heads where it has some.

        Returns:
            The loss.
        """
        if PATCHES not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        assert self._config.mini is not None
        patches, wrong, labels = (inputs.pop(name) for name in (PATCHES, WRONG, "labels"))
        model(**inputs, logits_to_keep=1)  # the output layer's own work is that of the answer's loss
        whole = self.accelerator.unwrap_model(model)
        answers, _ = self._answer_loss(self._hidden.states, inputs["input_ids"], labels, whole.lm_head)
        # All is of this micro-batch; gradients of micro-batches are added, those of processes averaged.
        processes = self.accelerator.num_processes
        loss = answers * processes / num_items_in_batch
        if not self._config.mini.heads:
            return loss
        mean = getattr(whole, _HEADS).loss(inputs | {"labels": labels}, patches, wrong)
        share = len(labels) * processes / self._config.optimizer.batch_size
        return loss + self._config.mini.heads * share * mean

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as the trainer does; in a checkpoint with the heads, else without them."""
        if not _internal_call and hasattr(self.model, _HEADS):
            delattr(self.model, _HEADS)
        super().save_model(output_dir, _internal_call)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows: list[TrainingRow] = list(self.train_dataset.rows)
        return EpochSampler(
            [row.tokens for row in rows],
            batch=self._config.optimizer.batch_size,
            seed=self._config.seed,
            # Not by `set_epoch`: accelerate does not hand it on to the sampler of a resumed run in several processes.
            epoch=lambda: int(self.state.epoch or 0),
        )


def train_sft(config: SftConfig, *, data: str, model: str, out: Path, limit: int | None = None) -> dict[str, Any]:
    """Train a detector by supervised fine-tuning, or go on where the training stopped.

    Unusable data raises `InputError`, an unusable model `ModelError`, a folder of another run `ConfigError`, a folder
    where another training is at work `StoreLocked`, and Ctrl-C `Interrupted`.

    Args:
        config: the training's.
        data: shards, an export's folder or URL.
        model: the base, a folder or a hub repository.
        out: the run's folder (`DetectorRunFolder`).
        limit: only so many samples, for a trial.

    Returns:
        The model's folder and its evaluation, as `summary` gives them.
    """
    return in_run_folder(out, lambda folder: _train_sft(config, folder, data=data, model=model, limit=limit))


def in_run_folder(out: Path, train: Callable[[DetectorRunFolder], dict[str, Any]]) -> dict[str, Any]:
    """Train in a folder that nobody else uses meanwhile; where its run has ended, only say how.

    Args:
        out: the folder.
        train: the training, which returns what `summary` does.

    Returns:
        See `summary`.
    """
    folder = DetectorRunFolder(out)
    if folder.finished:
        log.info("%s has ended already", out)
        return summary(folder)
    with folder.held():
        return train(folder)


def _train_sft(
    config: SftConfig, folder: DetectorRunFolder, *, data: str, model: str, limit: int | None
) -> dict[str, Any]:
    """As `train_sft`, in a folder that is held."""
    detector, processor, family = load_detector(model, config)
    chat = Chat(processor, load_template(config.data.template), family, config.data.max_side, config.data.trace)
    samples = read_training_data(
        data, chat, max_tokens=config.data.max_tokens, held_out=config.data.held_out, seed=config.seed, limit=limit
    )
    collator = SftCollator(chat, jitter=config.data.jitter, seed=config.seed)
    if config.mini:
        samples = with_variants(samples, chat, config.mini, max_tokens=config.data.max_tokens, seed=config.seed)
        collator = MiniCollator(chat, jitter=config.data.jitter, seed=config.seed)
    check_size(samples, config)
    arguments = TrlSftConfig(**config.common_arguments(str(folder.checkpoints), world_size()), max_length=None)
    reporter = RunReporter(folder)
    trainer = DetectorSFTTrainer(
        items=EpochItems(samples.table, samples.train),
        config=config,
        model=detector,
        args=arguments,
        data_collator=collator,
        processing_class=processor,
        peft_config=lora_config(config.model.lora, freeze_vision=config.model.freeze_vision),
        callbacks=[reporter],
    )
    trainer.prepare_evaluation(chat, samples.table, samples.held_out, config, folder)
    note = run_note(config, samples, chat, model=model, data=data, counts=trainable(trainer.model))
    if config.mini:
        answer_loss = AnswerLoss(processor.tokenizer, config.mini.smoothing, config.mini.coordinate_weight)
        trainer.help_with(answer_loss, MiniHeads(detector) if config.mini.heads else None)
    return run(trainer, folder, note, reporter)


def run(
    trainer: Any,
    folder: DetectorRunFolder,
    note: dict[str, Any],
    reporter: RunReporter,
    *,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train with a prepared trainer from the last whole checkpoint, and leave the best model behind.

    Args:
        trainer: a `DetectorTrainerMixin` with its evaluation prepared.
        folder: the run's.
        note: what `run.json` says.
        reporter: the trainer's callback.
        check: called when the training ends or stops; it may raise.

    Returns:
        See `summary`.

    Raises:
        Interrupted: it was asked to stop, and did so with a checkpoint.
    """
    config: TrainConfig = trainer.config
    if trainer.is_world_process_zero():
        folder.claim(note, type(config))
    trainer.accelerator.wait_for_everyone()
    last = folder.last_checkpoint() if trainer.is_world_process_zero() else None
    trainer.accelerator.wait_for_everyone()
    last = last or folder.last_checkpoint()
    trainer.remove_callback(PrinterCallback)  # it prints to stdout, which is for results
    step = 0 if last is None else int(last.name.partition("-")[2])
    if config.saving.report == "tensorboard" and trainer.is_world_process_zero():
        trainer.add_callback(tensorboard(folder.tensorboard, step))
    if last is not None:
        log.info("going on from step %d", step)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    check()
    if reporter.stopped and trainer.state.global_step < trainer.state.max_steps:
        raise Interrupted("stopped; the same command goes on from here", item=str(folder.root))
    finish(trainer, folder, note)
    return summary(folder)


def finish(trainer: Any, folder: DetectorRunFolder, note: dict[str, Any]) -> None:
    """Write the best checkpoint's weights and their evaluation; `model/` appears whole or not at all."""
    state = trainer.state
    # A best score of 0 chose nothing: it is the first evaluation's.
    is_chosen = state.best_model_checkpoint is not None and (state.best_metric or 0) > 0
    if is_chosen and state.best_global_step != state.global_step:
        trainer._load_best_model()
    evaluation: dict[str, Any] = {}
    if trainer.held_out:
        evaluation = {
            "what": "held-out part of the train split",
            "step": state.best_global_step if is_chosen else state.global_step,
            **trainer.measured(trainer.answers(), resamples=1000),
        }
    temporary = folder.root / "model.tmp"
    trainer.save_final(str(temporary))
    if trainer.is_world_process_zero():
        if trainer.config.model.precision == "bf16" and trainer.config.model.lora is None:
            halve(temporary)
        base = Path(note["base"]["model"])
        save_processor(trainer.chat.processor, temporary, base=base if base.is_dir() else None)
        (temporary / "training_args.bin").unlink(missing_ok=True)
        write_detector_file(temporary, trainer.model_note(note))
        if evaluation:
            write_json(folder.evaluation, evaluation)
        temporary.rename(folder.model)
    trainer.accelerator.wait_for_everyone()


def summary(folder: DetectorRunFolder) -> dict[str, Any]:
    """The result of a run that has ended: `model`, its folder, and `evaluation`, the figures on the held-out part."""
    result: dict[str, Any] = {"model": str(folder.model)}
    if folder.evaluation.is_file():
        result["evaluation"] = json.loads(folder.evaluation.read_text(encoding="utf-8"))["figures"]
    return result


def check_size(samples: TrainingData, config: TrainConfig, *, each: int = 1) -> None:
    """Check that there are enough samples for a step, and some to evaluate on.

    Args:
        samples: what is trained and held out.
        config: the training's.
        each: places of a batch that a sample fills: the group's size for GRPO.

    Raises:
        InputError: too few samples for a batch, or none held out though some should be.
    """
    batch_size = config.optimizer.batch_size
    if len(samples.train) * each < batch_size:
        raise InputError(
            f"{len(samples.train)} samples do not fill a batch of {batch_size}",
            hint="More data, or --set optimizer.batch_size=N.",
        )
    if config.data.held_out and not samples.held_out:
        raise InputError(
            "no prompt fell into the held-out part", hint="More data, or --set data.held_out=0.2 (0: no evaluation)."
        )
