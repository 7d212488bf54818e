"""What happens around the steps of a training: lines on stderr, the log, pictures, a clean stop, SDG-Eval.

`RunReporter` is a callback of the trainer; `DetectorTrainerMixin` changes methods of TRL's trainers, so it stands
before them among a class's bases.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from transformers import TrainerCallback
from trl.models.utils import unwrap_model_for_generation

from annotate.vlm.generating import padding_on_the_left
from exports.read.shard_table import ShardTable
from schemas.defect import DEFECT_TYPES
from sdg_data.errors import ConfigError
from sdg_data.work import StopRequest
from trainers.common.checksums import write_checksums
from trainers.common.muon import Muon, hidden_matrices
from trainers.common.sharded import plain_names, without_copies
from trainers.detector.chat import Chat
from trainers.detector.data import TrainingRow
from trainers.detector.evaluation import SCORE, answer_rows, draw, figures, measure
from trainers.detector.notes import detector_note
from trainers.detector.run_folder import CHECKSUMS, DetectorRunFolder
from trainers.detector.train_config import TrainConfig

log = logging.getLogger(__name__)

_IN_LINE = ("loss", "reward", "kl", "grad_norm", "learning_rate", "data_wait_share")


class RunReporter(TrainerCallback):
    """Writes lines and the log file, and stops on Ctrl-C or SIGTERM at the end of a step, with a checkpoint.

    Each checkpoint comes with a log entry, so a resumed run averages over the same steps as an unbroken one.
    """

    def __init__(self, folder: DetectorRunFolder) -> None:
        self._folder = folder
        self._stop = StopRequest("stopping at the end of this step, with a checkpoint; once more stops at once")
        self._started = 0.0
        self._first = 0

    @property
    def stopped(self) -> bool:
        """Whether somebody asked for the training to stop, by Ctrl-C or a signal."""
        return self._stop.asked

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take over the signals; forget what the log says beyond the step that is resumed."""
        self._started, self._first = time.monotonic(), state.global_step
        if state.is_world_process_zero:
            self._folder.trim_log(state.global_step)
        self._stop.listen()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the process's earlier signal handlers back."""
        self._stop.restore()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Stop all processes where one was asked to; log at each checkpoint.

        Returns:
            The trainer's control.
        """
        if _on_any_process(self._stop.asked, args.world_size):
            self._stop.ask()
            control.should_training_stop = control.should_save = True
        if control.should_save:
            control.should_log = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the checksums of the checkpoint; other processes may still be writing their random states."""
        folder = self._folder.checkpoints / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            files = [path for path in folder.iterdir() if path.is_file()]
            if args.world_size > 1:
                files = [path for path in files if not path.name.startswith("rng_state")]
            write_checksums(folder / CHECKSUMS, files)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Append the figures to `log.jsonl`, and log a line of progress; only in the main process."""
        if not state.is_world_process_zero or not logs:
            return
        numbers = {name: value for name, value in logs.items() if isinstance(value, int | float)}
        self._folder.append_log({"step": state.global_step, **numbers})
        if f"eval_{SCORE}" in numbers:
            log.info("step %d: %s", state.global_step, self.evaluated(numbers))
        elif any(name in numbers for name in ("loss", "reward")):
            done = state.global_step - self._first
            pace = (time.monotonic() - self._started) / max(done, 1)
            left = pace * (state.max_steps - state.global_step)
            line = ", ".join(f"{name} {numbers[name]:.4g}" for name in _IN_LINE if name in numbers)
            log.info(
                "step %d/%d: %s; %.2f s a step, %s left", state.global_step, state.max_steps, line, pace, _time(left)
            )

    def evaluated(self, numbers: dict[str, float]) -> str:
        """An evaluation's figures in a line."""
        f1 = [numbers.get(f"eval_box_f1@0.5/{kind}", float("nan")) for kind in DEFECT_TYPES]
        form, empty = 100 * numbers["eval_format_rate"], 100 * numbers["eval_empty_rate"]
        return (
            f"BoxF1@0.5 {f1[0]:.3f} artifact, {f1[1]:.3f} misalignment; form {form:.0f} %, empty {empty:.0f} %, "
            f"{numbers['eval_boxes_per_answer']:.2f} boxes each"
        )


class DetectorTrainerMixin:
    """Changes TRL's trainers: evaluation is SDG-Eval instead of a loss, and the log says what share of time data took.

    Put it before TRL's trainer among a class's bases.
    """

    chat: Chat
    table: ShardTable
    held_out: list[TrainingRow]
    config: TrainConfig
    folder: DetectorRunFolder

    def prepare_evaluation(
        self, chat: Chat, table: ShardTable, held_out: list[TrainingRow], config: TrainConfig, folder: DetectorRunFolder
    ) -> None:
        """Hand over what evaluation needs. Call it before training."""
        limit = len(held_out) if config.evaluation.eval_limit is None else config.evaluation.eval_limit
        self.chat, self.table, self.config, self.folder = chat, table, config, folder
        self.held_out = sorted(held_out, key=lambda row: row.key)[:limit]
        self._waited, self._since = 0.0, time.perf_counter()

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator as the trainer does, with the configuration's precision.

        What `accelerate launch` was told is for trainings that say nothing themselves.
        """
        trainer: Any = self
        trainer.args.mixed_precision = "bf16" if trainer.args.bf16 else "no"
        super().create_accelerator_and_postprocess()  # type: ignore[misc]

    def create_optimizer(self, model: Any = None) -> Any:
        """Make the optimizer: the trainer's AdamW, or Muon where the configuration says so.

        Returns:
            The trainer's `optimizer`.

        Raises:
            ConfigError: Muon for a model that is divided among devices: it needs whole matrices.
        """
        trainer: Any = self
        settings = self.config.optimizer
        if settings.muon is None or trainer.optimizer is not None:
            return super().create_optimizer(model)  # type: ignore[misc]
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise ConfigError(
                "Muon needs whole matrices, and sharding divides them", hint="--set optimizer.muon=null, or DDP."
            )
        trained = [each for each in (model or trainer.model).parameters() if each.requires_grad]
        matrices = hidden_matrices(model or trainer.model)
        taken = {id(matrix) for matrix in matrices}
        trainer.optimizer = Muon(
            matrices,
            [each for each in trained if id(each) not in taken],
            muon_rate=settings.muon.learning_rate,
            adamw_rate=settings.learning_rate,
            momentum=settings.muon.momentum,
            betas=settings.adam_betas,
            weight_decay=settings.weight_decay,
        )
        return trainer.optimizer

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch batches as the trainer does, and add up the time that this takes.

        Returns:
            What the trainer's returns.
        """
        start = time.perf_counter()
        batches = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        self._waited += time.perf_counter() - start
        return batches

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as the trainer does, with the share of the time since the last entry that was spent waiting for data."""
        if self._waited:
            logs["data_wait_share"] = self._waited / max(self.elapsed, 1e-9)
        self._waited, self._since = 0.0, time.perf_counter()
        super().log(logs, start_time)  # type: ignore[misc]

    @property
    def elapsed(self) -> float:
        """Seconds since the last log entry or evaluation."""
        return time.perf_counter() - self._since

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Figures of greedy answers on the held-out rows, which all processes share. Writes the picture.

        Returns:
            The figures, each with the prefix in front.
        """
        trainer: Any = self
        predictions = self.answers()
        rows, settings = self.held_out, self.config.evaluation
        evaluation = self.measured(predictions, resamples=0)["figures"]
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in evaluation.items()}
        if trainer.is_world_process_zero() and settings.pictures:
            self._picture(rows[: settings.pictures], predictions, trainer.state.global_step)
        trainer.log(dict(metrics))
        trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, metrics)
        self._since = time.perf_counter()  # evaluation is no part of a step
        return metrics

    def measured(self, predictions: list[Any], *, resamples: int) -> dict[str, Any]:
        """What the held-out answers are worth: for a detector SDG-Eval.

        Args:
            predictions: one for each held-out row.
            resamples: of the bootstrap; 0: no intervals.

        Returns:
            `figures`, flat numbers with `score` among them, and all else that `evaluation.json` says.
        """
        similarity = self.config.evaluation.similarity
        evaluation = measure(self.held_out, predictions, similarity=similarity, resamples=resamples)
        return {"figures": figures(evaluation, predictions), **evaluation.summary}

    def answered(self, model: Any, rows: list[TrainingRow]) -> list[Any]:
        """Greedy answers of a model about rows, one for each, with the row's `key`."""
        settings = self.config.evaluation
        return answer_rows(
            model, self.chat, self.table, rows, batch=settings.eval_batch, max_tokens=settings.eval_max_tokens
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write the files of a model, or of an adapter, as the trainer does; of a sharded one all that it has."""
        trainer: Any = self
        weights = None if state_dict is None else without_copies(trainer.model, state_dict)
        with plain_names(trainer.model):
            super()._save(output_dir, weights)  # type: ignore[misc]

    def save_final(self, folder: str) -> None:
        """Write the weights that the training leaves behind."""
        trainer: Any = self
        trainer.save_model(folder)

    def model_note(self, note: dict[str, Any]) -> dict[str, Any]:
        """What the model's folder says of itself (`detector.json`), from the run's note."""
        return detector_note(note)

    def answers(self) -> list[Any]:
        """Greedy answers to the held-out rows, the same list on every process."""
        trainer: Any = self
        accelerator, rows = trainer.accelerator, self.held_out
        world, rank = accelerator.num_processes, accelerator.process_index
        # Every process asks equally often: sharded models need all of them at each forward.
        padded = rows + rows[: -len(rows) % world]
        was_training = trainer.model.training
        trainer.model.eval()
        checkpointing = trainer.args.gradient_checkpointing_kwargs
        with (
            padding_on_the_left(self.chat.processor.tokenizer),
            unwrap_model_for_generation(
                trainer.model_wrapped, accelerator, gradient_checkpointing_kwargs=checkpointing
            ) as model,
        ):
            mine = self.answered(model, padded[rank::world])
        trainer.model.train(was_training)
        everyone = gather_object(mine) if world > 1 else mine
        by_key = {prediction.key: prediction for prediction in everyone}
        return [by_key[row.key] for row in rows]

    def _picture(self, rows: list[TrainingRow], predictions: list[Any], step: int) -> None:
        image = draw(self.chat, self.table, rows, predictions[: len(rows)], title=f"Held-out samples at step {step}")
        image.save(self.folder.samples / f"step-{step:06d}.png")
        report_picture(self, "samples", np.asarray(image), step)

    def _send_telemetry(self) -> None:
        """Disable TRL's telemetry, which reports to its makers which trainer runs."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no card: TRL's would be in each checkpoint, and `sdg train detector push` writes ours."""


def report_picture(trainer: Any, name: str, pixels: Any, step: int) -> None:
    """Send a picture to wherever the curves go. `pixels`: (height, width, 3), uint8, RGB."""
    for callback in trainer.callback_handler.callbacks:
        kind = type(callback).__name__
        if kind == "TensorBoardCallback" and callback.tb_writer is not None:
            callback.tb_writer.add_image(name, pixels, step, dataformats="HWC")
        elif kind == "WandbCallback":
            callback._wandb.log({name: callback._wandb.Image(pixels)})
        elif kind == "TrackioCallback":
            callback._trackio.log({name: callback._trackio.Image(pixels)})


def tensorboard(folder: Path, step: int) -> Any:
    """The callback that writes curves into a folder; what is there of steps after `step` is replaced."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(str(folder), purge_step=step + 1 if step else None))


def _on_any_process(flag: bool, processes: int) -> bool:
    """Whether the flag is set on any process: all of them must stop at the same step."""
    if processes == 1:
        return flag
    return any(gather_object([flag]))


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
